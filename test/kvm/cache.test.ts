// Kernel mappings of guest pages: gfn-to-pfn caches, which notifiers invalidate, and kvm_vcpu_map, which holds its page.
import { describe, expect, it } from 'vitest';
import { call, type Steps } from '../../src/engine/process.ts';
import { exploreSim } from '../../src/explore/explore.ts';
import { getDirtyLog } from '../../src/kvm/dirty-log.ts';
import { GfnToPfnCache } from '../../src/kvm/gpc.ts';
import { gpcAccess, gpcActivate, gpcDeactivate, gpcRefresh } from '../../src/kvm/gpc-refresh.ts';
import { KVM_MEM_LOG_DIRTY_PAGES } from '../../src/kvm/memslot.ts';
import { type HostMap, hostMapAccess, vcpuMap, vcpuUnmap } from '../../src/kvm/vcpu-map.ts';
import type { PfnMapping } from '../../src/mm/mapping/vma.ts';
import { lruAddDrainAll } from '../../src/mm/reclaim/lru.ts';
import { zapVmaRange } from '../../src/mm/zap/zap.ts';
import { tokenOf } from '../support/tokens.ts';
import { actor } from '../support/world.ts';
import { CheckerSet } from './checkers.ts';
import {
  addSlot,
  as,
  B,
  cpuRead,
  GFN,
  type Guest,
  guestRead,
  guestWrite,
  makeGuest,
  mapMemory,
  region,
  setSlot,
  VPN,
} from './guest.ts';

const KERNEL = tokenOf('kernel');

function inUse(changes: { without?: readonly string[] } = {}, kernel = 'v6.12.117', flags = 0): Guest {
  const guest = makeGuest({ kernel, changes });
  mapMemory(guest);
  addSlot(guest, 8, flags);
  guestWrite(guest);
  as(guest, () => lruAddDrainAll(guest.core));
  return guest;
}

function drop(guest: Guest): void {
  const vma = guest.mm.vmas.floor(VPN)![1];
  as(guest, () => zapVmaRange(guest.core, guest.mm, vma, VPN, VPN + 8, 'CLEAR'));
}

describe('a gfn-to-pfn cache', () => {
  const cached = (guest: Guest) => {
    const gpc = new GfnToPfnCache(guest.world.sim, 'pvclock');
    expect(as(guest, () => gpcActivate(guest.vm, gpc, { gfn: GFN }))).toBe('ok');
    return gpc;
  };

  it('reaches the page of the guest, and holds no reference', () => {
    const guest = inUse();
    const pfn = guest.mm.pageTable.peekFrame(VPN);
    const gpc = cached(guest);
    expect(guest.core.folios.refcount.peek(pfn)).toBe(1);
    expect(as(guest, () => gpcAccess(guest.vm, gpc, { token: KERNEL }))).toEqual({ token: KERNEL });
    expect(guestRead(guest)).toEqual({ token: KERNEL });
  });

  it('held a reference in 5.17', () => {
    const guest = inUse({}, 'v5.17');
    const pfn = guest.mm.pageTable.peekFrame(VPN);
    const gpc = cached(guest);
    expect(guest.core.folios.refcount.peek(pfn)).toBe(2);
    as(guest, () => gpcDeactivate(guest.vm, gpc));
    expect(guest.core.folios.refcount.peek(pfn)).toBe(1);
  });

  it('is invalid after a window over its page, and valid again for the new page after a refresh', () => {
    const guest = inUse();
    const gpc = cached(guest);
    drop(guest);
    expect(gpc.state.peek().valid).toBe(false);
    expect(as(guest, () => gpcAccess(guest.vm, gpc, { token: KERNEL }))).toEqual({ token: KERNEL });
    expect(cpuRead(guest)).toEqual({ token: KERNEL });
  });

  it('finds that the memslots changed, even if no window was open', () => {
    const guest = inUse();
    const gpc = cached(guest);
    setSlot(guest, region(1, 0, 0, 0));
    expect(gpc.state.peek().valid).toBe(true);
    expect(as(guest, () => gpcAccess(guest.vm, gpc, null))).toEqual({ errno: 'EFAULT' });
  });

  it('cannot be refreshed once it is not active', () => {
    const guest = inUse();
    const gpc = cached(guest);
    as(guest, () => gpcDeactivate(guest.vm, gpc));
    expect(as(guest, () => gpcRefresh(guest.vm, gpc))).toBe('EINVAL');
    expect(as(guest, () => gpcAccess(guest.vm, gpc, null))).toEqual({ errno: 'EINVAL' });
  });

  it('before 6.0.8 could, and then missed every window', () => {
    const guest = inUse({ without: ['gpc.rejects-inactive'] });
    new CheckerSet(guest);
    const gpc = cached(guest);
    as(guest, () => gpcDeactivate(guest.vm, gpc));
    expect(as(guest, () => gpcRefresh(guest.vm, gpc))).toBe('ok');
    drop(guest);
    expect(gpc.state.peek().valid).toBe(true);
    as(guest, () => gpcAccess(guest.vm, gpc, { token: KERNEL }));
    expect(guest.world.sim.findings.map(({ kind }) => kind)).toEqual(['use-after-free']);
  });

  it('whose lock is initialised again while it is held is unlocked below zero', () => {
    const race = (without: readonly string[]) => {
      const guest = inUse({ without });
      const gpc = cached(guest);
      const body = (steps: () => Steps<unknown>) =>
        function* () {
          yield* call(steps());
        };
      guest.world.sim.finishSetUp();
      actor(
        guest.world,
        guest.task,
        'user',
        body(() => gpcAccess(guest.vm, gpc, null)),
      );
      actor(
        guest.world,
        guest.task,
        'owner',
        body(function* () {
          yield* call(gpcDeactivate(guest.vm, gpc));
          yield* call(gpcActivate(guest.vm, gpc, { gfn: GFN }));
        }),
      );
      return exploreSim(guest.world.sim, { maxExecutions: 5000 });
    };
    expect(race(['gpc.locks-set-up-once']).findings.map(({ message }) => message)).toContain(
      'pvclock is unlocked after its lock was initialised anew: the count of readers becomes -1',
    );
    expect(race([])).toMatchObject({ findings: [], complete: true });
  });
});

describe('kvm_vcpu_map', () => {
  const map = (guest: Guest, gfn = GFN) => as(guest, () => vcpuMap(guest.vm, gfn));

  it.each([
    ['v6.12.117', 1, 0],
    ['v6.13', 1024, 1],
  ])('holds the page: %s adds %d to its count and %d to the pins', (kernel, references, pins) => {
    const guest = inUse({}, kernel);
    const pfn = guest.mm.pageTable.peekFrame(VPN);
    const mapped = map(guest) as HostMap;
    expect(guest.core.folios.refcount.peek(pfn)).toBe(1 + references);
    expect(guest.core.vmstat.peek('nr_foll_pin_acquired')).toBe(pins);
    as(guest, () => vcpuUnmap(guest.vm, mapped, true));
    expect(guest.core.folios.refcount.peek(pfn)).toBe(1);
    expect(guest.core.vmstat.peek('nr_foll_pin_released')).toBe(pins);
  });

  it('keeps the old page when the VMM drops the memory, and the guest does not see its writes', () => {
    const guest = inUse();
    const mapped = map(guest) as HostMap;
    drop(guest);
    as(guest, () => hostMapAccess(guest.vm, mapped, { token: KERNEL }));
    expect(guestRead(guest)).toEqual({ token: 0 });
  });

  it('marks the frame in the dirty log at unmap', () => {
    const guest = inUse({}, 'v6.12.117', KVM_MEM_LOG_DIRTY_PAGES);
    as(guest, () => getDirtyLog(guest.vm, 1));
    const mapped = map(guest, GFN) as HostMap;
    as(guest, () => hostMapAccess(guest.vm, mapped, { token: KERNEL }));
    expect(as(guest, () => getDirtyLog(guest.vm, 1))).toEqual({ dirty: [] });
    as(guest, () => vcpuUnmap(guest.vm, mapped, true));
    expect(as(guest, () => getDirtyLog(guest.vm, 1))).toEqual({ dirty: [0] });
  });

  it('is refused with EINVAL where there is no memory', () => {
    expect(map(inUse(), 0x999)).toBe('EINVAL');
  });

  it.each([
    ['v6.12.117', 'object'],
    ['v6.13', 'string'],
  ])('of raw frames works until 6.12: %s', (kernel, type) => {
    const bar: PfnMapping = { name: 'BAR', frameAt: (offset) => 17408 + offset, writable: true, eager: false };
    const zones = [
      { kind: 'NORMAL', node: 0, pages: 16384 },
      { kind: 'DEVICE', node: 0, pages: 512 },
    ] as const;
    const guest = makeGuest({ kernel, zones });
    mapMemory(guest, 8, { pfnMapping: bar, pgoff: 0, io: true, shared: true });
    addSlot(guest);
    expect(typeof map(guest)).toBe(type);
  });

  it('reads what the guest wrote', () => {
    const guest = inUse();
    const mapped = map(guest) as HostMap;
    expect(as(guest, () => hostMapAccess(guest.vm, mapped, null))).toBe(B);
  });
});
