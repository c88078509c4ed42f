// Guest page faults: what the guest gets, what stays behind in counts and tables, and what a window takes away again.
import { describe, expect, it } from 'vitest';
import { zapVmaRange } from '../../src/mm/zap/zap.ts';
import { tokenOf } from '../support/tokens.ts';
import { addSlot, as, B, cpuRead, cpuWrite, GFN, guestRead, guestWrite, makeGuest, mapMemory, VPN } from './guest.ts';

const A = tokenOf('A');

describe('a guest page fault', () => {
  it('maps the page that the VMM has, holds no reference, pins nothing', () => {
    const guest = makeGuest();
    mapMemory(guest);
    addSlot(guest);
    cpuWrite(guest, VPN, A);
    const pfn = guest.mm.pageTable.peekFrame(VPN);
    const before = guest.core.folios.refcount.peek(pfn);
    expect(guestRead(guest)).toEqual({ token: A });
    expect(guest.vm.peekValidRoot(0)?.peek(GFN)).toMatchObject({ pfn });
    expect(guest.core.folios.refcount.peek(pfn)).toBe(before);
    expect(guest.core.frames.translations.peek(pfn)).toBe(1);
    expect(guest.core.vmstat.peek('nr_foll_pin_acquired')).toBe(0);
  });

  it('on a read maps the zero page, and on the write after it a fresh page', () => {
    const guest = makeGuest();
    mapMemory(guest);
    addSlot(guest);
    expect(guestRead(guest)).toEqual({ token: 0 });
    expect(guest.mm.pageTable.peekFrame(VPN)).toBe(guest.core.zeroPfn);
    expect(guestWrite(guest)).toEqual({ token: B });
    expect(cpuRead(guest)).toEqual({ token: B });
    expect(guest.core.frames.translations.peek(guest.core.zeroPfn)).toBe(0);
  });
});

describe('a notifier window over guest memory', () => {
  it('takes the page away; the next access finds what the VMM has now', () => {
    const guest = makeGuest();
    const vma = mapMemory(guest);
    addSlot(guest);
    guestWrite(guest);
    const pfn = guest.mm.pageTable.peekFrame(VPN);
    as(guest, () => zapVmaRange(guest.core, guest.mm, vma, VPN, VPN + 8, 'CLEAR'));
    expect(guest.core.frames.translations.peek(pfn)).toBe(0);
    expect(guest.vcpu.tlb.peek()).toEqual([]);
    expect(guest.vm.seq.peek()).toBe(1);
    expect(guest.vm.inProgress.peek()).toBe(0);
    expect(guest.vm.mnActive.peek()).toBe(0);
    expect(guestRead(guest)).toEqual({ token: 0 });
  });
});
