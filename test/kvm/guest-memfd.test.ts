// guest_memfd: private and shared memory of one guest frame, holes, changes of attributes, and the end of the file beside
// everything else.
import { describe, expect, it } from 'vitest';
import { call, type Steps } from '../../src/engine/process.ts';
import { exploreSim } from '../../src/explore/explore.ts';
import { vcpuRead, vcpuWrite } from '../../src/guest/vcpu.ts';
import { GuestMemfd } from '../../src/kvm/gmem-file.ts';
import { createGuestMemfd, gmemFallocate } from '../../src/kvm/guest-memfd.ts';
import { setMemoryAttributes } from '../../src/kvm/memory-attributes.ts';
import { KVM_MEM_GUEST_MEMFD, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY } from '../../src/kvm/memslot.ts';
import { type MemoryRegion, setUserMemoryRegion } from '../../src/kvm/set-memory-region.ts';
import type { Errno } from '../../src/mm/errno.ts';
import { fput } from '../../src/mm/process/exit.ts';
import { tokenOf } from '../support/tokens.ts';
import { actor, type WorldOptions } from '../support/world.ts';
import { CheckerSet } from './checkers.ts';
import {
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

const C = tokenOf('c');
const ZERO = { token: 0 };
const PAGES = 8;

interface Protected extends Guest {
  readonly gmem: GuestMemfd;
}

function create(guest: Guest, size: bigint, flags = 0): GuestMemfd | Errno {
  return as(guest, () => createGuestMemfd(guest.vm, { name: `memfd of ${size}`, size, flags }));
}

function bound(gmem: GuestMemfd, slot: number, gfn: number, offset = 0n, flags = KVM_MEM_GUEST_MEMFD): MemoryRegion {
  return { ...region(slot, gfn, PAGES, VPN, flags), guestMemfd: { file: gmem.file, offset } };
}

/** A software-protected VM whose slot has shared memory of the process and private memory of guest_memfd. */
function protectedGuest(options: WorldOptions = {}): Protected {
  const guest = makeGuest({ kernel: 'v6.12.117+pinlab', ...options }, { privateMemory: true });
  mapMemory(guest, PAGES);
  const gmem = create(guest, BigInt(PAGES) * 4096n);
  if (typeof gmem === 'string') throw new Error(gmem);
  expect(setSlot(guest, bound(gmem, 1, GFN))).toBe('ok');
  return { ...guest, gmem };
}

const attributesOf = (guest: Guest, gfn: number, pages: number, attributes: number): Steps<'ok' | Errno> =>
  setMemoryAttributes(guest.vm, {
    address: BigInt(gfn) * 4096n,
    size: BigInt(pages) * 4096n,
    attributes,
    flags: 0,
  });
const makePrivate = (guest: Guest, gfn = GFN, pages = 1) => as(guest, () => attributesOf(guest, gfn, pages, 8));
const makeShared = (guest: Guest, gfn = GFN, pages = 1) => as(guest, () => attributesOf(guest, gfn, pages, 0));
const punch = ({ vm, gmem }: Protected, from = 0, pages = 1) => gmemFallocate(vm, gmem, 'punch-hole', from, pages);

describe('a guest frame', () => {
  it('has a shared page and a private one, and a change of attributes switches between them', () => {
    const guest = protectedGuest();
    expect(guestWrite(guest, GFN, B)).toEqual({ token: B });
    expect(cpuRead(guest)).toEqual({ token: B });
    expect(makePrivate(guest)).toBe('ok');
    expect(guestRead(guest)).toEqual(ZERO);
    expect(guestWrite(guest, GFN, C)).toEqual({ token: C });
    expect(cpuRead(guest)).toEqual({ token: B });
    expect(makeShared(guest)).toBe('ok');
    expect(guestRead(guest)).toEqual({ token: B });
    expect(makePrivate(guest)).toBe('ok');
    expect(guestRead(guest)).toEqual({ token: C });
  });

  it('of the slot beside it is not touched by a change', () => {
    const guest = protectedGuest();
    guestWrite(guest, GFN + 1, B);
    makePrivate(guest);
    expect(guestRead(guest, GFN + 1)).toEqual({ token: B });
  });

  it('that is private ends KVM_RUN with MEMORY_FAULT where the slot has no guest_memfd, or there is no slot', () => {
    const guest = makeGuest({ kernel: 'v6.12.117+pinlab' }, { privateMemory: true });
    mapMemory(guest, PAGES);
    setSlot(guest, region(1, GFN, PAGES, VPN));
    makePrivate(guest, GFN, 1);
    expect(guestRead(guest)).toEqual({ exit: 'MEMORY_FAULT' });
    makePrivate(guest, 0x5000, 1);
    expect(guestRead(guest, 0x5000)).toEqual({ exit: 'MEMORY_FAULT' });
  });

  it('never shows what the frame held for its last owner', () => {
    const guest = protectedGuest();
    cpuWrite(guest, VPN + 3, tokenOf('secret of somebody'));
    expect(as(guest, () => gmemFallocate(guest.vm, guest.gmem, 'allocate', 0, PAGES))).toBe('ok');
    makePrivate(guest, GFN, PAGES);
    for (let i = 0; i < PAGES; i++) expect(guestRead(guest, GFN + i)).toEqual(ZERO);
  });
});

describe('a hole', () => {
  it('takes the private page away from the guest, which gets a fresh one; the shared page stays', () => {
    const guest = protectedGuest();
    guestWrite(guest, GFN, B);
    makePrivate(guest);
    guestWrite(guest, GFN, C);
    const before = guest.gmem.inode.pages.peek(0) - 1;
    expect(as(guest, () => punch(guest))).toBe('ok');
    expect(guest.gmem.inode.pages.peek(0)).toBe(0);
    expect(guest.core.frames.translations.peek(before)).toBe(0);
    expect(guestRead(guest)).toEqual(ZERO);
    makeShared(guest);
    expect(guestRead(guest)).toEqual({ token: B });
  });

  it('beside a private access leaves the guest on memory of its own, in every order', () => {
    const guest = protectedGuest();
    makePrivate(guest);
    guestWrite(guest, GFN, C);
    guest.world.sim.finishSetUp();
    const { world, task, vm, vcpu } = guest;
    actor(world, task, 'puncher', function* () {
      yield* call(punch(guest));
    });
    actor(world, task, 'vcpu', function* () {
      yield* call(vcpuWrite(vm, vcpu, GFN, B));
      yield* call(vcpuRead(vm, vcpu, GFN));
    });
    const checkers = new CheckerSet(guest);
    const result = exploreSim(world.sim, {
      strategy: 'dpor',
      maxExecutions: 2000,
      maxSteps: 3000,
      atEnd: () => checkers.atEnd(),
    });
    expect(result.findings.map(({ message }) => message)).toEqual([]);
    expect(result.executions).toBeGreaterThan(1);
  });
});

describe('binding', () => {
  it('is refused where other pages, another VM, another file or no file is meant', () => {
    const guest = protectedGuest();
    const other = makeGuest({ kernel: 'v6.12.117+pinlab' }, { privateMemory: true });
    const foreign = create(other, 0x8000n);
    if (typeof foreign === 'string') throw new Error(foreign);
    const at = (offset: bigint) => setSlot(guest, { ...bound(guest.gmem, 2, 0x1000, offset) });
    expect(at(0n)).toBe('EINVAL');
    expect(at(0x1000n)).toBe('EINVAL');
    expect(at(8n)).toBe('EINVAL');
    expect(setSlot(guest, bound(foreign, 2, 0x1000))).toBe('EINVAL');
    const none = { ...region(2, 0x1000, PAGES, VPN, KVM_MEM_GUEST_MEMFD), guestMemfd: { file: null, offset: 0n } };
    expect(setSlot(guest, none)).toBe('EBADF');
  });

  it('excludes dirty logging and read-only slots, and fixes the slot', () => {
    const guest = protectedGuest();
    for (const more of [KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY]) {
      expect(setSlot(guest, bound(guest.gmem, 1, GFN, 0n, KVM_MEM_GUEST_MEMFD | more))).toBe('EINVAL');
    }
    expect(setSlot(guest, bound(guest.gmem, 1, GFN))).toBe('EINVAL');
    expect(setSlot(guest, region(1, GFN, PAGES, VPN, KVM_MEM_LOG_DIRTY_PAGES))).toBe('EINVAL');
  });

  it('ends with the slot, so that the pages can be bound again with their contents', () => {
    const guest = protectedGuest();
    makePrivate(guest);
    guestWrite(guest, GFN, C);
    expect(setSlot(guest, { ...region(1, GFN, 0, VPN) })).toBe('ok');
    expect(guest.gmem.bindings.peek()).toEqual([]);
    expect(setSlot(guest, bound(guest.gmem, 3, GFN))).toBe('ok');
    expect(guestRead(guest)).toEqual({ token: C });
  });

  it('compares without sign since eba85fee7fc6; before, the end of the address space passed', () => {
    const offset = 2n ** 63n - 0x4000n;
    for (const [without, expected] of [
      [[], 'EINVAL'],
      [['gmem.bind-checks-unsigned'], 'ok'],
    ] as const) {
      const guest = protectedGuest({ changes: { without } });
      expect(setSlot(guest, bound(guest.gmem, 2, 0x1000, offset))).toBe(expected);
    }
  });
});

describe('the file', () => {
  it('keeps the VM alive, and takes its pages along when it is closed', () => {
    const guest = protectedGuest();
    makePrivate(guest);
    guestWrite(guest, GFN, C);
    expect(guest.vm.users.peek()).toBe(2);
    as(guest, () => fput(guest.gmem.file));
    expect(guest.vm.users.peek()).toBe(1);
    expect(guest.gmem.inode.pages.peek(0)).toBe(0);
    expect(guestRead(guest)).toEqual({ exit: 'MEMORY_FAULT' });
  });

  it('is refused with flags, without pages, or with a part of one; and is not there before 6.8', () => {
    const guest = protectedGuest();
    expect(create(guest, 0n)).toBe('EINVAL');
    expect(create(guest, 0x1001n)).toBe('EINVAL');
    expect(create(guest, 0x1000n, 1)).toBe('EINVAL');
    expect(create(makeGuest({ kernel: 'v6.1.192' }), 0x1000n)).toBe('ENOTTY');
    expect(create(makeGuest({ kernel: 'v6.12.117' }), 0x1000n)).toBeInstanceOf(GuestMemfd);
  });

  it('that closes while its slot is deleted leaves a dangling binding without ae431059e75d (B25)', () => {
    for (const [without, found] of [
      [['gmem.unbinds-dying-file'], true],
      [[], false],
    ] as const) {
      const guest = protectedGuest({ changes: { without } });
      guest.world.sim.finishSetUp();
      const { world, task, vm } = guest;
      actor(world, task, 'closer', function* () {
        yield* call(fput(guest.gmem.file));
      });
      actor(world, task, 'deleter', function* () {
        yield* call(setUserMemoryRegion(vm, region(1, GFN, 0, VPN)));
      });
      const result = exploreSim(world.sim, { strategy: 'dpor', maxExecutions: 3000, maxSteps: 3000 });
      expect(result.findings.some(({ kind }) => kind === 'use-after-free')).toBe(found);
    }
  });
});

describe('attributes', () => {
  it('are refused on a default VM, unaligned, empty, unknown or with flags', () => {
    const guest = protectedGuest();
    const set = (one: Guest, address: bigint, size: bigint, attributes: number, flags = 0) =>
      as(one, () => setMemoryAttributes(one.vm, { address, size, attributes, flags }));
    expect(set(guest, 0n, 0n, 8)).toBe('EINVAL');
    expect(set(guest, 0n, 0x1001n, 8)).toBe('EINVAL');
    expect(set(guest, 8n, 0x1000n, 8)).toBe('EINVAL');
    expect(set(guest, 0n, 0x1000n, 1)).toBe('EINVAL');
    expect(set(guest, 0n, 0x1000n, 8, 1)).toBe('EINVAL');
    expect(set(makeGuest({ kernel: 'v6.12.117' }), 0n, 0x1000n, 8)).toBe('EINVAL');
    expect(set(makeGuest({ kernel: 'v6.1.192' }), 0n, 0x1000n, 8)).toBe('ENOTTY');
  });

  it('that are mixed keep a huge page of the host from being mapped whole', () => {
    const guest = makeGuest({ kernel: 'v6.12.117+pinlab' }, { privateMemory: true });
    mapMemory(guest, 512, { hugepage: 'always' });
    const gfn = 512;
    setSlot(guest, region(1, gfn, 512, VPN));
    guestWrite(guest, gfn);
    expect(guest.vm.peekValidRoot(0)!.peek(gfn).large).toBe(true);
    makePrivate(guest, gfn + 9);
    guestWrite(guest, gfn);
    expect(guest.vm.peekValidRoot(0)!.peek(gfn).large).toBe(false);
    expect(guestRead(guest, gfn + 9)).toEqual({ exit: 'MEMORY_FAULT' });
  });
});
