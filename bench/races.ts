// What a search needs for each race of the library: executions until the first finding that its story names, for samplers
// the median of several seeds; and where it is fixed, the executions after which that is verified.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { matchesFinding } from '../src/scenario/file/expectation.ts';
import { loadScenario } from '../src/scenario/file/load.ts';
import type { Scenario, ScenarioCase } from '../src/scenario/file/scenario.ts';
import { OPERATIONS } from '../src/scenario/operations/index.ts';
import { CaseSearcher, type SearchOptions } from '../src/scenario/search/search-case.ts';
import type { Bench } from './measure.ts';

const FOLDERS = ['scenarios/bugs', 'scenarios/hypotheses'];
const SEEDS = ['1', '2', '3', '4', '5'];
/** Executions after which a sampler gives up, and DPOR. */
const SAMPLES = 1_000;
const ALL = 20_000;

type Sampler = 'random' | 'pct' | 'pos';
const SAMPLERS: readonly Sampler[] = ['random', 'pct', 'pos'];

/** Executions up to and with the first that shows something of `possible`; undefined: none did. */
function toFinding(scenario: Scenario, one: ScenarioCase, options: SearchOptions): number | undefined {
  const searcher = new CaseSearcher(scenario, one, { checked: false, ...options });
  let known = 0;
  for (;;) {
    const more = searcher.next();
    const { findings } = searcher.search;
    const fresh = findings.slice(known);
    known = findings.length;
    const first = fresh.find(({ finding }) => one.expect.possible.some((pattern) => matchesFinding(pattern, finding)));
    if (first !== undefined) return first.firstExecution + 1;
    if (!more) return undefined;
  }
}

/** The median of all seeds; a search that found nothing counts as longer than any. */
function sampled(scenario: Scenario, one: ScenarioCase, strategy: Sampler): string {
  const counts = SEEDS.map(
    (seed) => toFinding(scenario, one, { strategy, seed, runs: SAMPLES, maxExecutions: SAMPLES, depth: 3 }) ?? Infinity,
  ).sort((a, b) => a - b);
  const median = counts[(SEEDS.length - 1) / 2]!;
  return median === Infinity ? `>${SAMPLES}` : String(median);
}

function verified(scenario: Scenario, one: ScenarioCase): string {
  const searcher = new CaseSearcher(scenario, one, { strategy: 'dpor', maxExecutions: ALL });
  while (searcher.next());
  const { verdict, status, executions } = searcher.result();
  if (status !== 'as-expected') return `${status} after ${executions}`;
  return verdict === 'verified' ? String(executions) : `${executions}, refused in all`;
}

function row(cells: readonly string[]): string {
  const widths = [48, 8, 8, 8, 8];
  return cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[i] ?? 0))).join(' ');
}

export const races: Bench = {
  name: 'races',
  about: `executions to the first finding by race (median of ${SEEDS.length} seeds, at most ${SAMPLES}), and to verified`,
  run(print) {
    let found = true;
    print(row(['race', 'random', 'PCT 3', 'POS', 'DPOR', '  fixed: verified after']));
    for (const folder of FOLDERS) {
      for (const name of readdirSync(folder).sort()) {
        const file = join(folder, name);
        if (!file.endsWith('.yaml')) continue;
        const scenario = loadScenario(file, readFileSync(file, 'utf8'), OPERATIONS);
        const racing = scenario.cases.find(({ expect }) => expect.possible.length > 0);
        if (racing === undefined) continue;
        const fixed = scenario.cases.find(
          ({ name: text, expect }) => text.startsWith('fix on') && expect.possible.length === 0,
        );
        const samples = SAMPLERS.map((strategy) => sampled(scenario, racing, strategy));
        const dpor = toFinding(scenario, racing, { strategy: 'dpor', maxExecutions: ALL });
        if (dpor === undefined) found = false;
        const last = fixed === undefined ? '-' : verified(scenario, fixed);
        print(row([name.replace('.yaml', ''), ...samples, String(dpor ?? `>${ALL}`), `  ${last}`]));
      }
    }
    return found;
  },
};
