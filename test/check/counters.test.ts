// refcount-underflow and -overflow: a counter that the step announced has left its range.
import { describe, expect, it } from 'vitest';
import { Checkers } from '../../src/check/checkers.ts';
import { step } from '../../src/engine/step.ts';
import { Lab } from '../support/lab.ts';

const PUT = step('test:put', 'refcount');

/** What is found when a step leaves the refcount of a page at `value`. */
function foundAt(value: number): readonly string[] {
  const lab = new Lab();
  const { core } = lab;
  const { sim } = core;
  const checkers = new Checkers({ sim, core, log: null });
  sim.observer = checkers;
  lab.do(function* () {
    yield core.folios.refcount.willUpdate(1000, PUT);
    core.folios.refcount.set(1000, value);
  });
  return sim.findings.map(({ kind }) => kind);
}

describe('a refcount', () => {
  it('below zero has been dropped more often than taken', () => {
    expect(foundAt(-1)).toEqual(['refcount-underflow']);
  });

  it('far below zero has wrapped', () => {
    expect(foundAt(-2_000_000_000)).toEqual(['refcount-overflow']);
  });

  it('of zero or more is as good as any', () => {
    expect(foundAt(0)).toEqual([]);
    expect(foundAt(1024)).toEqual([]);
  });
});

describe('a page that counts a mapping', () => {
  it('though nobody has memory of its family any more is left behind', () => {
    const lab = new Lab();
    const { core } = lab;
    const { sim } = core;
    const checkers = new Checkers({ sim, core, log: null });
    lab.map();
    lab.write('A');
    checkers.atEnd();
    expect(sim.findings).toEqual([]);
    const head = core.folios.headOf(lab.pfn());
    sim.unwatched(() => {
      core.rmapAnon(head)!.mms.value = [];
    });
    checkers.atEnd();
    expect(sim.findings.map(({ kind }) => kind)).toEqual(['refcount-leak']);
  });
});
