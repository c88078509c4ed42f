// Shrinking schedules of small programs: the same finding, as few preemptions as it takes, choices that are 0.
import { describe, expect, it } from 'vitest';
import { type ExploreOptions, explore } from '../../src/explore/explore.ts';
import type { Program } from '../../src/explore/program.ts';
import { shrink } from '../../src/explore/shrink.ts';
import { parseToken, printToken } from '../../src/explore/token.ts';
import { build, randomProgram } from './random-program.ts';

/** Two increments that are not atomic, with steps of others all around. */
function lostUpdate(sim: Program): void {
  const count = sim.cell('count', 0);
  const noise = sim.cell('noise', 0);
  for (const name of ['a', 'b']) {
    sim.spawn(name, function* () {
      for (let i = 0; i < 3; i++) yield sim.local();
      yield count.willRead();
      const seen = count.value;
      yield noise.willWrite();
      noise.value = seen;
      yield count.willWrite();
      count.value = seen + 1;
      yield count.willRead();
      if (name === 'a' && count.value !== seen + 1) sim.fail('a sees a count that is not its own');
    });
  }
  sim.spawn('c', function* () {
    for (let i = 0; i < 5; i++) {
      yield noise.willWrite();
      noise.value = 100 + i;
    }
  });
}

/** It takes two preemptions: x must be seen between two writes, by an actor that is itself interrupted. */
function twoDeep(sim: Program): void {
  const x = sim.cell('x', 0);
  const y = sim.cell('y', 0);
  sim.spawn('writer', function* () {
    yield x.willWrite();
    x.value = 1;
    yield y.willWrite();
    y.value = 1;
    yield x.willWrite();
    x.value = 0;
  });
  sim.spawn('reader', function* () {
    const choice = sim.choose(3);
    yield y.willRead();
    const before = y.value;
    yield x.willRead();
    const middle = x.value;
    yield y.willRead();
    if (before === 0 && middle === 1 && y.value === 1 && choice > 0) sim.fail(`torn, by choice`);
  });
}

function firstToken(program: (sim: Program) => void, options: ExploreOptions): string {
  const { findings } = explore(program, { ...options, stopAtFinding: true });
  expect(findings.length).toBeGreaterThan(0);
  return findings[0]!.token;
}

/** Tokens with one stop fewer. */
function withoutOneStop(token: string): readonly string[] {
  const { segments, ...rest } = parseToken(token);
  return segments.flatMap((segment, at) =>
    segment.until === null
      ? []
      : [printToken({ ...rest, segments: segments.with(at, { ...segment, until: null, occurrence: 1 }) })],
  );
}

const seeds = Array.from({ length: 20 }, (_, seed) => seed);

describe('shrinking a schedule', () => {
  it.each(seeds)('of a lost update found by a random walk (seed %i) leaves one preemption', (seed) => {
    const token = firstToken(lostUpdate, { strategy: 'random', seed, runs: 500 });
    const small = shrink(lostUpdate, token);
    expect(small.minimal).toBe(true);
    expect(small.preemptions).toBe(1);
    expect(small.finding.message).toBe('a sees a count that is not its own');
    // b or a, c runs where it disturbs nobody: no actor is cut in more than two pieces.
    expect(small.token.split(';').length - 1).toBeLessThanOrEqual(4);
    const again = explore(lostUpdate, { strategy: 'replay', token: small.token });
    expect(again.findings.map(({ message }) => message)).toEqual([small.finding.message]);
    expect(again.limits).toEqual([]);
  });

  it.each(seeds)('keeps what it takes: no stop can go (seed %i)', (seed) => {
    const token = firstToken(twoDeep, { strategy: 'random', seed, runs: 2000 });
    const small = shrink(twoDeep, token);
    expect(small.minimal).toBe(true);
    expect(small.token).toMatch(/^s1;=1;/);
    for (const fewer of withoutOneStop(small.token))
      expect(explore(twoDeep, { strategy: 'replay', token: fewer }).findings, fewer).toEqual([]);
  });

  it('comes to fewer preemptions though none of those that there are can go', () => {
    // The lock is left held by whoever comes last of the two: by one, if the other is interrupted before it locks.
    const left = (sim: Program): void => {
      const m = sim.mutex('m');
      sim.spawn('a', function* () {
        yield sim.local();
        sim.choose(3);
        yield m.lock();
        yield m.unlock();
      });
      sim.spawn('b', function* () {
        yield m.lock();
      });
    };
    const token = 's1;a@m:lock=2;b';
    expect(explore(left, { strategy: 'replay', token }).findings.map(({ kind }) => kind)).toEqual(['deadlock']);
    expect(shrink(left, token)).toMatchObject({ token: 's1;b;a=0', preemptions: 0, minimal: true });
  });

  it('of random programs keeps the finding, fits to the end, and leaves no stop that could go', () => {
    let shrunk = 0;
    for (let n = 0; n < 400; n++) {
      const program = build(randomProgram('shrink', n, 10));
      const found = explore(program, { strategy: 'random', seed: n, runs: 30, maxSteps: 2000, stopAtFinding: true });
      const first = found.findings[0];
      if (first === undefined) continue;
      shrunk++;
      const small = shrink(program, first.token, { identity: first.finding.identity, seed: n });
      const again = explore(program, { strategy: 'replay', token: small.token, seed: n });
      expect(
        again.limits.filter((limit) => !limit.includes('retry loop')),
        small.token,
      ).toEqual([]);
      expect(again.findings.map(({ finding }) => finding.identity)).toContain(first.finding.identity);
      expect(parseToken(small.token).segments.length).toBeLessThanOrEqual(parseToken(first.token).segments.length);
      if (!small.minimal) continue;
      for (const fewer of withoutOneStop(small.token)) {
        const { findings } = explore(program, { strategy: 'replay', token: fewer, seed: n });
        expect(
          findings.map(({ finding }) => finding.identity),
          fewer,
        ).not.toContain(first.finding.identity);
      }
    }
    expect(shrunk).toBeGreaterThan(30);
  });

  it('makes choices as small as they can be', () => {
    const choosy = (sim: Program): void => {
      sim.spawn('a', function* () {
        yield sim.local();
        const [first, second] = [sim.choose(4), sim.choose(5)];
        if (second >= 2) sim.fail(`first is ${first < 4 ? 'whatever' : ''}`);
      });
    };
    const { token } = shrink(choosy, 's1;a=3,4');
    expect(token).toBe('s1;a=0,2');
  });

  it('needs no preemption for what happens in any order', () => {
    const plain = (sim: Program): void => {
      const x = sim.cell('x', 0);
      for (const name of ['a', 'b', 'c']) {
        sim.spawn(name, function* () {
          yield x.willUpdate();
          x.value += 1;
          yield x.willRead();
          if (x.value === 3) sim.fail('three');
        });
      }
    };
    const small = shrink(plain, firstToken(plain, { strategy: 'random', seed: 3 }));
    expect(small.token).toBe('s1;a;b;c');
  });

  it('stops at its budget, and does not call the result minimal', () => {
    const token = firstToken(lostUpdate, { strategy: 'random', seed: 1, runs: 500 });
    const small = shrink(lostUpdate, token, { budget: 2 });
    expect(small.minimal).toBe(false);
    expect(small.executions).toBe(2);
    expect(small.finding.message).toBe('a sees a count that is not its own');
  });

  it('is the same every time', () => {
    const token = firstToken(lostUpdate, { strategy: 'random', seed: 5, runs: 500 });
    expect(shrink(lostUpdate, token)).toEqual(shrink(lostUpdate, token));
  });

  it('of a token that shows nothing is refused', () => {
    expect(() => shrink(lostUpdate, 's1;a;b;c')).toThrow('the token does not show the finding');
  });
});
