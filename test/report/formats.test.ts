// The formats for machines, made from real runs and searches: JSON fits its schema, SARIF and JUnit have the structure
// that their readers demand, annotations of GitHub are escaped.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { renderGitHub } from '../../src/report/github.ts';
import { renderReportJson, runReport, searchReport } from '../../src/report/json.ts';
import { renderJUnit } from '../../src/report/junit.ts';
import { renderSarif } from '../../src/report/sarif.ts';
import { loadScenario } from '../../src/scenario/file/load.ts';
import { FINDING_KINDS } from '../../src/scenario/finding-kinds.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import { resultJsonSchema, zReport } from '../../src/scenario/result-schema.ts';
import { runScenario } from '../../src/scenario/run.ts';
import { replayToken } from '../../src/scenario/search/replay-token.ts';
import type { RunReport, ScenarioSearch, SearchReport } from '../../src/scenario/search/result.ts';
import { CaseSearcher } from '../../src/scenario/search/search-case.ts';
import { tellFinding } from '../../src/scenario/search/tell.ts';
import { parseCaseToken } from '../../src/scenario/search/token.ts';
import { XMLParser } from './xml.ts';

const PROGRAM = { version: '9.9.9' };

const TEXT = `title: "A <race> of \\"two\\" & more, 100%"
host: {memory: {normal: 64MiB}}
memory:
  ram: {kind: anon, size: 4KiB, populate: write}
processes:
  vmm: {maps: {ram: {}}}
actors:
  writer:
    on: vmm
    do:
      - cpu.write: {memory: ram, value: B}
  reader:
    on: vmm
    do:
      - cpu.read: {memory: ram}
        shows: {value: vmm}
  late:
    on: vmm
    do:
      - wait: writer
      - cpu.read: {memory: ram}
        shows: {value: C}
reaches: [try_get_folio]
expect: {always: [deadlock]}
`;

const load = (text = TEXT, file = 'my dir/a#1.yaml') => loadScenario(file, text, OPERATIONS);

function searched(): ScenarioSearch {
  const scenario = load();
  const cases = scenario.cases.map((one) => {
    const searcher = new CaseSearcher(scenario, one, { strategy: 'dpor' });
    while (searcher.next());
    const result = searcher.result();
    const findings = result.findings.map((found) =>
      tellFinding(scenario, one, found, { shrink: 100, fixes: true, nearest: true }),
    );
    return { ...result, findings };
  });
  return { file: scenario.file, title: scenario.title, cases };
}

let run: RunReport;
let search: SearchReport;
let replay: SearchReport;

beforeAll(() => {
  const scenario = load();
  const { file, title } = scenario;
  run = runReport([{ file, title, cases: runScenario(scenario, { keepTrace: true }) }], PROGRAM);
  const found = searched();
  search = searchReport('explore', [found], PROGRAM);
  const { token } = found.cases[0]!.findings[0]!;
  const options = { shrink: 0, fixes: false, nearest: false };
  const { result } = replayToken(scenario, { ...parseCaseToken(token), digest: '00000000' }, options);
  replay = searchReport('replay', [{ file, title, cases: [result] }], PROGRAM);
}, 60_000);

describe('JSON', () => {
  it('of runs, searches and replays fits the schema to the letter', () => {
    for (const report of [run, search, replay]) {
      const { error } = zReport.safeParse(JSON.parse(renderReportJson(report)));
      expect(error?.issues ?? []).toEqual([]);
    }
  });

  it('has a schema that names its version', () => {
    const text = JSON.stringify(resultJsonSchema());
    expect(text).toContain('"title":"pinsim report"');
    expect(text).toContain('"const":1');
  });

  it('of a library story fits, too', () => {
    const file = fileURLToPath(new URL('../../scenarios/reports/memlock-q35-4gib-97-percent.yaml', import.meta.url));
    const scenario = load(readFileSync(file, 'utf8'), 'q35.yaml');
    const report = runReport([{ file: 'q35.yaml', title: scenario.title, cases: runScenario(scenario, {}) }], PROGRAM);
    expect(zReport.safeParse(JSON.parse(renderReportJson(report))).error?.issues ?? []).toEqual([]);
  });
});

describe('SARIF', () => {
  const log = (report: RunReport | SearchReport) => JSON.parse(renderSarif(report, FINDING_KINDS));

  it('has what version 2.1.0 demands', () => {
    for (const report of [run, search, replay]) {
      const sarif = log(report);
      expect(sarif.version).toBe('2.1.0');
      expect(sarif.$schema).toMatch(/sarif-schema-2\.1\.0\.json$/);
      expect(sarif.runs).toHaveLength(1);
      const [{ tool, results }] = sarif.runs;
      expect(tool.driver).toMatchObject({ name: 'pinsim', version: '9.9.9' });
      const ids = tool.driver.rules.map(({ id }: { id: string }) => id);
      expect(new Set(ids).size).toBe(ids.length);
      for (const rule of tool.driver.rules) expect(rule.shortDescription.text).not.toBe('');
      for (const result of results) {
        expect(ids[result.ruleIndex]).toBe(result.ruleId);
        expect(['error', 'warning']).toContain(result.level);
        expect(result.message.text).not.toBe('');
        const { artifactLocation, region } = result.locations[0].physicalLocation;
        expect(artifactLocation.uri).toBe('my%20dir/a%231.yaml');
        expect(region.startLine).toBeGreaterThanOrEqual(1);
        expect(region.startColumn).toBeGreaterThanOrEqual(1);
        for (const value of Object.values(result.partialFingerprints)) expect(typeof value).toBe('string');
      }
    }
  });

  it('takes no file for a URI with a scheme', () => {
    const report = JSON.parse(renderReportJson(search).replaceAll('my dir/a#1.yaml', 'a:1?.yaml')) as SearchReport;
    const [{ results }] = log(report).runs;
    expect(results[0].locations[0].physicalLocation.artifactLocation.uri).toBe('a%3A1%3F.yaml');
  });

  it("points at the actor's line in the script, or at what the case expects", () => {
    const placed = log(search).runs[0].results.map(
      ({
        ruleId,
        locations,
      }: {
        ruleId: string;
        locations: { physicalLocation: { region: { startLine: number } } }[];
      }) => [ruleId, locations[0]!.physicalLocation.region.startLine].join(' '),
    );
    expect(placed).toContain('unexpected-outcome 15');
    expect(placed).toContain('unexpected-outcome 21');
    expect(placed).toContain('missing-label 23');
    expect(placed).toContain('missing-finding 24');
    const failed = log(run).runs[0].results.filter(({ ruleId }: { ruleId: string }) => ruleId === 'failed-expectation');
    const lines = failed.map((one: typeof failed) => one.locations[0].physicalLocation.region.startLine);
    expect(lines).toEqual([15, 21]);
  });
});

describe('SARIF of what was expected', () => {
  it('has no results', () => {
    const scenario = load(`${TEXT.slice(0, TEXT.indexOf('reaches:'))}expect: {possible: [unexpected-outcome]}\n`);
    const searcher = new CaseSearcher(scenario, scenario.cases[0]!, { strategy: 'dpor' });
    while (searcher.next());
    const result = searcher.result();
    expect([result.status, result.findings.length > 0]).toEqual(['as-expected', true]);
    const { file, title } = scenario;
    const report = searchReport('explore', [{ file, title, cases: [result] }], PROGRAM);
    const [{ tool, results }] = JSON.parse(renderSarif(report, FINDING_KINDS)).runs;
    expect([results, tool.driver.rules]).toEqual([[], []]);
  });
});

describe('JUnit', () => {
  it('is well-formed and has one test case per scenario', () => {
    const other = { file: 'b.yaml', title: 'as it should be', cases: [] };
    const suites = new XMLParser(renderJUnit({ ...run, scenarios: [...run.scenarios, other] })).parse();
    expect(suites.name).toBe('testsuites');
    expect(suites.attributes).toEqual({ name: 'pinsim', tests: '2', failures: '1', errors: '0' });
    const [suite] = suites.children;
    expect(suite!.name).toBe('testsuite');
    expect(suite!.attributes).toMatchObject({ name: 'pinsim run', tests: '2', failures: '1', skipped: '0' });
    expect(suite!.children.map(({ name }) => name)).toEqual(['testcase', 'testcase']);
    const [bad, good] = suite!.children;
    expect(bad!.attributes).toMatchObject({ name: 'A <race> of "two" & more, 100%', classname: 'my dir/a#1.yaml' });
    expect(bad!.children.map(({ name }) => name)).toEqual(['failure']);
    expect(bad!.children[0]!.text).toContain('my dir/a#1.yaml:21:9');
    expect(good!.children).toEqual([]);
  });

  it('calls what is incomplete skipped', () => {
    const cases = run.scenarios[0]!.cases.map((one) => ({ ...one, status: 'incomplete' as const, limit: 'too long' }));
    const text = renderJUnit({ ...run, scenarios: [{ ...run.scenarios[0]!, cases }] });
    const skipped = new XMLParser(text).parse().children[0]!.children[0]!.children[0]!;
    expect(skipped.name).toBe('skipped');
    expect(skipped.attributes.message).toBe('stopped early: too long');
  });
});

describe('annotations of GitHub', () => {
  it('are one line each, escaped, and leave out what was expected', () => {
    const lines = renderGitHub(search).trimEnd().split('\n');
    const tally = lines.pop();
    expect(tally).toBe('1 scenario, 1 case: 0 as expected, 1 not as expected');
    expect(lines.length).toBeGreaterThanOrEqual(3);
    for (const line of lines)
      expect(line).toMatch(/^::(error|warning) file=my dir\/a#1\.yaml,line=\d+,col=\d+,title=[^:,]*%3A [^:]*::.+$/);
    expect(lines.join('\n')).toContain("%0Areplay: pinsim replay 'pinsim1 my%2520dir/a#1.yaml ");
  });
});
