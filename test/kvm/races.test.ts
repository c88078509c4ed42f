// Races of KVM against memory management, each with its fix switched off (the bad state appears under some order) and on
// (it never does). Numbers B*: domain page on KVM, section 4.
import { describe, expect, it } from 'vitest';
import { call, type Process, type Steps } from '../../src/engine/process.ts';
import { exploreSim } from '../../src/explore/explore.ts';
import { swapTest } from '../../src/explore/swap.ts';
import { vcpuRead, vcpuWrite } from '../../src/guest/vcpu.ts';
import { getDirtyLog } from '../../src/kvm/dirty-log.ts';
import { GfnToPfnCache } from '../../src/kvm/gpc.ts';
import { gpcAccess, gpcActivate, gpcRefresh } from '../../src/kvm/gpc-refresh.ts';
import { KVM_MEM_LOG_DIRTY_PAGES } from '../../src/kvm/memslot.ts';
import { setUserMemoryRegion } from '../../src/kvm/set-memory-region.ts';
import type { VmOptions } from '../../src/kvm/vm.ts';
import { zapGfnRange } from '../../src/kvm/zap.ts';
import { lruAddDrainAll } from '../../src/mm/reclaim/lru.ts';
import { zapVmaRange } from '../../src/mm/zap/zap.ts';
import { placeVma } from '../support/memory.ts';
import { actor, type WorldOptions } from '../support/world.ts';
import { CheckerSet } from './checkers.ts';
import { addSlot, as, B, GFN, type Guest, guestWrite, makeGuest, mapMemory, region, setSlot, VPN } from './guest.ts';

/** Memory that only a second slot uses, to be deleted beside the first. */
const OTHER_GFN = 0x1000;
const OTHER_VPN = 0x40000;

interface Race {
  readonly guest: Guest;
  readonly atEnd?: () => void;
}

/** Inequivalent orders of the actors that `build` spawns: every finding, by message, and whether that was all of them. */
function explored(build: () => Race, maxExecutions = 3000): { found: string; complete: boolean } {
  const { guest, atEnd } = build();
  const checkers = new CheckerSet(guest);
  const result = exploreSim(guest.world.sim, {
    strategy: 'dpor',
    maxExecutions,
    maxSteps: 3000,
    atEnd: () => {
      atEnd?.();
      checkers.atEnd();
    },
  });
  process.stdout.write(`${result.executions} ${result.complete} ${result.steps} ${result.limits}\n`);
  return {
    found: result.findings.map(({ kind, message }) => `${kind}: ${message}`).join('; '),
    complete: result.complete,
  };
}

function start(guest: Guest, name: string, body: () => Steps<unknown>): Process {
  return actor(guest.world, guest.task, name, function* () {
    yield* call(body());
  });
}

const dropMemory = (guest: Guest, pages = 8) => {
  const vma = guest.world.sim.unwatched(() => guest.mm.vmaAt(VPN))!;
  return zapVmaRange(guest.core, guest.mm, vma, VPN, VPN + pages, 'CLEAR');
};

/** A window in which nothing happens to the host's tables. */
function* openAndClose(guest: Guest, from: number, to: number): Steps<void> {
  const range = { mm: guest.mm, start: from, end: to, event: 'PROTECTION_PAGE', blockable: true } as const;
  yield* call(guest.mm.notifiers.start(range));
  yield* call(guest.mm.notifiers.end(range));
}

/** Guest memory in use, and a second slot. */
function twoSlots(without: readonly string[], options: WorldOptions = {}, vm: Partial<VmOptions> = {}): Guest {
  const guest = makeGuest({ changes: { without }, ...options }, vm);
  mapMemory(guest);
  placeVma(guest.mm, OTHER_VPN, 1, {});
  addSlot(guest);
  setSlot(guest, region(2, OTHER_GFN, 1, OTHER_VPN));
  guestWrite(guest);
  // A page that has just been faulted in is still in a per-CPU batch, which would keep it alive.
  as(guest, () => lruAddDrainAll(guest.core));
  guest.world.sim.finishSetUp();
  return guest;
}

/** Every translation that is counted can be found in a table that somebody uses. */
function expectNothingLost(guest: Guest): void {
  const { core, vm, world } = guest;
  const counted = new Map<number, number>();
  for (const pfn of core.frames.translations.filled()) counted.set(pfn, core.frames.translations.peek(pfn));
  for (const root of vm.roots.peek()) {
    for (const { spte } of root.peekAll()) {
      const head = core.folios.headOf(spte.pfn);
      counted.set(head, (counted.get(head) ?? 0) - 1);
    }
  }
  for (const [pfn, left] of counted) {
    if (left !== 0) world.sim.fail(`translations of pfn ${pfn}: ${left} more than entries that can be found`);
  }
}

/** What the guest's tables map is what the VMM's page tables map. */
function expectCoherent(guest: Guest): void {
  const { vm, mm, world } = guest;
  expectNothingLost(guest);
  for (const root of vm.roots.peek()) {
    for (const { gfn, spte } of root.peekAll()) {
      const own = mm.pageTable.peekFrame(VPN + (gfn - GFN));
      if (own !== spte.pfn) world.sim.fail(`gfn ${gfn} is pfn ${spte.pfn}, and the VMM has ${own}`);
    }
  }
  expectBalanced(guest);
}

function expectBalanced({ vm, world }: Guest): void {
  const open = vm.inProgress.peek();
  if (open !== 0) world.sim.fail(`mmu_invalidate_in_progress is ${open} though no window is open`);
}

describe('B5: a notifier while a memslot update zaps dead roots', () => {
  const race = (without: readonly string[]) => () => {
    const guest = twoSlots(without);
    start(guest, 'updater', () => setUserMemoryRegion(guest.vm, region(2, 0, 0, 0)));
    start(guest, 'madvise', () => dropMemory(guest));
    return { guest };
  };

  it('leaves entries of dead roots behind when it looks at valid roots only', () => {
    const { found } = explored(race(['kvm.zap-covers-invalid-roots']));
    expect(found).toMatch(/stale-mapping: pfn \d+ goes back to the allocator while 1 translation still leads/);
    expect(found).toMatch(/use-after-free: updater sets PG_dirty of pfn/);
  });

  it('removes the entries of all roots when it looks at all', () => {
    expect(explored(race([]))).toEqual({ found: '', complete: true });
  });
});

describe('a page fault against madvise', () => {
  it.each(['v6.1.192', 'v6.12.117', 'v6.14'])('never leaves the guest on a page that is gone (%s)', (kernel) => {
    const { found, complete } = explored(() => {
      const guest = twoSlots([], { kernel });
      start(guest, 'vcpu', () => vcpuRead(guest.vm, guest.vcpu, GFN + 1));
      start(guest, 'madvise', () => dropMemory(guest));
      return { guest, atEnd: () => expectCoherent(guest) };
    });
    expect({ found, complete }).toEqual({ found: '', complete: true });
  });
});

describe('B6: a page fault while a memslot update invalidates its root', () => {
  const race = (without: readonly string[]) => () => {
    const guest = twoSlots(without);
    // The vCPU has a root and faults on a page that nobody has touched.
    start(guest, 'vcpu', () => vcpuRead(guest.vm, guest.vcpu, GFN + 1));
    start(guest, 'updater', () => setUserMemoryRegion(guest.vm, region(2, 0, 0, 0)));
    return { guest, atEnd: () => expectNothingLost(guest) };
  };

  it('completes into the dead root when it does not look at it again', () => {
    expect(explored(race(['kvm.retry-if-root-invalid'])).found).toContain('translations of pfn');
  });

  it('starts again when it does', () => {
    expect(explored(race([]))).toEqual({ found: '', complete: true });
  });
});

describe('B3: memslots that change between the start and the end of a window', () => {
  const race = (without: readonly string[]) => () => {
    const guest = twoSlots(without);
    start(guest, 'updater', () => setUserMemoryRegion(guest.vm, region(1, 0, 0, 0)));
    start(guest, 'madvise', () => dropMemory(guest));
    return { guest, atEnd: () => expectBalanced(guest) };
  };

  it('leave mmu_invalidate_in_progress raised for ever', () => {
    const without = ['kvm.memslot-update-waits-for-windows', 'gpc.refresh-sees-open-windows'];
    expect(explored(race(without)).found).toContain('mmu_invalidate_in_progress is 1 though no window is open');
  });

  it('wait until no window is open', () => {
    expect(explored(race([]))).toEqual({ found: '', complete: true });
  });
});

describe('B9: kvm_zap_gfn_range', () => {
  /** The zapper drops mmu_lock after the first page; the vCPU comes; the zapper goes on. Is page 0 mapped in the end? */
  const mappedAfterwards = (without: readonly string[]): boolean => {
    const guest = twoSlots(without, { kernel: 'v6.1.192' }, { yields: true });
    guestWrite(guest, GFN + 1);
    guest.world.sim.finishSetUp();
    const zapper = start(guest, 'zapper', () => zapGfnRange(guest.vm, GFN, GFN + 8));
    const vcpu = start(guest, 'vcpu', () => vcpuRead(guest.vm, guest.vcpu, GFN));
    const { sim } = guest.world;
    sim.choices = { choose: () => 1 };
    while (!zapper.announced.step.label.endsWith(':relock')) sim.act(zapper);
    while (vcpu.enabled && vcpu.state === 'live') sim.act(vcpu);
    sim.choices = null;
    while (zapper.state === 'live') sim.act(zapper);
    const mapped = guest.vm.peekValidRoot(0)!.peek(GFN).bits !== 0;
    while (vcpu.state === 'live') sim.act(vcpu);
    return mapped;
  };

  it('lets entries in behind its back when it blocks nobody', () => {
    expect(mappedAfterwards(['kvm.zap-gfn-range-blocks-faults'])).toBe(true);
  });

  it('blocks faults until it is done', () => {
    expect(mappedAfterwards([])).toBe(false);
  });
});

describe('B13: a zap that drops mmu_lock with entries in TLBs still to be flushed', () => {
  /** Two windows over one page: the second finds no entry left and has nothing to flush. What does the vCPU reach? */
  const findings = (without: readonly string[]): string[] => {
    const guest = twoSlots(without, {}, { yields: true });
    const { sim } = guest.world;
    new CheckerSet(guest);
    const vma = guest.mm.vmas.floor(VPN)![1];
    const window = start(guest, 'window', () => openAndClose(guest, VPN, VPN + 2));
    const madvise = start(guest, 'madvise', () => zapVmaRange(guest.core, guest.mm, vma, VPN, VPN + 1, 'CLEAR'));
    const vcpu = start(guest, 'vcpu', () => vcpuRead(guest.vm, guest.vcpu, GFN));
    sim.choices = { choose: () => 1 };
    while (!window.announced.step.label.endsWith(':relock')) sim.act(window);
    while (madvise.state === 'live') sim.act(madvise);
    while (vcpu.state === 'live' && vcpu.enabled) sim.act(vcpu);
    while (window.state === 'live') sim.act(window);
    sim.choices = null;
    return sim.findings.map(({ kind, message }) => `${kind}: ${message}`);
  };

  it('lets the other one free a page that a vCPU still reaches', () => {
    expect(findings(['kvm.yield-flushes-first'])).toEqual([
      expect.stringMatching(/^stale-mapping: vcpu reads pfn \d+ at 0x8000 of vm through its guest TLB, though/),
    ]);
  });

  it('flushes before it drops the lock', () => {
    expect(findings([])).toEqual([]);
  });
});

describe('B16: the refresh of a gfn-to-pfn cache against a window', () => {
  const race = (without: readonly string[]) => () => {
    const guest = twoSlots(without);
    const gpc = new GfnToPfnCache(guest.world.sim, 'pvclock');
    as(guest, () => gpcActivate(guest.vm, gpc, { gfn: GFN }));
    guest.world.sim.finishSetUp();
    start(guest, 'vcpu', function* () {
      yield* call(gpcRefresh(guest.vm, gpc));
      yield* call(gpcAccess(guest.vm, gpc, { token: B }));
    });
    start(guest, 'madvise', () => dropMemory(guest, 1));
    return { guest };
  };

  it('publishes a page that is about to go when it looks at the count of the fault path', () => {
    expect(explored(race(['gpc.refresh-sees-open-windows']), 20_000).found).toMatch(
      /use-after-free: vcpu writes pfn \d+/,
    );
  });

  it('starts again when it looks at the count of open windows', () => {
    expect(explored(race([]), 20_000)).toEqual({ found: '', complete: true });
  });
});

describe('B10: the invalidation sequence beyond 31 bits', () => {
  const race = (without: readonly string[]) => () => {
    const guest = twoSlots(without, { kernel: 'v6.1.192' });
    guest.vm.seq.value = 2 ** 31;
    start(guest, 'vcpu', () => vcpuRead(guest.vm, guest.vcpu, GFN + 1));
    return { guest };
  };

  it('lets no page fault succeed when the snapshot has 32 bits', () => {
    expect(explored(race(['kvm.seq-full-width'])).found).toMatch(
      /^livelock: page faults of vm can never succeed again/,
    );
  });

  it('does not matter when the snapshot is as wide as the counter', () => {
    expect(explored(race([])).found).toBe('');
  });
});

describe('steps of KVM', () => {
  it.each(['v6.1.192', 'v6.12.117', 'v6.14'])('that announce nothing in common may be swapped (%s)', (kernel) => {
    const guest = twoSlots([], { kernel });
    const gpc = new GfnToPfnCache(guest.world.sim, 'pvclock');
    as(guest, () => gpcActivate(guest.vm, gpc, { gfn: GFN }));
    as(guest, () => setUserMemoryRegion(guest.vm, region(1, GFN, 8, VPN, KVM_MEM_LOG_DIRTY_PAGES)));
    const second = guest.vm.addVcpuNow();
    guest.world.sim.finishSetUp();
    start(guest, 'vcpu', () => vcpuWrite(guest.vm, guest.vcpu, GFN, B));
    start(guest, 'second', () => vcpuRead(guest.vm, second, GFN + 1));
    start(guest, 'updater', () => setUserMemoryRegion(guest.vm, region(2, 0, 0, 0)));
    start(guest, 'madvise', () => dropMemory(guest));
    start(guest, 'cache', () => gpcAccess(guest.vm, gpc, { token: B }));
    start(guest, 'migration', () => getDirtyLog(guest.vm, 1));
    const result = swapTest(guest.world.sim, { runs: 25 });
    expect(result.failure).toBeNull();
    expect(result.swaps).toBeGreaterThan(50);
  });
});
