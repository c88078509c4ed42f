// Reports as JUnit XML, in the form that CI servers read: one test case per scenario, and one per case of a corpus that
// was replayed.
import type { Report } from '../scenario/search/result.ts';
import { corpusProblems, type Problem, problemsOf } from './problems.ts';

interface TestCase {
  readonly name: string;
  readonly classname: string;
  readonly file: string;
  readonly failed: boolean;
  /** Nothing can be said. */
  readonly open: boolean;
  readonly problems: readonly Problem[];
}

/** The report as XML, ending with a line break. Times are left out: results do not depend on the machine. */
export function renderJUnit(report: Report): string {
  const problems = problemsOf(report);
  const cases = [...scenarioCases(report, problems), ...corpusCases(report)];
  const count = (test: (one: (typeof cases)[number]) => boolean): number => cases.filter(test).length;
  const totals = `tests="${cases.length}" failures="${count(({ failed }) => failed)}" errors="0"`;
  const skipped = `skipped="${count(({ open }) => open)}"`;
  const lines = [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="pinsim" ${totals}>`,
    `  <testsuite name="pinsim ${report.command}" ${totals} ${skipped}>`,
  ];
  for (const { name, classname, file, failed, open, problems: own } of cases) {
    const head = `    <testcase name="${attribute(name)}" classname="${attribute(classname)}" file="${attribute(file)}"`;
    const errors = own.filter(({ level }) => level === 'error');
    if (failed) {
      const first = errors[0]?.message ?? 'not as expected';
      lines.push(
        `${head}>`,
        `      <failure message="${attribute(first)}" type="${attribute(errors[0]?.rule ?? '')}">`,
      );
      lines.push(text(errors.map(inWords).join('\n\n')), '      </failure>', '    </testcase>');
    } else if (open) {
      const first = own.find(({ level }) => level === 'warning')?.message ?? 'incomplete';
      lines.push(`${head}>`, `      <skipped message="${attribute(first)}"/>`, '    </testcase>');
    } else lines.push(`${head}/>`);
  }
  return `${[...lines, '  </testsuite>', '</testsuites>'].join('\n')}\n`;
}

function scenarioCases(report: Report, problems: readonly Problem[]): readonly TestCase[] {
  return report.scenarios.map(({ file, title, cases: all }) => {
    const own = problems.filter((problem) => problem.scenario === title && problem.place.file === file);
    const failed = all.some(({ status }) => status === 'not-as-expected');
    const open = !failed && all.some(({ status }) => status === 'incomplete');
    return { name: title, classname: file, file, failed, open, problems: own };
  });
}

/** A failure that was found before is told apart from what the campaign found: its bug has a name. */
function corpusCases(report: Report): readonly TestCase[] {
  const corpus = report.command === 'run' ? [] : (report.campaign?.corpus ?? []);
  return corpus.map((kept) => ({
    name: kept.entry,
    classname: 'corpus',
    file: kept.path,
    failed: kept.outcome === 'shows',
    open: kept.outcome === 'broken',
    problems: corpusProblems(kept),
  }));
}

function inWords({ caseName, rule, place, message, details }: Problem): string {
  const { file, line, column } = place;
  return [`${caseName}: ${rule}: ${message}`, `${file}:${line}:${column}`, ...details].join('\n');
}

const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

/** Characters that XML 1.0 cannot hold at all are left out. */
function text(value: string): string {
  return value.replace(/[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD]/g, '').replace(/[&<>"]/g, (c) => ESCAPES[c]!);
}

function attribute(value: string): string {
  return text(value).replace(/[\t\n\r]+/g, ' ');
}
