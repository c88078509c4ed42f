// The plan of a campaign: what each run works on follows from its number, shards are parts of the whole, and what is
// learned does not depend on who reported first.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Sim } from '../../src/engine/sim.ts';
import { type CampaignOptions, epochsOf, type Unit } from '../../src/explore/campaign.ts';
import { Draws } from '../../src/explore/draws.ts';
import { Feedback } from '../../src/explore/feedback.ts';
import { Program } from '../../src/explore/program.ts';
import { Runner } from '../../src/explore/runner.ts';
import { Mix } from '../../src/explore/schedulers/mix.ts';

const whole: CampaignOptions = {
  subjects: [{ stride: 1 }, { stride: 1 }, { stride: 4 }],
  runs: 3000,
  runsPerSlot: 1,
  shard: 0,
  shards: 1,
};

function unitsOf(options: CampaignOptions): readonly Unit[] {
  return [...epochsOf(options)].flatMap(({ units }) => units);
}

/** Subject of every run, by its number. */
function subjects(units: readonly Unit[]): Map<number, number> {
  return new Map(units.flatMap(({ runs, subject }) => runs.map((run) => [run, subject] as const)));
}

describe('the plan of a campaign', () => {
  it('has every run once, in units of one subject each', () => {
    const units = unitsOf(whole);
    const numbers = units.flatMap(({ runs }) => runs).sort((a, b) => a - b);
    expect(numbers).toEqual(Array.from({ length: 3000 }, (_, i) => i));
    expect(units.map(({ number }) => number)).toEqual(units.map((_, i) => i));
  });

  it('gives every subject a run in the first round but large ones, which are due seldom', () => {
    const [first] = [...epochsOf(whole)];
    expect(first!.units.map(({ subject }) => subject)).toEqual([0, 1]);
    const counts = [0, 0, 0];
    for (const subject of subjects(unitsOf(whole)).values()) counts[subject]!++;
    expect(counts[0]! / counts[2]!).toBeCloseTo(4, 1);
  });

  it('does not depend on how many runs there are to be', () => {
    const longer = subjects(unitsOf({ ...whole, runs: 5000 }));
    for (const [run, subject] of subjects(unitsOf(whole))) expect(longer.get(run)).toBe(subject);
  });

  it.each([
    [2, 1, false],
    [3, 1, false],
    [4, 16, true],
  ])('is the union of its %i shards, which have nothing in common', (shards, runsPerSlot, unitPerSlot) => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(1, 1, 1, 2, 8), { minLength: 1, maxLength: 9 }),
        fc.integer({ min: 1, max: 4000 }),
        (strides, runs) => {
          const options = { subjects: strides.map((stride) => ({ stride })), runs, runsPerSlot, unitPerSlot };
          const all = subjects(unitsOf({ ...options, shard: 0, shards: 1 }));
          const parts = Array.from({ length: shards }, (_, shard) => unitsOf({ ...options, shard, shards }));
          const numbers = parts.flatMap((part) => part.flatMap((unit) => unit.runs));
          expect(numbers.length).toBe(runs);
          expect(new Set(numbers).size).toBe(runs);
          for (const part of parts) for (const [run, subject] of subjects(part)) expect(all.get(run)).toBe(subject);
        },
      ),
      { numRuns: 10 },
    );
  });

  it('keeps runs on one made-up workload together', () => {
    for (const { runs } of unitsOf({ ...whole, runsPerSlot: 16, unitPerSlot: true }))
      expect(runs).toEqual(Array.from({ length: runs.length }, (_, i) => runs[0]! + i));
  });
});

describe('a mix of strategies', () => {
  function counters(): Sim {
    const sim = new Sim({ checked: true, journaled: true });
    const program = new Program(sim);
    const x = program.cell('x', 0);
    for (const name of ['a', 'b', 'c'])
      program.spawn(name, function* () {
        for (let i = 0; i < 3; i++) {
          yield x.willRead();
          const seen = x.value;
          yield x.willWrite();
          x.value = seen + program.choose(3);
        }
      });
    return sim;
  }

  it('does the same in run i whichever runs came before', () => {
    const numbers = Array.from({ length: 60 }, (_, i) => i * 7);
    const scheduleOf = (order: readonly number[]): Map<number, string> => {
      const runner = new Runner(counters());
      const mix = new Mix('7', 18);
      return new Map(
        order.map((run) => {
          const { scheduler, words } = mix.of(run);
          runner.execute(scheduler, run);
          const steps = runner.schedule().map(({ actor, choices }) => `${actor}${choices.join()}`);
          return [run, `${words}: ${steps.join(' ')}`] as const;
        }),
      );
    };
    const forwards = scheduleOf(numbers);
    const backwards = scheduleOf([...numbers].reverse());
    for (const run of numbers) expect(backwards.get(run)).toBe(forwards.get(run));
    expect(new Set([...forwards.values()].map((text) => text.split(':')[0])).size).toBeGreaterThan(4);
  });

  it('mixes only what is allowed', () => {
    const mix = new Mix('1', 10, ['pct']);
    for (let run = 0; run < 100; run++) expect(mix.of(run).words).toMatch(/^PCT/);
  });
});

describe('feedback', () => {
  const lesson = (unit: number, features: readonly number[]) => {
    return { unit, family: 'f', workload: `w${unit}`, features: Uint32Array.from(features) };
  };

  it('keeps the first workload of the plan that shows something, whoever reported first', () => {
    const lessons = [lesson(2, [3, 4]), lesson(0, [1, 2]), lesson(1, [2, 3]), lesson(3, [1, 4])];
    const feedback = new Feedback();
    const { kept, features } = feedback.learn(lessons);
    expect(kept.map(({ workload }) => workload)).toEqual(['w0', 'w1', 'w2']);
    expect(features).toEqual([1, 2, 3, 4]);
  });

  it('goes on from what was kept', () => {
    const first = new Feedback();
    const { kept, features } = first.learn([lesson(0, [1]), lesson(1, [2])]);
    const second = new Feedback();
    second.restore(features, kept);
    const [a, b] = [new Draws(), new Draws()];
    a.restart('1', 0);
    b.restart('1', 0);
    const picks = Array.from({ length: 20 }, () => first.pick('f', a));
    expect(Array.from({ length: 20 }, () => second.pick('f', b))).toEqual(picks);
    expect(new Set(picks)).toEqual(new Set([null, 'w0', 'w1']));
  });
});
