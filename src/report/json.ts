// Results as JSON, with a version field. Integers that a number cannot hold exactly become decimal text.
import { RESULT_VERSION, type ScenarioResult, tallyOf } from '../scenario/result.ts';

/** The whole report, indented, ending with a line break. The same results give the same text on every machine. */
export function renderJson(results: readonly ScenarioResult[], program: { readonly version: string }): string {
  const report = { version: RESULT_VERSION, pinsim: program.version, tally: tallyOf(results), scenarios: results };
  return `${JSON.stringify(report, exactIntegers, 2)}\n`;
}

function exactIntegers(_key: string, value: unknown): unknown {
  if (typeof value !== 'bigint') return value;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value.toString();
}
