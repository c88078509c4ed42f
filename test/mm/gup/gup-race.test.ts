// GUP-fast against those who take the memory away or share it, in random orders: what must hold whoever wins, and that
// switching the kernel's guard off lets the known bug through.

import { describe, expect, it } from 'vitest';
import { call, type Steps } from '../../../src/engine/process.ts';
import { step } from '../../../src/engine/step.ts';
import { exploreSim } from '../../../src/explore/explore.ts';
import { cpuAccess } from '../../../src/mm/fault/access.ts';
import type { GupRequest, GupResult } from '../../../src/mm/gup/gup.ts';
import { pinUserPagesFast } from '../../../src/mm/gup/gup-fast.ts';
import { unpinUserPages } from '../../../src/mm/gup/unpin.ts';
import { madviseDontneed } from '../../../src/mm/madvise/madvise-zap.ts';
import type { Mm } from '../../../src/mm/mm.ts';
import { fork } from '../../../src/mm/process/fork.ts';
import { forkedChild, makeKind } from '../../support/kinds.ts';
import type { Lab } from '../../support/lab.ts';
import { tokenOf } from '../../support/tokens.ts';
import { actor, type WorldOptions } from '../../support/world.ts';

interface Race {
  readonly lab: Lab;
  /** What the pin returned in the execution at hand; observers only. */
  pinned: GupResult | null;
  child: Mm | null;
}

/** One touched anonymous page, ready for actors. */
function race(options: WorldOptions = {}, prepare: (lab: Lab) => void = () => {}): Race {
  const lab = makeKind('anon_rw_touched', options);
  prepare(lab);
  lab.world.sim.finishSetUp();
  const r: Race = { lab, pinned: null, child: null };
  lab.world.sim.onRewind(() => {
    r.pinned = null;
    r.child = null;
  });
  return r;
}

function pinner(r: Race, request: Partial<GupRequest> = {}): void {
  const { lab } = r;
  actor(lab.world, lab.task, 'pinner', function* () {
    r.pinned = yield* call(pinUserPagesFast(lab.core, lab.vpn, 1, { owner: 'test', write: true, ...request }));
  });
}

function zapper(r: Race): void {
  const { lab } = r;
  actor(lab.world, lab.task, 'zapper', () => dontneed(lab));
}

function* dontneed(lab: Lab): Steps<void> {
  yield* call(madviseDontneed(lab.core, lab.mm, lab.vma(), lab.vpn, lab.vpn + 1, false));
}

function forker(r: Race): void {
  const { lab } = r;
  actor(lab.world, lab.task, 'forker', function* () {
    const forked = yield* call(
      fork(lab.core, {}, function* () {
        yield lab.world.sim.local(step('pause', 'none'));
      }),
    );
    if ('task' in forked) r.child = forked.task.mm.peek();
  });
}

function writer(r: Race): void {
  const { lab } = r;
  actor(lab.world, lab.task, 'writer', function* () {
    yield* call(cpuAccess(lab.core, lab.vpn, { token: tokenOf('new') }));
  });
}

/** Run the race in many orders; `violations` collects what `judge` says at the end of each, once. */
function violations(r: Race, judge: () => string | null, runs = 400): Set<string> {
  const found = new Set<string>();
  const atEnd = () => {
    const verdict = judge();
    if (verdict !== null) found.add(verdict);
  };
  const result = exploreSim(r.lab.world.sim, { strategy: 'random', runs, seed: 'gup', atEnd });
  expect(result.findings).toEqual([]);
  expect(result.executions).toBe(runs);
  return found;
}

const heldPfn = (r: Race) => r.pinned?.runs[0]?.pfn ?? 0;
const pinsOn = (r: Race, pfn: number) => Math.floor(r.lab.core.folios.refcount.peek(pfn) / 1024);

describe('GUP-fast against MADV_DONTNEED', () => {
  it('holds a live page whatever the order, the mapped one or the one that was', () => {
    const r = race();
    const before = r.lab.pfn();
    const generation = r.lab.core.frames.peekGeneration(before);
    const outcomes = new Set<boolean>();
    pinner(r);
    zapper(r);
    const found = violations(r, () => {
      const pfn = heldPfn(r);
      if (r.pinned?.pinned !== 1) return `the pin failed: ${r.pinned?.errno}`;
      outcomes.add(pfn === before);
      if (pinsOn(r, pfn) !== 1) return `refcount ${r.lab.core.folios.refcount.peek(pfn)} under a pin`;
      if (pfn === before && r.lab.core.frames.peekGeneration(pfn) !== generation) return 'freed under the pin';
      if (pfn !== before && pinsOn(r, before) !== 0) return 'a pin was left behind on the old page';
      return null;
    });
    expect(found).toEqual(new Set());
    // Both the old page and a new one were pinned in some order, or the test would show nothing.
    expect(outcomes).toEqual(new Set([true, false]));
  });

  it('gives every reference back after the unpin', () => {
    const r = race();
    const { lab } = r;
    const before = lab.pfn();
    const references = lab.refcount(before);
    actor(lab.world, lab.task, 'pinner', function* () {
      const pinned = yield* call(pinUserPagesFast(lab.core, lab.vpn, 1, { owner: 'test', write: true }));
      yield* call(unpinUserPages(lab.core, pinned.runs, { owner: 'test' }));
    });
    zapper(r);
    const found = violations(r, () => {
      const now = lab.refcount(before);
      // The zap drops the mapping's reference; the LRU batch keeps its own.
      return now === references - 1 || now === 0 ? null : `${now} references left of ${references}`;
    });
    expect(found).toEqual(new Set());
  });
});

describe('GUP-fast against fork', () => {
  const judge = (r: Race) => () => {
    const pfn = heldPfn(r);
    if (pfn === 0 || r.child === null) return 'pin or fork failed';
    if (r.child.pageTable.peekFrame(r.lab.vpn) === pfn) return 'the child maps the pinned page';
    if (r.lab.pfn() !== pfn) return 'the parent maps another page than the pinned one';
    return null;
  };

  it.each(['v6.1.192', 'v6.12.117'])('never shares a pinned page on %s', (kernel) => {
    const r = race({ kernel });
    pinner(r);
    forker(r);
    expect(violations(r, judge(r))).toEqual(new Set());
  });

  it('shares it without the write-protect sequence', () => {
    const r = race({ changes: { without: ['gup.fast.write-protect-seq'] } });
    pinner(r);
    forker(r);
    expect(violations(r, judge(r), 3000)).toContain('the child maps the pinned page');
  });
});

describe('a read-only pin against a write to a page shared with a child', () => {
  it('stays on the page that the parent maps', () => {
    const r = race({}, forkedChild);
    pinner(r, { write: false });
    writer(r);
    const found = violations(r, () => {
      if (r.pinned?.pinned !== 1) return `the pin failed: ${r.pinned?.errno}`;
      return r.lab.pfn() === heldPfn(r) ? null : 'the parent maps another page than the pinned one';
    });
    expect(found).toEqual(new Set());
  });

  it('loses it where pages have no AnonExclusive mark', () => {
    const r = race({ kernel: 'v5.15' }, forkedChild);
    pinner(r, { write: false });
    writer(r);
    const found = violations(r, () =>
      r.pinned?.pinned === 1 && r.lab.pfn() !== heldPfn(r) ? 'the parent maps another page than the pinned one' : null,
    );
    expect(found).toContain('the parent maps another page than the pinned one');
  });
});

describe('a refused long-term pin of a movable page', () => {
  const zones = [
    { kind: 'NORMAL', node: 0, pages: 4096 },
    { kind: 'MOVABLE', node: 0, pages: 4096 },
  ] as const;

  /** The highest reference count that GUP-fast alone brings about. */
  function peak(kernel: string): number {
    const lab = makeKind('anon_rw_touched', { kernel, zones });
    const { sim, core } = lab.world;
    const pfn = lab.pfn();
    let highest = 0;
    sim.observer = {
      stepActed: () => {
        highest = Math.max(highest, core.folios.refcount.peek(pfn));
      },
    };
    const request = { owner: 'test', write: true, longterm: true, fastOnly: true };
    expect(lab.do(() => pinUserPagesFast(core, lab.vpn, 1, request)).pinned).toBe(0);
    sim.observer = null;
    return highest - lab.refcount(pfn);
  }

  it('shows as a transient reference on 6.12, and not at all on 6.1', () => {
    expect(peak('v6.12.117')).toBe(1);
    expect(peak('v6.1.192')).toBe(0);
  });
});
