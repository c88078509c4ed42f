// A set-up that chooses sets up one of several worlds: all are searched, and a token says which one it is of.
import { describe, expect, test } from 'vitest';
import { explore, type Program, shrink } from '../../src/index.ts';

describe('a set-up that chooses', () => {
  const chooser = (sim: Program) => {
    const k = sim.choose(3);
    const x = sim.cell('x', 0);
    for (let i = 0; i <= k; i++) {
      sim.spawn(`a${i}`, function* () {
        yield x.willWrite();
        x.value = i;
        if (k === 2 && i === 1) sim.fail('k is 2');
      });
    }
  };

  test('is searched in every world that it may set up', () => {
    const result = explore(chooser);
    expect([result.executions, result.complete, result.estimate]).toEqual([1 + 2 + 6, true, { total: 9, error: 0 }]);
    expect(result.findings.map(({ message, executions }) => [message, executions])).toEqual([['k is 2', 6]]);
    expect(result.findings[0]!.firstExecution).toBe(3);
  });

  test('two choices in a row: the second only where it is made', () => {
    const worlds: number[][] = [];
    const result = explore((sim) => {
      const first = sim.choose(2);
      const second = first === 1 ? sim.choose(3) : -1;
      worlds.push([first, second]);
      sim.spawn('a', function* () {
        yield sim.local();
      });
    });
    expect([result.executions, result.complete]).toEqual([4, true]);
    expect(worlds).toEqual([
      [0, -1],
      [1, 0],
      [1, 1],
      [1, 2],
    ]);
  });

  test('a token says which world it is of, to replay and to shrink', () => {
    const { token } = explore(chooser).findings[0]!;
    expect(token).toMatch(/^s1;==2;/);
    expect(explore(chooser, { strategy: 'replay', token }).findings[0]!.message).toBe('k is 2');
    const small = shrink(chooser, token);
    expect(small.token).toMatch(/^s1;==2;/);
    expect(explore(chooser, { strategy: 'replay', token: small.token }).findings[0]!.message).toBe('k is 2');
  });

  test('worlds that are left out are told', () => {
    expect(explore(chooser, { maxExecutions: 3 }).limits).toEqual([
      'worlds that the set-up may choose were left out (maxExecutions)',
    ]);
    const sampled = explore(chooser, { strategy: 'random', runs: 5 });
    expect(sampled.limits).toEqual(['1 choice made by the set-up, outside of actors: one value of each was searched']);
  });
});
