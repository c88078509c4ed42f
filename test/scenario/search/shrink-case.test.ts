// Counterexamples of cases made small: nothing that is left can go, the finding stays the same, and the result can be
// written as a scenario of its own.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { Replay } from '../../../src/explore/schedulers/replay.ts';
import { Budget } from '../../../src/explore/shrink.ts';
import { parseToken, printToken } from '../../../src/explore/token.ts';
import type { Scenario, ScenarioCase } from '../../../src/scenario/file/scenario.ts';
import { Bench } from '../../../src/scenario/search/bench.ts';
import { omit, placesOf } from '../../../src/scenario/search/omit.ts';
import { reducedYaml, withHeader } from '../../../src/scenario/search/reduced-yaml.ts';
import { type ShrunkCase, shrinkCase } from '../../../src/scenario/search/shrink-case.ts';
import { parseCaseToken } from '../../../src/scenario/search/token.ts';
import { firstFinding, load, NOISY } from './stories.ts';

interface Small extends ShrunkCase {
  readonly scenario: Scenario;
  readonly one: ScenarioCase;
  readonly identity: string;
}

function shrunk(
  scenario: Scenario,
  one = scenario.cases[0]!,
  budget = 3000,
  found = firstFinding(scenario, one),
): Small {
  const { schedule, seed } = parseCaseToken(found.token);
  const { identity } = found.finding;
  const small = shrinkCase(scenario, one, { schedule, omitted: [], seed, identity }, budget);
  if (small === undefined) throw new Error('the finding does not come again');
  return { ...small, scenario, one, identity };
}

/** Does the schedule show the finding with this left out? */
function shows({ scenario, one, identity, schedule }: Small, omitted: readonly string[], token = schedule): boolean {
  const seed = scenario.seed;
  const budget = new Budget(1e9);
  const bench = new Bench(scenario, one, { seed, omitted, wanted: () => true, budget, stories: false });
  bench.trials.follow(new Replay(parseToken(token)));
  return bench.end !== 'cut' && bench.findings.some((finding) => finding.identity === identity);
}

/** Everything that could still go: actors and steps that are left, and stops of the schedule. */
function expectMinimal(small: Small): void {
  const { scenario, omitted, schedule } = small;
  expect(small.minimal).toBe(true);
  expect(shows(small, omitted)).toBe(true);
  const left = omit(scenario, omitted).scenario;
  for (const { name } of left.actors) expect(shows(small, [...omitted, name]), `without ${name}`).toBe(false);
  const there = new Set(placesOf(left).map(({ step }) => step.where));
  for (const { path, step } of placesOf(scenario))
    if (step.kind !== 'wait' && there.has(step.where) && !omitted.includes(path))
      expect(shows(small, [...omitted, path]), `without ${path}`).toBe(false);
  const { segments, ...rest } = parseToken(schedule);
  for (const [at, segment] of segments.entries()) {
    if (segment.until === null) continue;
    const token = printToken({ ...rest, segments: segments.with(at, { ...segment, until: null, occurrence: 1 }) });
    expect(shows(small, omitted, token), `with ${segment.actor} not stopped`).toBe(false);
  }
}

const library = (name: string): Scenario => {
  const file = `scenarios/bugs/${name}.yaml`;
  return load(readFileSync(fileURLToPath(new URL(`../../../${file}`, import.meta.url)), 'utf8'), file);
};

describe('shrinking a case', () => {
  it('leaves the two steps that make the race', () => {
    const small = shrunk(load(NOISY));
    expectMinimal(small);
    expect(small.after).toMatchObject({ actors: 2, scriptSteps: 2 });
    expect(placesOf(omit(small.scenario, small.omitted).scenario).map(({ path }) => path)).toEqual([
      'writer:@written',
      'reader:@look',
    ]);
  });

  it('takes rounds away that are not needed', () => {
    const rounds = NOISY.replace('- cpu.read: {memory: other}', '- cpu.write: {memory: ram, value: B}').replace(
      '      - cpu.write: {memory: ram, value: B}\n        as: written\n',
      '',
    );
    const small = shrunk(load(rounds));
    expectMinimal(small);
    expect(small.omitted).toContain('writer:repeat=1');
  });

  it('stays within its budget, and says that it was not enough', () => {
    const small = shrunk(load(NOISY), undefined, 4);
    expect(small.minimal).toBe(false);
    expect(small.executions).toBeLessThanOrEqual(6);
    expect(shows(small, small.omitted)).toBe(true);
  });

  it('is the same every time', () => {
    const [first, second] = [shrunk(load(NOISY)), shrunk(load(NOISY))];
    expect([first.schedule, first.omitted]).toEqual([second.schedule, second.omitted]);
  });

  it('keeps a race a race: a wait that forbids it does not go', () => {
    const ordered = NOISY.replace('- wait: idle', '- wait: writer').replace('shows: {value: A}', 'shows: {value: C}');
    const small = shrunk(load(ordered));
    expect(placesOf(omit(small.scenario, small.omitted).scenario).map(({ path }) => path)).not.toContain('idle:touch');
  });

  it('keeps an expectation one that can hold', () => {
    const text = `title: a reader that comes too early
host: {memory: {normal: 64MiB}}
memory:
  ram: {kind: anon, size: 4KiB, content: old}
processes:
  app: {maps: {ram: {}}}
actors:
  reader:
    on: app
    do:
      - cpu.read: {memory: ram}
        shows: {value: new}
  writer:
    on: app
    do:
      - cpu.read: {memory: ram}
      - cpu.write: {memory: ram, value: new}
      - cpu.read: {memory: ram}
expect: {}
`;
    // Without the writer the reader finds the same, for ever: that would be a mistake of the script.
    const small = shrunk(load(text));
    expect(small.minimal).toBe(true);
    expect(placesOf(omit(small.scenario, small.omitted).scenario).map(({ path }) => path)).toEqual([
      'reader:cpu.read',
      'writer:cpu.write',
    ]);
  });

  it('makes an expectation small that never holds', () => {
    const never = NOISY.replace('shows: {value: A}', 'shows: {value: D}');
    const small = shrunk(load(never), undefined, 3000, firstFinding(load(never)));
    expect(placesOf(omit(small.scenario, small.omitted).scenario).map(({ path }) => path)).toContain('reader:@look');
    expect(small.after.scriptSteps).toBeLessThan(3);
  });

  it.each(['gup-fast-vs-fork', 'memslot-change-between-range-start-and-end', 'gpc-refresh-vs-invalidation-window'])(
    'of %s leaves nothing that can go',
    { timeout: 120_000 },
    (name) => {
      const scenario = library(name);
      const one = scenario.cases[0]!;
      const found = firstFinding(scenario, one, { strategy: 'dpor', maxExecutions: 400, stopAtFinding: true });
      const small = shrunk(scenario, one, 3000, found);
      expectMinimal(small);
      expect(small.after.preemptions).toBeLessThanOrEqual(small.before.preemptions);
    },
  );
});

describe('what is left as a scenario file', () => {
  it('shows the finding with the same schedule, keeps comments, and has no more than it needs', () => {
    const small = shrunk(load(NOISY));
    const text = reducedYaml(NOISY, small.scenario, small.one, small.omitted, 'unexpected-outcome');
    const smaller = load(withHeader(text, ['by hand']), 'b.yaml');
    expect(text).not.toMatch(/idle|other: \{memory|repeat|noise/);
    expect(smaller.cases.map(({ expect: { possible } }) => possible.map(({ kind }) => kind))).toEqual([
      ['unexpected-outcome'],
    ]);
    const bench = new Bench(smaller, smaller.cases[0]!, {
      seed: '1',
      omitted: [],
      wanted: () => true,
      budget: new Budget(1e9),
      stories: false,
    });
    bench.trials.follow(new Replay(parseToken(small.schedule)));
    expect(bench.findings.map(({ kind }) => kind)).toEqual(['unexpected-outcome']);
  });

  it('keeps comments of what stays', () => {
    const scenario = load(NOISY);
    const text = reducedYaml(NOISY, scenario, scenario.cases[0]!, ['idle', 'writer:repeat'], 'deadlock');
    expect(text).toContain('# noise');
    expect(text).toContain('# after it');
    expect(text).not.toContain('idle');
    expect(load(text).actors.map(({ name }) => name)).toEqual(['writer', 'reader']);
  });
});

describe('the budget of shrinking', () => {
  const SINGLE = load(`title: one actor
kernel: v6.12.117
host: {memory: {normal: 64MiB}}
memory: {ram: {kind: anon, size: 16KiB, populate: write}}
processes: {app: {maps: {ram: {}}}}
actors:
  app:
    - gup.pin: {memory: ram, as: p}
    - cpu.read: {memory: ram}
    - madvise: {memory: ram, advice: DONTNEED}
expect: {possible: [incoherent-mapping]}
`);

  it('is not spent on other orders where a single actor leaves none', () => {
    const small = shrunk(SINGLE);
    expectMinimal(small);
    // With samples for every try that fails it would be 58.
    expect(small.executions).toBe(26);
  });

  it('counts what executions write, so that a few long ones use it up', () => {
    const budget = new Budget(10);
    budget.spend(100, 1000);
    expect(budget.spent).toBe(1);
    budget.spend(100, 200_000);
    expect([budget.spent, budget.exhausted]).toEqual([11, true]);
  });
});
