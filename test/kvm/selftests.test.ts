// What the kernel's KVM self-tests assert, and what its code promises, about memory: mmu_stress, memslot_modification,
// set_memory_region, max_guest_memory; raw frames; the end of a VM and of its process.
import { describe, expect, it } from 'vitest';
import { call } from '../../src/engine/process.ts';
import { exploreSim } from '../../src/explore/explore.ts';
import { type GuestResult, vcpuRead, vcpuWrite } from '../../src/guest/vcpu.ts';
import { createVcpu, destroyVm } from '../../src/kvm/create.ts';
import { preFaultMemory } from '../../src/kvm/pre-fault.ts';
import { setUserMemoryRegion } from '../../src/kvm/set-memory-region.ts';
import { cpuAccess } from '../../src/mm/fault/access.ts';
import { munmap } from '../../src/mm/mapping/mmap.ts';
import { mprotect } from '../../src/mm/mapping/mprotect.ts';
import type { PfnMapping } from '../../src/mm/mapping/vma.ts';
import { exit } from '../../src/mm/process/exit.ts';
import { placeVma, reserveFrames } from '../support/memory.ts';
import { tokenOf } from '../support/tokens.ts';
import { actor } from '../support/world.ts';
import { CheckerSet } from './checkers.ts';
import {
  addSlot,
  as,
  B,
  cpuRead,
  cpuWrite,
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

const [ONE, TWO] = [tokenOf('1'), tokenOf('2')];

function inUse(options: Parameters<typeof makeGuest>[0] = {}): Guest {
  const guest = makeGuest(options);
  mapMemory(guest);
  addSlot(guest);
  guestWrite(guest);
  return guest;
}

describe('mprotect(PROT_READ) of guest memory', () => {
  const protect = (guest: Guest, write: boolean) =>
    as(guest, () => mprotect(guest.core, VPN, 8, { read: true, write, exec: false }));

  it('makes every guest write EFAULT, lets reads through, and is forgotten with PROT_WRITE', () => {
    const guest = inUse();
    for (let i = 1; i < 8; i++) guestWrite(guest, GFN + i);
    protect(guest, false);
    for (let i = 0; i < 8; i++) {
      expect(guestWrite(guest, GFN + i, TWO)).toEqual({ exit: 'EFAULT' });
      expect(guestRead(guest, GFN + i)).toEqual({ token: B });
    }
    protect(guest, true);
    for (let i = 0; i < 8; i++) expect(guestWrite(guest, GFN + i, TWO)).toEqual({ token: TWO });
  });
});

describe('changing memslots under a running guest', () => {
  it('that are not its own never shows in its writes', () => {
    const guest = inUse();
    placeVma(guest.mm, 0x40000, 1, {});
    const seen: GuestResult[] = [];
    guest.world.sim.finishSetUp();
    guest.world.sim.onRewind(() => {
      seen.length = 0;
    });
    actor(guest.world, guest.task, 'vcpu', function* () {
      seen.push(yield* call(vcpuWrite(guest.vm, guest.vcpu, GFN, TWO)));
    });
    actor(guest.world, guest.task, 'vmm', function* () {
      yield* call(setUserMemoryRegion(guest.vm, region(2, 0x100, 1, 0x40000)));
      yield* call(setUserMemoryRegion(guest.vm, region(2, 0, 0, 0)));
    });
    const result = exploreSim(guest.world.sim, {
      maxExecutions: 30_000,
      atEnd: (sim) => {
        if (seen.length !== 1 || !('token' in seen[0]!))
          sim.fail(`the guest write came back as ${JSON.stringify(seen)}`);
      },
    });
    expect(result).toMatchObject({ findings: [], complete: true });
  });

  it('moves memory away and back: the guest sees it or MMIO, never what was written meanwhile', () => {
    const guest = inUse();
    cpuWrite(guest, VPN + 1, ONE);
    guestRead(guest, GFN + 1);
    const seen: GuestResult[] = [];
    guest.world.sim.finishSetUp();
    guest.world.sim.onRewind(() => {
      seen.length = 0;
    });
    actor(guest.world, guest.task, 'vcpu', function* () {
      seen.push(yield* call(vcpuRead(guest.vm, guest.vcpu, GFN + 1)));
    });
    actor(guest.world, guest.task, 'vmm', function* () {
      // One page down: frame GFN + 1 is beyond the moved slot's second page.
      yield* call(setUserMemoryRegion(guest.vm, region(1, GFN + 0x100, 8, VPN)));
      yield* call(cpuAccess(guest.core, VPN + 1, { token: TWO }));
      yield* call(cpuAccess(guest.core, VPN + 1, { token: ONE }));
      yield* call(setUserMemoryRegion(guest.vm, region(1, GFN, 8, VPN)));
    });
    const result = exploreSim(guest.world.sim, {
      strategy: 'random',
      runs: 1500,
      atEnd: (sim) => {
        const [got] = seen;
        if (got === undefined || ('token' in got ? got.token !== ONE : got.exit !== 'MMIO')) {
          sim.fail(`the guest saw ${JSON.stringify(got)}`);
        }
      },
    });
    expect(result.findings).toEqual([]);
  });
});

describe('KVM_PRE_FAULT_MEMORY', () => {
  const preFault = (guest: Guest, gpa: bigint, size: bigint, flags = 0) =>
    as(guest, () => preFaultMemory(guest.vm, guest.vcpu, { gpa, size, flags }));
  const START = BigInt(GFN) * 4096n;
  const memory = (kernel = 'v6.12.117') => {
    const guest = makeGuest({ kernel });
    mapMemory(guest);
    addSlot(guest);
    return guest;
  };

  it('maps a slot, and leaves nothing to do', () => {
    const guest = memory();
    expect(preFault(guest, START, 8n * 4096n)).toEqual({ gpa: START + 8n * 4096n, size: 0n });
    expect([...guest.vm.peekValidRoot(0)!.peekAll()].map(({ gfn }) => gfn - GFN)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('stops at the end of the slot, and says ENOENT only when it starts there', () => {
    const guest = memory();
    expect(preFault(guest, START + 7n * 4096n, 2n * 4096n)).toEqual({ gpa: START + 8n * 4096n, size: 4096n });
    expect(preFault(guest, START + 8n * 4096n, 4096n)).toMatchObject({ size: 4096n, errno: 'ENOENT' });
  });

  it('refuses flags, odd addresses, empty and wrapping ranges', () => {
    const guest = memory();
    for (const [gpa, size, flags] of [
      [START, 4096n, 1],
      [START + 1n, 4096n, 0],
      [START, 4097n, 0],
      [START, 0n, 0],
      [2n ** 64n - 4096n, 4096n, 0],
    ] as const) {
      expect(preFault(guest, gpa, size, flags)).toMatchObject({ errno: 'EINVAL' });
    }
  });

  it('is not known to 6.1', () => {
    expect(preFault(memory('v6.1.192'), START, 4096n)).toMatchObject({ errno: 'ENOTTY' });
  });
});

describe('raw frames behind a memslot', () => {
  /** Memory that a driver maps without counted pages: `pfn` has a struct page that nobody counts. */
  const raw = (without: readonly string[], fields: { write: boolean; counted: boolean }) => {
    const guest = makeGuest({ kernel: 'v5.10', changes: { with: without.length === 0 ? ALL : [] } });
    const pfn = reserveFrames(guest.core, 0, 8);
    if (fields.counted) for (let i = 0; i < 8; i++) guest.core.folios.refcount.set(pfn + i, 1);
    const mapping: PfnMapping = { name: 'frames', frameAt: (offset) => pfn + offset, writable: true, eager: false };
    mapMemory(guest, 8, { pfnMapping: mapping, pgoff: 0, io: true, shared: true, write: fields.write });
    addSlot(guest);
    return { guest, pfn };
  };
  const ALL = ['kvm.refcounted-frames-only', 'kvm.pfnmap-checks-write'];

  it('B1: are freed by KVM when it counts them though their owner does not', () => {
    const { guest, pfn } = raw(['both'], { write: true, counted: false });
    const generation = guest.core.frames.peekGeneration(pfn);
    guestRead(guest);
    expect(guest.core.frames.peekGeneration(pfn)).toBe(generation + 1);
  });

  it('are refused since 5.13 when their count is zero, and mapped when it is not', () => {
    const uncounted = raw([], { write: true, counted: false });
    expect(guestRead(uncounted.guest)).toEqual({ exit: 'EFAULT' });
    const counted = raw([], { write: true, counted: true });
    expect(guestRead(counted.guest)).toEqual({ token: 0 });
    expect(counted.guest.core.folios.refcount.peek(counted.pfn)).toBe(1);
  });

  it('B2: are written by the guest through a read-only mapping when KVM does not look', () => {
    const blind = raw(['both'], { write: false, counted: true });
    guestRead(blind.guest);
    expect(guestWrite(blind.guest)).toEqual({ token: B });
    const looking = raw([], { write: false, counted: true });
    guestRead(looking.guest);
    expect(guestWrite(looking.guest)).toEqual({ exit: 'MMIO' });
  });
});

describe('the end', () => {
  it('of a VM leaves no translation, no notifier, no reference', () => {
    const guest = inUse();
    const pfn = guest.mm.pageTable.peekFrame(VPN);
    new CheckerSet(guest);
    as(guest, () => munmap(guest.core, VPN + 4, 4));
    as(guest, () => destroyVm(guest.vm));
    expect(guest.core.frames.translations.peek(pfn)).toBe(0);
    expect(guest.mm.notifiers.hasSubscribers).toBe(false);
    expect(guestRead(guest)).toEqual({ exit: 'EIO' });
    expect(setSlot(guest, region(3, 0x100, 1, VPN))).toBe('EIO');
    expect(cpuRead(guest)).toEqual({ token: B });
    expect(guest.world.sim.findings).toEqual([]);
  });

  it('of its process while the VM is open takes the translations before the pages', () => {
    const guest = inUse();
    new CheckerSet(guest);
    const pfn = guest.mm.pageTable.peekFrame(VPN);
    as(guest, () => exit(guest.core));
    expect(guest.core.frames.translations.peek(pfn)).toBe(0);
    expect(guest.world.sim.findings).toEqual([]);
  });

  it('of one window frees the page only after every vCPU has left it', () => {
    const guest = inUse();
    new CheckerSet(guest);
    const second = as(guest, () => createVcpu(guest.vm));
    as(guest, () => vcpuRead(guest.vm, second, GFN));
    expect(second.tlb.peek()).toHaveLength(1);
    as(guest, () => munmap(guest.core, VPN, 8));
    expect([guest.vcpu.tlb.peek(), second.tlb.peek()]).toEqual([[], []]);
    expect(as(guest, () => vcpuRead(guest.vm, second, GFN))).toEqual({ exit: 'EFAULT' });
    expect(guest.world.sim.findings).toEqual([]);
  });
});
