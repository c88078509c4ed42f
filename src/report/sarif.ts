// Reports as SARIF 2.1.0 (OASIS), for code scanning: every result points at the line of the scenario file that it belongs
// to, and carries a fingerprint by cause, so that it is recognised when lines move.

import type { Report } from '../scenario/search/result.ts';
import { type Problem, problemsOf } from './problems.ts';

/** What a rule says, by the name of a finding kind. */
export interface RuleText {
  readonly name: string;
  readonly summary: string;
  readonly explanation: string;
}

const SCHEMA = 'https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json';

const OWN_RULES: readonly RuleText[] = [
  {
    name: 'missing-finding',
    summary: 'A finding that the scenario expects did not appear.',
    explanation: 'The scenario lists the finding under `expect`, and no run showed it (or not every one).',
  },
  {
    name: 'missing-label',
    summary: 'A step that the scenario says is reached was not reached.',
    explanation: 'The scenario lists the label under `reaches`: a pass without it would be vacuous.',
  },
  {
    name: 'failed-expectation',
    summary: 'An operation of the script ended in a way that the scenario does not allow.',
    explanation: 'An inline expectation (`expect`, `returns`, `shows`) did not hold.',
  },
  {
    name: 'incomplete',
    summary: 'A limit was reached before anything could be said.',
    explanation: 'Give the search more time or executions, or raise the bound that it names.',
  },
  {
    name: 'not-replayed',
    summary: 'A replay token does not show any more what it was kept for.',
    explanation: 'Either the bug is gone, or scenario or model have changed so that the schedule does not fit.',
  },
];

/** What is wrong in the report as SARIF, ending with a line break. `kinds`: the finding kinds that there are. */
export function renderSarif(report: Report, kinds: readonly RuleText[]): string {
  // Every result opens an alert: what was expected is none.
  const problems = problemsOf(report).filter(({ level }) => level !== 'note');
  const used = new Set(problems.map(({ rule }) => rule));
  const rules = [...kinds, ...OWN_RULES].filter(({ name }) => used.has(name));
  for (const name of used)
    if (!rules.some((rule) => rule.name === name)) rules.push({ name, summary: name, explanation: name });
  const log = {
    $schema: SCHEMA,
    version: '2.1.0',
    runs: [
      {
        tool: {
          driver: {
            name: 'pinsim',
            version: report.pinsim,
            rules: rules.map(({ name, summary, explanation }) => ({
              id: name,
              shortDescription: { text: summary },
              fullDescription: { text: explanation },
            })),
          },
        },
        columnKind: 'utf16CodeUnits',
        results: problems.map((problem) =>
          resultOf(
            problem,
            rules.findIndex(({ name }) => name === problem.rule),
          ),
        ),
      },
    ],
  };
  return `${JSON.stringify(log, null, 2)}\n`;
}

function resultOf({ level, rule, caseName, place, message, details, identity }: Problem, ruleIndex: number) {
  const { file, line, column } = place;
  return {
    ruleId: rule,
    ruleIndex,
    level,
    message: { text: [`${caseName}: ${message}`, ...details].join('\n') },
    locations: [
      {
        physicalLocation: {
          artifactLocation: { uri: uriOf(file) },
          region: { startLine: line, startColumn: column },
        },
      },
    ],
    partialFingerprints: { 'pinsimCause/v1': `${caseName}|${identity}` },
  };
}

/** A path as a URI reference. What stands before a colon would be read as its scheme (RFC 3986, section 4.2). */
function uriOf(file: string): string {
  const path = encodeURI(file.replaceAll('\\', '/')).replaceAll(/[?#:]/g, encodeURIComponent);
  return path.startsWith('/') ? `file://${path}` : path.replace(/^\.\//, '');
}
