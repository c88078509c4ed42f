// Dirty logging: which writes it sees, what reading it does, and its refusals.
import { describe, expect, it } from 'vitest';
import { call } from '../../src/engine/process.ts';
import { exploreSim } from '../../src/explore/explore.ts';
import { vcpuWrite } from '../../src/guest/vcpu.ts';
import { clearDirtyLog, type DirtyLog, getDirtyLog } from '../../src/kvm/dirty-log.ts';
import { emulateCmpxchg } from '../../src/kvm/emulate.ts';
import { KVM_MEM_LOG_DIRTY_PAGES } from '../../src/kvm/memslot.ts';
import { switchNested } from '../../src/kvm/root-load.ts';
import type { VmOptions } from '../../src/kvm/vm.ts';
import { placeAnonVma, placeHugePage, reserveFrames } from '../support/memory.ts';
import { tokenOf } from '../support/tokens.ts';
import { actor } from '../support/world.ts';
import {
  addSlot,
  as,
  B,
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

const read = (guest: Guest, slot = 1): DirtyLog => as(guest, () => getDirtyLog(guest.vm, slot));

function logging(options: Partial<VmOptions> = {}, pages = 8): Guest {
  const guest = makeGuest({}, options);
  mapMemory(guest, pages);
  addSlot(guest, pages);
  guestWrite(guest, GFN);
  guestWrite(guest, GFN + 1);
  expect(setSlot(guest, region(1, GFN, pages, VPN, KVM_MEM_LOG_DIRTY_PAGES))).toBe('ok');
  return guest;
}

describe('the dirty log', () => {
  it('sees guest writes, once each, and not those of the VMM (recorded on 6.1.192 and 6.12.117)', () => {
    const guest = logging();
    expect(read(guest)).toEqual({ dirty: [] });
    guestWrite(guest, GFN + 2);
    expect(read(guest)).toEqual({ dirty: [2] });
    cpuWrite(guest, VPN + 3, tokenOf('cpu'));
    expect(read(guest)).toEqual({ dirty: [] });
  });

  it('sees a write to a page that was mapped writable before, and each round again', () => {
    const guest = logging();
    guestWrite(guest, GFN);
    guestWrite(guest, GFN);
    expect(read(guest)).toEqual({ dirty: [0] });
    expect(read(guest)).toEqual({ dirty: [] });
    guestWrite(guest, GFN);
    expect(read(guest)).toEqual({ dirty: [0] });
  });

  it('marks a page that a read maps writable', () => {
    const guest = makeGuest();
    mapMemory(guest);
    cpuWrite(guest, VPN, B);
    addSlot(guest, 8, KVM_MEM_LOG_DIRTY_PAGES);
    guestRead(guest);
    expect(read(guest)).toEqual({ dirty: [0] });
  });

  it('is kept by hand: reading clears nothing, clearing takes only what is named', () => {
    const guest = logging({ manualProtect: true });
    guestWrite(guest, GFN);
    guestWrite(guest, GFN + 1);
    expect(read(guest)).toEqual({ dirty: [0, 1] });
    expect(read(guest)).toEqual({ dirty: [0, 1] });
    expect(as(guest, () => clearDirtyLog(guest.vm, 1, { firstPage: 0, pages: 8, dirty: [1] }))).toBe('ok');
    expect(read(guest)).toEqual({ dirty: [0] });
    guestWrite(guest, GFN + 1);
    expect(read(guest)).toEqual({ dirty: [0, 1] });
  });

  it('refuses slots that are not there or do not log, and odd ranges', () => {
    const guest = logging({ manualProtect: true }, 192);
    setSlot(guest, region(2, 0x1000, 1, VPN));
    expect([read(guest, 2), read(guest, 3), read(guest, 2 << 16)]).toEqual([
      { errno: 'ENOENT' },
      { errno: 'ENOENT' },
      { errno: 'EINVAL' },
    ]);
    const clear = (firstPage: number, pages: number) =>
      as(guest, () => clearDirtyLog(guest.vm, 1, { firstPage, pages, dirty: [] }));
    expect([clear(32, 64), clear(0, 60), clear(64, 192), clear(64, 128), clear(128, 64)]).toEqual([
      'EINVAL',
      'EINVAL',
      'EINVAL',
      'ok',
      'ok',
    ]);
  });

  it('keeps the bitmap over a move and drops it when logging ends', () => {
    const guest = logging();
    guestWrite(guest, GFN + 4);
    setSlot(guest, region(1, GFN + 0x100, 8, VPN, KVM_MEM_LOG_DIRTY_PAGES));
    expect(read(guest)).toEqual({ dirty: [4] });
    setSlot(guest, region(1, GFN + 0x100, 8, VPN));
    expect(read(guest)).toEqual({ errno: 'ENOENT' });
  });

  it('loses no write that races with reading it', () => {
    const guest = logging();
    const seen: number[] = [];
    guest.world.sim.finishSetUp();
    guest.world.sim.onRewind(() => {
      seen.length = 0;
    });
    const vcpu = actor(guest.world, guest.task, 'vcpu', function* () {
      yield* call(vcpuWrite(guest.vm, guest.vcpu, GFN, B));
    });
    actor(guest.world, guest.task, 'migration', function* () {
      const log = yield* call(getDirtyLog(guest.vm, 1));
      if ('dirty' in log) seen.push(...log.dirty);
    });
    const result = exploreSim(guest.world.sim, {
      maxExecutions: 20_000,
      atEnd: (sim) => {
        const slot = guest.vm.spaces[0]!.peekCurrent.peekId(1)!;
        const left = slot.fields.dirtyBitmap!.peek(0);
        if (vcpu.state === 'ended' && !seen.includes(0) && left === 0) sim.fail('a guest write is in no log');
      },
    });
    expect(result).toMatchObject({ findings: [], complete: true });
  });
});

describe('with page-modification logging', () => {
  /** A vCPU that used a page before logging began, in the guest or in a nested guest. */
  const used = (nested: boolean, without: readonly string[] = []) => {
    const guest = makeGuest({ changes: { without } }, { pml: true });
    mapMemory(guest);
    addSlot(guest);
    as(guest, () => switchNested(guest.vcpu, nested));
    guestWrite(guest);
    setSlot(guest, region(1, GFN, 8, VPN, KVM_MEM_LOG_DIRTY_PAGES));
    guestWrite(guest);
    return guest;
  };

  it('entries stay writable and the CPU logs the frames', () => {
    const guest = used(false);
    expect(guest.vcpu.pmlBuffer.peek()).toEqual([GFN]);
    expect(read(guest)).toEqual({ dirty: [0] });
    expect(read(guest)).toEqual({ dirty: [] });
    guestWrite(guest);
    expect(read(guest)).toEqual({ dirty: [0] });
  });

  it('writes of a nested guest are seen, because its entries are write-protected', () => {
    const guest = used(true);
    expect(read(guest)).toEqual({ dirty: [0] });
    guestWrite(guest);
    expect(read(guest)).toEqual({ dirty: [0] });
  });

  it('writes of a nested guest were lost between 6.4 and 6.9', () => {
    const guest = used(true, ['kvm.dirty-log-nested-write-protects']);
    expect(read(guest)).toEqual({ dirty: [] });
  });
});

describe('an emulated compare-and-exchange', () => {
  it('marks its frame', () => {
    const guest = makeGuest();
    mapMemory(guest);
    addSlot(guest, 8, KVM_MEM_LOG_DIRTY_PAGES);
    as(guest, () => emulateCmpxchg(guest.vm, GFN, 0, B));
    expect(read(guest)).toEqual({ dirty: [0] });
  });

  it('did not between 5.19 and 6.8', () => {
    const guest = makeGuest({ changes: { without: ['kvm.dirty-log-emulated-cmpxchg'] } });
    mapMemory(guest);
    addSlot(guest, 8, KVM_MEM_LOG_DIRTY_PAGES);
    as(guest, () => emulateCmpxchg(guest.vm, GFN, 0, B));
    expect(read(guest)).toEqual({ dirty: [] });
    expect(guestRead(guest)).toEqual({ token: B });
  });
});

describe('2 MiB pages', () => {
  const huge = () => {
    const guest = makeGuest();
    const vma = placeAnonVma(guest.core, guest.mm, VPN, 512);
    const pfn = reserveFrames(guest.core, 0, 512, 512);
    placeHugePage(guest.core, guest.mm, vma, VPN, pfn);
    return { guest, pfn };
  };

  it('are mapped at once where slot and host are aligned alike, and counted once', () => {
    const { guest, pfn } = huge();
    setSlot(guest, region(1, 512, 512, VPN));
    guestWrite(guest, 600);
    expect(guest.vm.peekValidRoot(0)!.peek(700)).toMatchObject({ pfn, large: true });
    expect(guest.core.frames.translations.peek(pfn)).toBe(1);
    expect(guest.core.folios.refcount.peek(pfn)).toBe(1);
  });

  it('are mapped page by page where they are not, or where the slot is too short', () => {
    for (const [gfn, pages] of [
      [513, 512],
      [512, 511],
    ] as const) {
      const { guest, pfn } = huge();
      setSlot(guest, region(1, gfn, pages, VPN));
      guestWrite(guest, 600);
      expect(guest.vm.peekValidRoot(0)!.peek(600)).toMatchObject({ pfn: pfn + 600 - gfn, large: false });
      expect(guest.core.frames.translations.peek(pfn)).toBe(1);
    }
  });

  it('are split when logging begins and come back when it ends', () => {
    const { guest, pfn } = huge();
    setSlot(guest, region(1, 512, 512, VPN));
    guestWrite(guest, 600);
    setSlot(guest, region(1, 512, 512, VPN, KVM_MEM_LOG_DIRTY_PAGES));
    expect(guest.vm.peekValidRoot(0)!.peek(600)).toMatchObject({ pfn: pfn + 88, large: false });
    guestWrite(guest, 600);
    expect(read(guest)).toEqual({ dirty: [88] });
    expect(guest.core.frames.translations.peek(pfn)).toBe(512);
    setSlot(guest, region(1, 512, 512, VPN));
    expect(guest.core.frames.translations.peek(pfn)).toBe(0);
    guestWrite(guest, 600);
    expect(guest.vm.peekValidRoot(0)!.peek(600)).toMatchObject({ pfn, large: true });
  });
});
