import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import { step } from '../../../src/engine/step.ts';
import { runTimed } from '../../../src/engine/timed.ts';
import { join } from '../../../src/engine/wait.ts';
import { type AccessResult, cpuAccess } from '../../../src/mm/fault/access.ts';
import { exit } from '../../../src/mm/process/exit.ts';
import { fork } from '../../../src/mm/process/fork.ts';
import { Lab, RECORDED } from '../../support/lab.ts';
import { tokenOf, tokenText } from '../../support/tokens.ts';
import { actor } from '../../support/world.ts';

const text = (result: AccessResult) => ('token' in result ? tokenText(result.token) : result.signal);

interface Seen {
  parentPfnKept: boolean;
  childHasPinnedPage: boolean;
  childSees: string;
}

/** `fork_*` of the recorded programs: who writes first, and what each side sees after a DMA write. */
function forkCase(lab: Lab, how: 'parent-writes' | 'child-writes' | 'child-reads-only'): Seen {
  const { core } = lab;
  const seen: Seen = { parentPfnKept: false, childHasPinnedPage: false, childSees: '' };
  actor(lab.world, lab.task, 'parent', function* () {
    const child = yield* call(
      fork(core, { name: 'child' }, function* (task) {
        if (how === 'child-writes') yield* call(cpuAccess(core, lab.vpn, { token: tokenOf('C') }));
        yield core.sim.sleep(1_000_000, step('wait', 'none'));
        seen.childSees = text(yield* call(cpuAccess(core, lab.vpn, null)));
        seen.childHasPinnedPage = task.mm.peek()!.pageTable.peekFrame(lab.vpn) === lab.f0;
        yield* call(exit(core));
      }),
    );
    if (!('process' in child)) throw new Error(child.errno);
    if (how === 'parent-writes') yield* call(cpuAccess(core, lab.vpn, { token: tokenOf('P') }));
    seen.parentPfnKept = lab.pfn() === lab.f0;
    lab.deviceWrite('D');
    yield join(core.sim, child.process);
  });
  if (runTimed(lab.world.sim).end !== 'done') throw new Error('fork case did not end');
  return seen;
}

type Kind = 'anon_rw_touched' | 'anon_thp' | 'hugetlb_2m' | 'memfd_private_rw_touched';

function make(kernel: string, kind: Kind): Lab {
  const lab = new Lab({ kernel, params: { hugePages: { 9: 3 } } });
  if (kind === 'anon_thp') lab.map({ pages: 512 });
  else if (kind === 'hugetlb_2m') {
    lab.map({ pages: 512, file: lab.inode({ kind: 'hugetlb', sizePages: 512, hugeOrder: 9 }) });
  } else lab.map(kind === 'anon_rw_touched' ? {} : { file: lab.inode({ kind: 'shmem' }) });
  if (lab.pages === 512) lab.write('c');
  else lab.touchAll('c');
  return lab;
}

describe.each(RECORDED)('fork with a pinned page on %s', (kernel) => {
  describe.each(['anon_rw_touched', 'anon_thp', 'hugetlb_2m', 'memfd_private_rw_touched'] as const)('of %s', (kind) => {
    it.each(['parent-writes', 'child-writes', 'child-reads-only'] as const)(
      'gives the child its own copy (%s)',
      (how) => {
        const lab = make(kernel, kind);
        lab.pin(true, 8);
        expect(forkCase(lab, how)).toEqual({
          parentPfnKept: true,
          childHasPinnedPage: false,
          childSees: how === 'child-writes' ? 'C' : 'c',
        });
        expect(lab.read()).toBe('D');
      },
    );
  });

  it('with a read-only pin of anonymous memory keeps pin and parent together', () => {
    const lab = make(kernel, 'anon_rw_touched');
    lab.pin(false);
    expect(forkCase(lab, 'parent-writes')).toMatchObject({ parentPfnKept: true, childHasPinnedPage: false });
  });

  it('with a read-only pin of untouched memory parts them on 6.1, where the pin is of the zero page', () => {
    const lab = new Lab({ kernel });
    lab.map();
    lab.read();
    lab.pin(false);
    lab.f0 = lab.pinned[0]!.pfn;
    expect(lab.f0 === lab.core.zeroPfn).toBe(kernel === 'v6.1.192');
    const { core } = lab;
    let kept = false;
    actor(lab.world, lab.task, 'parent', function* () {
      yield* call(fork(core, {}, () => exit(core)));
      yield* call(cpuAccess(core, lab.vpn, { token: tokenOf('P') }));
      kept = lab.pfn() === lab.f0;
    });
    expect(runTimed(lab.world.sim).end).toBe('done');
    expect(kept).toBe(kernel === 'v6.12.117');
  });

  it('fails when a pinned huge page cannot be copied because the pool is empty', () => {
    const lab = new Lab({ kernel, params: { hugePages: { 9: 1 } } });
    lab.map({ pages: 512, file: lab.inode({ kind: 'hugetlb', sizePages: 512, hugeOrder: 9 }) });
    lab.write('c');
    lab.pin(true, 8);
    expect(lab.do(() => fork(lab.core, {}, () => exit(lab.core)))).toEqual({ errno: 'ENOMEM' });
    expect(lab.read()).toBe('c');
  });

  it.each(['parent-writes', 'child-reads-only'] as const)('shares what is mapped shared (%s)', (how) => {
    const lab = new Lab({ kernel });
    lab.map({ shared: true, file: lab.inode({ kind: 'shmem' }) });
    lab.touchAll('c');
    lab.pin();
    expect(forkCase(lab, how)).toMatchObject({ parentPfnKept: true, childSees: 'D' });
    expect(lab.read()).toBe('D');
  });
});

describe('fork', () => {
  it('shares an unpinned page read-only, and the first writer leaves', () => {
    const lab = new Lab();
    lab.map();
    lab.touchAll('c');
    lab.f0 = lab.pfn();
    const seen = forkCase(lab, 'child-writes');
    expect(seen.parentPfnKept).toBe(true);
    expect(seen.childSees).toBe('C');
    expect(lab.core.folios.peekMapcount(lab.f0)).toBe(1);
    expect(lab.core.folios.anonExclusive.peek(lab.f0)).toBe(0);
  });

  it('shares a page that only GUP with FOLL_GET holds, so that the parent writes elsewhere', () => {
    const lab = new Lab();
    lab.map();
    lab.touchAll('c');
    lab.f0 = lab.pfn();
    lab.world.sim.unwatched(() => lab.core.folios.refcount.set(lab.f0, lab.refcount() + 1));
    expect(forkCase(lab, 'parent-writes').parentPfnKept).toBe(false);
  });

  it('takes 1024 plain references for a pin once anything of the mm was pinned', () => {
    const lab = new Lab();
    lab.map();
    lab.touchAll('c');
    lab.f0 = lab.pfn();
    lab.world.sim.unwatched(() => {
      lab.core.folios.refcount.set(lab.f0, lab.refcount() + 1024);
      lab.mm.hasPinned.value = true;
    });
    expect(forkCase(lab, 'child-reads-only').childHasPinnedPage).toBe(false);
  });

  it('copies no page table of shared memory and leaves a hole for MADV_DONTFORK', () => {
    const lab = new Lab();
    lab.map({ shared: true, file: lab.inode({ kind: 'shmem' }) });
    lab.touchAll('c');
    const shared = lab.vpn;
    lab.map({ name: 'private' });
    lab.touchAll('p');
    lab.world.sim.unwatched(() => lab.mm.vmas.set(lab.vpn, lab.vma().with({ dontFork: true })));
    let tables: number[] = [];
    let vmas = 0;
    lab.do(function* () {
      const child = yield* call(fork(lab.core, {}, () => exit(lab.core)));
      if (!('task' in child)) throw new Error(child.errno);
      const mm = child.task.mm.peek()!;
      tables = [mm.pageTable.peekFrame(shared), mm.pageTable.peekFrame(lab.vpn)];
      vmas = lab.world.sim.unwatched(() => mm.vmas.size);
    });
    expect(tables).toEqual([0, 0]);
    expect(vmas).toBe(1);
  });

  it('inherits neither locked memory nor MMF_HAS_PINNED', () => {
    const lab = new Lab();
    lab.map({ locked: true });
    lab.pin();
    lab.do(function* () {
      const child = yield* call(fork(lab.core, {}, () => exit(lab.core)));
      if (!('task' in child)) throw new Error(child.errno);
      const mm = child.task.mm.peek()!;
      expect(mm.hasPinned.peek()).toBe(false);
      expect(lab.world.sim.unwatched(() => mm.vmaAt(lab.vpn)?.fields.locked)).toBe(false);
      expect(mm.lockedVm.peek()).toBe(0);
    });
    expect(lab.mm.lockedVm.peek()).toBe(8);
  });

  it('fails with ENOMEM when an early copy finds no memory, and takes the half-made child down', () => {
    const lab = new Lab();
    lab.map();
    lab.touchAll('c');
    lab.pin();
    lab.world.sim.unwatched(() => {
      for (const zone of lab.core.zones) zone.freeRuns.value = [];
      for (const cpu of lab.core.perCpu) cpu.freePages.value = [];
    });
    const refs = lab.refcount();
    const child = lab.do(() => fork(lab.core, {}, () => exit(lab.core)));
    expect(child).toEqual({ errno: 'ENOMEM' });
    expect(lab.refcount()).toBe(refs);
    expect(lab.read()).toBe('c');
  });
});
