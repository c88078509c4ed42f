// A search of every world that a set-up can choose: one after the other, each from its own beginning, told as one.
import { nextChoices } from './choices.ts';
import type { Estimate } from './estimate.ts';
import { type ExploreOptions, type ExploreResult, type FoundFinding, isShorter, Search } from './search.ts';
import { type SetUp, setUpWorld, type World, withSetUp } from './set-up.ts';

/** The result for `first`, and for every world that comes after it in the order of counting, as one. */
export function exploreWorlds(setup: SetUp, first: World, options: ExploreOptions): ExploreResult {
  const results: ExploreResult[] = [];
  const left = options.maxExecutions ?? Number.POSITIVE_INFINITY;
  let executions = 0;
  let found = 0;
  for (let world: World | null = first; world !== null; ) {
    const search = new Search(world.sim, { ...options, maxExecutions: left - executions });
    while (search.next());
    const result = inWorld(search.result(), world.choices);
    results.push(result);
    executions += result.executions;
    found += result.findings.length;
    const script = nextChoices(world.choices, world.alternatives);
    if (script === null) break;
    if (executions >= left || (options.stopAtFinding === true && found > 0)) {
      results.push(leftOut(result, executions >= left ? 'maxExecutions' : 'stopAtFinding'));
      break;
    }
    world = setUpWorld(setup, options, script);
  }
  return results.length === 1 ? results[0]! : together(results);
}

/** With tokens that say which world they are of. */
function inWorld(result: ExploreResult, choices: readonly number[]): ExploreResult {
  const findings = result.findings.map((found) => ({ ...found, token: withSetUp(found.token, choices) }));
  return Object.defineProperties({} as ExploreResult, {
    ...Object.getOwnPropertyDescriptors(result),
    findings: { value: findings, enumerable: true },
  });
}

/** In place of the worlds that were not searched. */
function leftOut({ strategy }: ExploreResult, option: string): ExploreResult {
  const limits = [`worlds that the set-up may choose were left out (${option})`];
  return { strategy, executions: 0, blocked: 0, complete: false, findings: [], estimate: null, steps: 0, limits };
}

function together(results: readonly ExploreResult[]): ExploreResult {
  const sum = (of: (result: ExploreResult) => number): number => results.reduce((all, one) => all + of(one), 0);
  return {
    strategy: results[0]!.strategy,
    executions: sum((one) => one.executions),
    blocked: sum((one) => one.blocked),
    complete: results.every((one) => one.complete),
    findings: merged(results),
    get estimate(): Estimate | null {
      return total(results.map((one) => one.estimate));
    },
    steps: sum((one) => one.steps),
    limits: [...new Set(results.flatMap((one) => one.limits))],
  };
}

/** Each cause once, with the shortest schedule of any world. */
function merged(results: readonly ExploreResult[]): readonly FoundFinding[] {
  const byCause = new Map<string, FoundFinding>();
  let before = 0;
  for (const { findings, executions } of results) {
    for (const found of findings) {
      const known = byCause.get(found.finding.identity);
      const here = { ...found, firstExecution: before + found.firstExecution };
      if (known === undefined) byCause.set(found.finding.identity, here);
      else {
        const best = isShorter(here, known) ? here : known;
        const all = known.executions + here.executions;
        byCause.set(found.finding.identity, { ...best, firstExecution: known.firstExecution, executions: all });
      }
    }
    before += executions;
  }
  return [...byCause.values()];
}

/** Independent estimates add up, their errors in squares. */
function total(estimates: readonly (Estimate | null)[]): Estimate | null {
  let sum = 0;
  let squares: number | null = 0;
  for (const one of estimates) {
    if (one === null) return null;
    sum += one.total;
    squares = one.error === null || squares === null ? null : squares + one.error ** 2;
  }
  return { total: sum, error: squares === null ? null : Math.sqrt(squares) };
}
