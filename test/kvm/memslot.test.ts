// KVM_SET_USER_MEMORY_REGION: every refusal in the kernel's order, and what deleting, moving and re-adding a slot does to
// the guest. The first table was recorded on 6.1.192 and 6.12.117.
import { describe, expect, it } from 'vitest';
import { KVM_MEM_GUEST_MEMFD, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY } from '../../src/kvm/memslot.ts';
import { type MemoryRegion, setUserMemoryRegion } from '../../src/kvm/set-memory-region.ts';
import type { Errno } from '../../src/mm/errno.ts';
import { placeVma } from '../support/memory.ts';
import { tokenOf } from '../support/tokens.ts';
import { makeTask, run } from '../support/world.ts';
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

const P = 0x7f0000000000n;
const PG = 4096n;

function set(guest: Guest, slot: number, gpa: bigint, hva: bigint, size: bigint, flags = 0): 'ok' | Errno {
  const wanted: MemoryRegion = { slot, flags, guestPhysAddr: gpa, memorySize: size, userspaceAddr: hva };
  return setSlot(guest, wanted);
}

describe.each(['v6.1.192', 'v6.12.117'])('memslots as recorded on %s', (kernel) => {
  it('take and refuse what the kernel did, in one sequence', () => {
    const guest = makeGuest({ kernel });
    placeVma(guest.mm, Number(P / PG), 64, {});
    expect(set(guest, 0, 0n, P + 60n * PG, PG)).toBe('ok');
    const outcomes = [
      ['ok', set(guest, 1, 0x10000n, P, 8n * PG), 'ok'],
      ['overlap_other_slot', set(guest, 2, 0x11000n, P, PG), 'EEXIST'],
      ['same_slot_same_args', set(guest, 1, 0x10000n, P, 8n * PG), 'ok'],
      ['resize_existing', set(guest, 1, 0x10000n, P, 4n * PG), 'EINVAL'],
      ['change_hva', set(guest, 1, 0x10000n, P + 16n * PG, 8n * PG), 'EINVAL'],
      ['move_gpa', set(guest, 1, 0x30000n, P, 8n * PG), 'ok'],
      ['set_dirty_log_flag', set(guest, 1, 0x30000n, P, 8n * PG, 1), 'ok'],
      ['readonly_flag_change', set(guest, 1, 0x30000n, P, 8n * PG, 2), 'EINVAL'],
      ['same_hva_second_slot', set(guest, 2, 0x50000n, P, 8n * PG), 'ok'],
      ['gpa_unaligned', set(guest, 3, 0x60008n, P, PG), 'EINVAL'],
      ['hva_unaligned', set(guest, 3, 0x60000n, P + 8n, PG), 'EINVAL'],
      ['size_unaligned', set(guest, 3, 0x60000n, P, PG + 8n), 'EINVAL'],
      ['delete_nonexistent', set(guest, 9, 0n, 0n, 0n), 'EINVAL'],
      ['delete', set(guest, 1, 0n, 0n, 0n), 'ok'],
      ['delete_twice', set(guest, 1, 0n, 0n, 0n), 'EINVAL'],
      ['hva_hole', set(guest, 4, 0x70000n, 0x1000n, PG), 'ok'],
      ['hva_kernel', set(guest, 5, 0x80000n, 0xffff888000000000n, PG), 'EINVAL'],
      ['gpa_wrap', set(guest, 6, 0xfffffffffffff000n, P, 2n * PG), 'EINVAL'],
      ['unknown_flag', set(guest, 6, 0x90000n, P, PG, 0x80), 'EINVAL'],
      ['slot_id_huge', set(guest, 0xffff, 0x90000n, P, PG), 'EINVAL'],
      ['new_readonly', set(guest, 7, 0x90000n, P, PG, 2), 'ok'],
    ] as const;
    expect(outcomes.map(([name, got]) => [name, got])).toEqual(outcomes.map(([name, , wanted]) => [name, wanted]));
  });
});

describe('a memslot', () => {
  it.each([
    ['guest_memfd without private memory', { flags: KVM_MEM_GUEST_MEMFD }],
    ['guest_memfd with dirty logging', { flags: KVM_MEM_GUEST_MEMFD | KVM_MEM_LOG_DIRTY_PAGES }],
    ['guest_memfd and read-only', { flags: KVM_MEM_GUEST_MEMFD | KVM_MEM_READONLY }],
    ['more than 2^31 - 1 pages', { memorySize: 2n ** 43n, guestPhysAddr: 0n, userspaceAddr: 0n }],
    ['guest frames beyond the physical address width', { guestPhysAddr: 2n ** 44n }],
    ['an address space that x86 does not have', { slot: 2 << 16 }],
    ['a non-canonical address', { userspaceAddr: 2n ** 52n }],
  ])('cannot have %s', (_, change) => {
    const guest = makeGuest();
    expect(setSlot(guest, { ...region(1, GFN, 8, VPN), ...change })).toBe('EINVAL');
  });

  it('can use the last slot number of user space, and one in the second address space', () => {
    const guest = makeGuest();
    expect(setSlot(guest, region(32763, GFN, 1, VPN))).toBe('ok');
    expect(setSlot(guest, region((1 << 16) + 32763, GFN, 1, VPN))).toBe('ok');
  });

  it('may lie over memory of nobody, and the guest then gets EFAULT', () => {
    const guest = makeGuest();
    addSlot(guest);
    expect(guestRead(guest)).toEqual({ exit: 'EFAULT' });
    expect(guestWrite(guest)).toEqual({ exit: 'EFAULT' });
  });

  it('is refused with EIO to a process that did not make the VM', () => {
    const guest = makeGuest();
    const other = makeTask(guest.world, 'other');
    expect(run(guest.world, other, () => setUserMemoryRegion(guest.vm, region(1, GFN, 8, VPN)))).toBe('EIO');
  });

  it('read-only: the guest reads, its writes are MMIO', () => {
    const guest = makeGuest();
    mapMemory(guest);
    cpuWrite(guest, VPN, tokenOf('rom'));
    addSlot(guest, 8, KVM_MEM_READONLY);
    expect(guestRead(guest)).toEqual({ token: tokenOf('rom') });
    expect(guestWrite(guest)).toEqual({ exit: 'MMIO' });
    expect(guestRead(guest)).toEqual({ token: tokenOf('rom') });
  });
});

describe.each([
  ['with all roots dropped', true],
  ['with only its own entries dropped', false],
])('deleting a memslot in use, %s', (_, slotZapAll) => {
  const inUse = () => {
    const guest = makeGuest({}, { slotZapAll });
    mapMemory(guest);
    addSlot(guest);
    guestWrite(guest);
    return guest;
  };

  it('turns its accesses into MMIO exits, and leaves no translation', () => {
    const guest = inUse();
    const pfn = guest.mm.pageTable.peekFrame(VPN);
    expect(guest.core.frames.translations.peek(pfn)).toBe(1);
    expect(setSlot(guest, region(1, 0, 0, 0))).toBe('ok');
    expect(guest.core.frames.translations.peek(pfn)).toBe(0);
    expect(guestRead(guest)).toEqual({ exit: 'MMIO' });
    expect(guestWrite(guest)).toEqual({ exit: 'MMIO' });
    expect(cpuRead(guest)).toEqual({ token: B });
  });

  it('is undone by adding it again: what was cached as MMIO is memory', () => {
    const guest = inUse();
    setSlot(guest, region(1, 0, 0, 0));
    expect(guestRead(guest)).toEqual({ exit: 'MMIO' });
    addSlot(guest);
    expect(guestRead(guest)).toEqual({ token: B });
  });

  it('moves: the old frames are MMIO, the new ones memory', () => {
    const guest = inUse();
    expect(setSlot(guest, region(1, GFN - 1, 8, VPN))).toBe('ok');
    expect(guestRead(guest, GFN + 7)).toEqual({ exit: 'MMIO' });
    expect(guestRead(guest, GFN - 1)).toEqual({ token: B });
  });
});

describe('the generation of memslots', () => {
  it('grows by the number of address spaces with every swap and ends without the update flag', () => {
    const guest = makeGuest();
    const generation = () => guest.vm.spaces[0]!.peekCurrent.generation.peek();
    addSlot(guest);
    expect(generation()).toBe(2);
    setSlot(guest, region(1, 0, 0, 0));
    expect(generation()).toBe(6);
    expect(guest.vm.spaces[1]!.peekCurrent.generation.peek()).toBe(1);
    expect(as(guest, () => setUserMemoryRegion(guest.vm, region((1 << 16) + 1, GFN, 1, VPN)))).toBe('ok');
    expect(guest.vm.spaces[1]!.peekCurrent.generation.peek()).toBe(3);
  });
});
