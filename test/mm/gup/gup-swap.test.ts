// Steps that announced nothing in common commute: pins, unpins, zaps, writes, forks and registered buffers, two at a time.

import { describe, expect, it } from 'vitest';
import { call, type Steps } from '../../../src/engine/process.ts';
import { step } from '../../../src/engine/step.ts';
import { swapTest } from '../../../src/explore/swap.ts';
import { IoUring, registerBuffers, unregisterBuffers } from '../../../src/iouring/index.ts';
import { cpuAccess } from '../../../src/mm/fault/access.ts';
import { pinUserPagesRemote } from '../../../src/mm/gup/gup.ts';
import { pinUserPagesFast } from '../../../src/mm/gup/gup-fast.ts';
import { unpinUserPages } from '../../../src/mm/gup/unpin.ts';
import type { FrameRun } from '../../../src/mm/ledger.ts';
import { madviseDontneed } from '../../../src/mm/madvise/madvise-zap.ts';
import { munmap } from '../../../src/mm/mapping/mmap.ts';
import { fork } from '../../../src/mm/process/fork.ts';
import { forkedChild, type Kind, makeKind } from '../../support/kinds.ts';
import type { Lab } from '../../support/lab.ts';
import { tokenOf } from '../../support/tokens.ts';
import { actor } from '../../support/world.ts';

type Act = (lab: Lab) => Steps<void>;

function* release(lab: Lab, runs: readonly FrameRun[]): Steps<void> {
  yield* call(unpinUserPages(lab.core, runs, { owner: 'test', dirty: true }));
}

const ACTS: Readonly<Record<string, Act>> = {
  *fast(lab) {
    const pinned = yield* call(pinUserPagesFast(lab.core, lab.vpn, 2, { owner: 'test', write: true, longterm: true }));
    yield* call(release(lab, pinned.runs));
  },
  *'fast R'(lab) {
    const pinned = yield* call(pinUserPagesFast(lab.core, lab.vpn, 1, { owner: 'test', write: false }));
    yield* call(release(lab, pinned.runs));
  },
  *slow(lab) {
    yield* call(lab.mm.mmapLock.read());
    const request = { owner: 'test', write: true, longterm: true };
    const pinned = yield* call(pinUserPagesRemote(lab.core, lab.mm, lab.vpn, 2, request));
    yield lab.mm.mmapLock.up();
    yield* call(release(lab, pinned.runs));
  },
  *zap(lab) {
    yield* call(madviseDontneed(lab.core, lab.mm, lab.vma(), lab.vpn, lab.vpn + 1, false));
  },
  *unmap(lab) {
    yield* call(munmap(lab.core, lab.vpn, lab.pages));
  },
  *write(lab) {
    yield* call(cpuAccess(lab.core, lab.vpn, { token: tokenOf('new') }));
  },
  *fork(lab) {
    yield* call(
      fork(lab.core, {}, function* () {
        yield lab.world.sim.local(step('pause', 'none'));
      }),
    );
  },
  *uring(lab) {
    const ring = new IoUring(lab.world.sim, lab.core.current, 'ring');
    yield* call(registerBuffers(lab.core, ring, [{ base: BigInt(lab.vpn) * 4096n, bytes: 4096n }]));
    yield* call(unregisterBuffers(lab.core, ring));
  },
};

const PAIRS: readonly (readonly [string, string])[] = [
  ['fast', 'zap'],
  ['fast', 'unmap'],
  ['fast', 'fast'],
  ['fast', 'fork'],
  ['fast R', 'write'],
  ['fast', 'slow'],
  ['slow', 'zap'],
  ['slow', 'write'],
  ['slow', 'fork'],
  ['uring', 'zap'],
  ['uring', 'write'],
];

const KINDS: readonly (readonly [Kind, boolean])[] = [
  ['anon_rw_touched', false],
  ['anon_rw_touched', true],
  ['anon_thp', false],
  ['memfd_shared_rw_touched', false],
  ['memfd_private_rw', false],
];

describe.each(['v6.1.192', 'v6.12.117'])('on %s', (kernel) => {
  describe.each(KINDS)('with %s, shared with a child: %s', (kind, shared) => {
    it.each(PAIRS)('%s and %s', (a, b) => {
      const lab = makeKind(kind, { kernel, cpus: 3 });
      if (shared) forkedChild(lab);
      lab.world.sim.finishSetUp();
      actor(lab.world, lab.task, `${a} 1`, () => ACTS[a]!(lab));
      actor(lab.world, lab.task, `${b} 2`, () => ACTS[b]!(lab));
      const { failure } = swapTest(lab.world.sim, { runs: 12, seed: `${a}/${b}` });
      expect(failure?.message ?? 'commutes').toBe('commutes');
    });
  });
});
