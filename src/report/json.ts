// Reports as JSON, with a version field. Integers that a number cannot hold exactly become decimal text.
import { RESULT_VERSION, type ScenarioResult, tallyOf } from '../scenario/result.ts';
import type { Report, RunReport, ScenarioSearch, SearchCommand, SearchReport } from '../scenario/search/result.ts';

interface Program {
  readonly version: string;
}

/** The report of runs. */
export function runReport(scenarios: readonly ScenarioResult[], program: Program): RunReport {
  const tally = tallyOf(scenarios);
  return { version: RESULT_VERSION, pinsim: program.version, command: 'run', tally, scenarios };
}

/** The report of searches and replays. */
export function searchReport(
  command: SearchCommand,
  scenarios: readonly ScenarioSearch[],
  program: Program,
): SearchReport {
  return { version: RESULT_VERSION, pinsim: program.version, command, tally: tallyOf(scenarios), scenarios };
}

/** A whole report, indented, ending with a line break. The same results give the same text on every machine. */
export function renderReportJson(report: Report): string {
  return `${JSON.stringify(report, exactIntegers, 2)}\n`;
}

/** The report of runs as text. */
export function renderJson(results: readonly ScenarioResult[], program: Program): string {
  return renderReportJson(runReport(results, program));
}

function exactIntegers(_key: string, value: unknown): unknown {
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  if (typeof value !== 'bigint') return value;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value.toString();
}
