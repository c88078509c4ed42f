// Known races of unmapping, each with the schedule that shows it: with the fix off the bug appears, with it on it cannot.

import { describe, expect, it } from 'vitest';
import { call, type Process, type Steps } from '../../../src/engine/process.ts';
import { step } from '../../../src/engine/step.ts';
import { FRAME_ACCESS } from '../../../src/hw/frames.ts';
import { type AccessResult, cpuAccess } from '../../../src/mm/fault/access.ts';
import { fallocate } from '../../../src/mm/file/truncate.ts';
import { lockFolio, unlockNow, willUnlock } from '../../../src/mm/folio-lock.ts';
import { madvise } from '../../../src/mm/madvise/madvise.ts';
import { mprotect } from '../../../src/mm/mapping/mprotect.ts';
import { mremap } from '../../../src/mm/mapping/mremap.ts';
import { PG_DIRTY } from '../../../src/mm/page-flags.ts';
import { lruAddDrainAll } from '../../../src/mm/reclaim/lru.ts';
import { tryToUnmap } from '../../../src/mm/rmap/unmap.ts';
import { folioClearDirtyForIo } from '../../../src/mm/writeback/writeback.ts';
import { Lab } from '../../support/lab.ts';
import { tokenOf } from '../../support/tokens.ts';
import { actor, type WorldOptions } from '../../support/world.ts';

const LOCK = step('test:folio_lock', 'none');
const COPY = step('test:disk-write', 'none');

/** Let `process` go on until it acted `label`, is blocked, or has ended. */
function advance(lab: Lab, process: Process, label?: string): void {
  while (process.state === 'live' && process.enabled) {
    lab.world.sim.act(process);
    if (process.acted.step.label === label) return;
  }
}

/** Let everybody finish, in turn. */
function finish(lab: Lab, processes: readonly Process[]): void {
  for (let round = 0; round < 10; round++) for (const process of processes) advance(lab, process);
  expect(processes.filter((process) => process.state !== 'ended').map((process) => process.name)).toEqual([]);
}

function spawn(lab: Lab, name: string, body: () => Steps<void>): Process {
  return actor(lab.world, lab.task, name, body);
}

/** A shared page written once by a thread whose CPU therefore caches a writable translation; `again` writes once more. */
function writer(lab: Lab): { process: Process; result: () => AccessResult | null } {
  let result: AccessResult | null = null;
  const process = spawn(lab, 'writer', function* () {
    yield* call(cpuAccess(lab.core, lab.vpn, { token: tokenOf('first') }));
    yield lab.world.sim.local(step('between', 'none'));
    result = yield* call(cpuAccess(lab.core, lab.vpn, { token: tokenOf('second') }));
  });
  advance(lab, process, 'user:access');
  return { process, result: () => result };
}

function shared(kind: 'shmem' | 'file', options: WorldOptions): Lab {
  const lab = new Lab({ cpus: 4, params: { swapSlots: 16 }, ...options });
  // Low, so that mremap moves it up: that takes no rmap locks.
  lab.map({ at: 0x5000, shared: true, file: lab.inode({ kind, fs: 'ext4' }) });
  lab.touchAll('c');
  lab.do(() => lruAddDrainAll(lab.core));
  lab.f0 = lab.pfn();
  return lab;
}

const SWITCH = [true, false] as const;
const without = (fix: boolean, ...ids: string[]): WorldOptions => (fix ? {} : { changes: { without: ids } });

describe('mremap against a hole punched at the new address (CVE-2018-18281)', () => {
  it.each(SWITCH)('with the flush before the unlock: %s', (fix) => {
    const lab = shared('shmem', without(fix, 'mremap.flush-before-unlock'));
    let stale = false;
    lab.world.sim.on(FRAME_ACCESS, (access) => {
      if (access.generation !== access.madeFor) stale = true;
    });
    const w = writer(lab);
    const request = { at: lab.vpn, pages: 8, newPages: 8, mayMove: true, fixedAt: 0x100000 };
    const mover = spawn(lab, 'mover', function* () {
      yield* call(mremap(lab.core, request));
    });
    const puncher = spawn(lab, 'puncher', function* () {
      yield* call(fallocate(lab.core, lab.file!, 'punch-hole', 0, 8));
    });
    advance(lab, mover, 'move_ptes:unlock-old');
    advance(lab, puncher);
    expect(lab.freed).toBe(true);
    advance(lab, w.process);
    finish(lab, [mover, puncher, w.process]);
    expect(stale).toBe(!fix);
  });
});

describe('zap of a dirty shared page against writeback', () => {
  it.each(SWITCH)('with rmap removal delayed until the flush: %s', (fix) => {
    const lab = shared('file', without(fix, 'tlb.delay-rmap'));
    const w = writer(lab);
    let disk = 0;
    const zapper = spawn(lab, 'zapper', function* () {
      yield* call(madvise(lab.core, lab.vpn, 8, 'DONTNEED'));
    });
    const cleaner = spawn(lab, 'cleaner', function* () {
      yield lockFolio(lab.core, lab.f0, LOCK);
      yield* call(folioClearDirtyForIo(lab.core, lab.f0));
      yield lab.core.frames.content.willRead(lab.f0, COPY);
      disk = lab.core.frames.content.get(lab.f0);
      yield willUnlock(lab.core, lab.f0, LOCK);
      unlockNow(lab.core, lab.f0);
    });
    advance(lab, zapper, 'zap_pte_range:clear');
    advance(lab, cleaner);
    // Still through the old translation: the zap has not flushed yet.
    advance(lab, w.process, 'user:access');
    finish(lab, [zapper, cleaner, w.process]);
    const clean = (lab.core.folios.flags.peek(lab.f0) & PG_DIRTY) === 0;
    const lost = clean && disk !== lab.core.frames.content.peek(lab.f0);
    expect(lost).toBe(!fix);
  });
});

describe('mprotect after reclaim unmapped without flushing yet', () => {
  it.each(SWITCH)('with the check for deferred flushes: %s', (fix) => {
    const lab = shared(
      'shmem',
      without(fix, 'tlb.deferred-flush-pending-check', 'tlb.deferred-flush-recheck-after-relock'),
    );
    const w = writer(lab);
    const reclaimer = spawn(lab, 'reclaimer', function* () {
      yield lockFolio(lab.core, lab.f0, LOCK);
      yield* call(tryToUnmap(lab.core, lab.f0, { batchFlush: true }));
      yield willUnlock(lab.core, lab.f0, LOCK);
      unlockNow(lab.core, lab.f0);
    });
    const protector = spawn(lab, 'protector', function* () {
      yield* call(mprotect(lab.core, lab.vpn, 8, { read: true }));
    });
    advance(lab, reclaimer);
    expect(lab.pfn()).toBe(0);
    advance(lab, protector);
    expect(protector.state).toBe('ended');
    finish(lab, [w.process]);
    // mprotect has returned: no thread may write any more.
    expect(w.result()).toEqual(fix ? { signal: 'SIGSEGV' } : { token: tokenOf('second') });
  });
});
