// Registered buffers against what real kernels answered: which memory, which arguments, who pays, what a transfer sees.
import { describe, expect, it } from 'vitest';
import {
  closeRing,
  fixedIo,
  IoUring,
  type Iovec,
  registerBuffers,
  unregisterBuffers,
} from '../../src/iouring/index.ts';
import { PIN_REFUSED, type PinRefused } from '../../src/mm/ledger.ts';
import { munmap } from '../../src/mm/mapping/mmap.ts';
import { User } from '../../src/mm/process/task.ts';
import { forkedChild, type Kind, makeKind } from '../support/kinds.ts';
import { Lab, RECORDED } from '../support/lab.ts';
import { tokenOf, tokenText } from '../support/tokens.ts';
import { makeTask, makeWorld } from '../support/world.ts';

const PAGE = 4096n;

function ringOf(lab: Lab, name = 'ring'): IoUring {
  return lab.do(function* () {
    return new IoUring(lab.world.sim, lab.core.current, name);
  });
}

function buffer(lab: Lab, page = 0, pages = lab.pages): Iovec {
  return { base: BigInt(lab.vpn + page) * PAGE, bytes: BigInt(pages) * PAGE };
}

function register(lab: Lab, ring: IoUring, ...iovecs: Iovec[]) {
  return lab.do(() => registerBuffers(lab.core, ring, iovecs));
}

const unregister = (lab: Lab, ring: IoUring) => lab.do(() => unregisterBuffers(lab.core, ring));

function present(lab: Lab): number {
  return Array.from({ length: lab.pages }, (_, i) => lab.pfn(i)).filter((pfn) => pfn !== 0).length;
}

function pins(lab: Lab): { acquired: number; released: number } {
  const { vmstat } = lab.core;
  return { acquired: vmstat.peek('nr_foll_pin_acquired'), released: vmstat.peek('nr_foll_pin_released') };
}

/** Errno, pages present after, pins acquired, pins released; for 6.12.117 and 6.1.192. */
type Row = readonly [string | null, number, number, number];
const OK: Row = [null, 8, 8, 0];
const NO: Row = ['EFAULT', 0, 0, 0];
const RECORDED_KINDS: readonly (readonly [Kind, Row, Row])[] = [
  ['anon_rw_untouched', OK, OK],
  ['anon_rw_touched', OK, OK],
  ['anon_rw_zeropage', OK, OK],
  ['anon_thp_untouched', [null, 512, 512, 511], [null, 512, 512, 0]],
  ['memfd_hugetlb', [null, 512, 512, 511], [null, 512, 512, 0]],
  ['anon_mlocked', OK, OK],
  ['swapped_out', OK, OK],
  ['anon_ro_untouched', NO, NO],
  ['shared_anon', OK, OK],
  ['dev_zero_private', OK, ['EOPNOTSUPP', 8, 8, 8]],
  ['memfd_shared_rw', OK, OK],
  ['memfd_shared_rw_touched', OK, OK],
  ['memfd_shared_ro', NO, NO],
  ['memfd_write_sealed_ro', NO, NO],
  ['memfd_private_rw', OK, OK],
  ['ext4_shared_ro', NO, NO],
  ['ext4_private_rw', OK, ['EOPNOTSUPP', 8, 8, 8]],
  ['ext4_private_ro', NO, NO],
  ['ext4_shared_rw_past_eof', NO, ['EFAULT', 1, 1, 1]],
  ['fsdax_shared_rw', ['EOPNOTSUPP', 0, 0, 0], ['EOPNOTSUPP', 0, 0, 0]],
  ['fsdax_private_rw_touched', OK, ['EOPNOTSUPP', 8, 0, 0]],
  ['memfd_secret', ['EFAULT', 8, 1, 1], ['EFAULT', 8, 0, 0]],
  ['prot_none', NO, NO],
  ['hole', NO, NO],
  ['half_ro', ['EFAULT', 8, 4, 4], ['EFAULT', 8, 4, 4]],
  ['pfnmap_bar', NO, NO],
  ['uffd_missing', OK, NO],
  ['uffd_wp', OK, OK],
  ['anon_after_fork_cow', OK, OK],
];

describe.each(RECORDED)('IORING_REGISTER_BUFFERS on %s', (kernel) => {
  for (const [kind, modern, old] of RECORDED_KINDS) {
    const [errno, after, acquired, released] = kernel === 'v6.1.192' ? old : modern;
    it(`of ${kind}: ${errno ?? 'ok'}`, () => {
      const lab = makeKind(kind, { kernel });
      const ring = ringOf(lab);
      expect(register(lab, ring, buffer(lab))).toBe(errno);
      expect(present(lab)).toBe(after);
      expect(pins(lab)).toEqual({ acquired, released });
      expect(lab.mm.pinnedVm.peek()).toBe(errno === null ? lab.pages : 0);
      if (errno !== null) return;
      lab.do(() => fixedIo(lab.core, ring, 0, 0, { token: tokenOf('D') }));
      expect(lab.read()).toBe('D');
      expect(unregister(lab, ring)).toBeNull();
      expect(pins(lab)).toEqual({ acquired, released: acquired });
      expect(lab.mm.pinnedVm.peek()).toBe(0);
    });
  }

  it('of SysV shared memory is EOPNOTSUPP only where the file of the mapping is looked at', () => {
    const lab = makeKind('sysv_shm', { kernel });
    expect(register(lab, ringOf(lab), buffer(lab))).toBe(kernel === 'v6.1.192' ? 'EOPNOTSUPP' : null);
  });

  it('checks the arguments as recorded', () => {
    const lab = makeKind('anon_rw_untouched', { kernel });
    const base = BigInt(lab.vpn) * PAGE;
    const charged: [string | null, number][] = [];
    for (const iovec of [
      { base, bytes: 1n },
      { base: base + PAGE - 8n, bytes: 16n },
      { base: 0n, bytes: PAGE },
      { base: 0n, bytes: 0n },
      { base, bytes: 0n },
      { base, bytes: 2n ** 30n + PAGE },
      { base: 2n ** 64n - PAGE, bytes: 2n * PAGE },
      { base: 0xffff888000000000n, bytes: PAGE },
    ]) {
      const ring = ringOf(lab);
      const errno = register(lab, ring, iovec);
      charged.push([errno, lab.mm.pinnedVm.peek()]);
      if (errno === null) unregister(lab, ring);
    }
    expect(charged).toEqual([
      [null, 1],
      [null, 2],
      ['EFAULT', 0],
      [null, 0],
      ['EFAULT', 0],
      ['EFAULT', 0],
      ['EOVERFLOW', 0],
      ['EFAULT', 0],
    ]);
  });

  it('has one table at a time', () => {
    const lab = makeKind('anon_rw_untouched', { kernel });
    const ring = ringOf(lab);
    expect(unregister(lab, ring)).toBe('ENXIO');
    expect(register(lab, ring, buffer(lab))).toBeNull();
    expect(register(lab, ring, buffer(lab))).toBe('EBUSY');
    expect(register(lab, ringOf(lab, 'other'))).toBe('EINVAL');
  });

  it('takes back the first three buffers when the fourth is bad', () => {
    const lab = makeKind('anon_rw_untouched', { kernel });
    const good = buffer(lab, 0, 4);
    expect(register(lab, ringOf(lab), good, good, good, { ...good, base: 0x1000n })).toBe('EFAULT');
    expect(pins(lab)).toEqual({ acquired: 12, released: 12 });
    expect(lab.mm.pinnedVm.peek()).toBe(0);
  });

  it('charges the same small pages once for each buffer', () => {
    const lab = makeKind('anon_rw_untouched', { kernel });
    const iovec = buffer(lab, 0, 4);
    expect(register(lab, ringOf(lab), iovec, iovec, iovec, iovec)).toBeNull();
    expect(lab.mm.pinnedVm.peek()).toBe(16);
  });

  it('keeps the charge when the memory is unmapped, until the ring is closed', () => {
    const lab = makeKind('anon_rw_touched', { kernel });
    const ring = ringOf(lab);
    register(lab, ring, buffer(lab));
    lab.do(() => munmap(lab.core, lab.vpn, lab.pages));
    expect(lab.mm.pinnedVm.peek()).toBe(8);
    lab.do(() => closeRing(lab.core, ring));
    expect(lab.mm.pinnedVm.peek()).toBe(0);
  });
});

describe('a part of a huge page', () => {
  it.each(['anon_thp', 'hugetlb_2m'] as const)('of %s is charged as a whole, once in a ring', (kind) => {
    const lab = makeKind(kind);
    const ring = ringOf(lab);
    expect(register(lab, ring, buffer(lab, 16, 4), buffer(lab, 100, 4))).toBeNull();
    expect(lab.mm.pinnedVm.peek()).toBe(512);
    const other = ringOf(lab, 'other');
    expect(register(lab, other, buffer(lab, 16, 4))).toBeNull();
    expect(lab.mm.pinnedVm.peek()).toBe(1024);
    unregister(lab, ring);
    unregister(lab, other);
    expect(lab.mm.pinnedVm.peek()).toBe(0);
    expect(lab.core.folios.pincount.peek(lab.pfn())).toBe(0);
  });
});

describe('the limit', () => {
  /** Two processes of uid 1000 with RLIMIT_MEMLOCK of 16 pages, each with 32 touched pages. */
  function users() {
    const world = makeWorld();
    const user = new User(world.sim, 1000);
    const labs = ['first', 'second'].map((name) => {
      const lab = new Lab({}, makeTask(world, name, { user, memlockBytes: 16 * 4096 }), world);
      lab.map({ pages: 32 });
      lab.touchAll('m');
      return lab;
    });
    return { user, first: labs[0]!, second: labs[1]! };
  }

  it('is exact, and shared by the rings and processes of a user', () => {
    const { user, first, second } = users();
    const ring = ringOf(first);
    expect(register(first, ring, buffer(first, 0, 17))).toBe('ENOMEM');
    expect(register(first, ring, buffer(first, 0, 16))).toBeNull();
    expect(user.lockedVm.peek()).toBe(16);
    expect(register(first, ringOf(first, 'two'), buffer(first, 20, 1))).toBe('ENOMEM');
    expect(register(second, ringOf(second, 'three'), buffer(second, 0, 1))).toBe('ENOMEM');
    unregister(first, ring);
    expect(user.lockedVm.peek()).toBe(0);
    expect(register(second, ringOf(second, 'three'), buffer(second, 0, 16))).toBeNull();
    expect(first.mm.lockedVm.peek()).toBe(0);
  });

  it('does not bind whoever has CAP_IPC_LOCK when the ring is made', () => {
    const world = makeWorld();
    const lab = new Lab({}, makeTask(world, 'root', { memlockBytes: 16 * 4096 }), world);
    lab.map({ pages: 32 });
    expect(register(lab, ringOf(lab), buffer(lab))).toBeNull();
    expect(lab.mm.pinnedVm.peek()).toBe(32);
    expect(lab.task.credentials.peek().lockedVm.peek()).toBe(0);
  });

  it('refuses with the numbers and the limit that would have sufficed', () => {
    const { first } = users();
    const heard: PinRefused[] = [];
    first.world.sim.on(PIN_REFUSED, (refused) => heard.push(refused));
    const ring = ringOf(first);
    register(first, ring, buffer(first, 0, 10), buffer(first, 10, 20));
    expect(heard).toHaveLength(1);
    expect(heard[0]).toMatchObject({
      who: 'IORING_REGISTER_BUFFERS by first',
      errno: 'ENOMEM',
      pages: 20,
      details: {
        'limit-bytes': 65536,
        'charged-bytes': 40960,
        'asked-bytes': 81920,
        'needed-bytes': 122880,
        'short-by': 57344,
      },
    });
    expect(heard[0]?.reasons.at(-1)).toContain('__io_account_mem: locked_vm of uid 1000');
    expect(heard[0]?.remedy).toContain('RLIMIT_MEMLOCK of at least 122880 bytes');
  });
});

describe('a transfer through a registered buffer', () => {
  const io = (lab: Lab, ring: IoUring, write: string | null) => {
    const result = lab.do(() => fixedIo(lab.core, ring, 0, 0, write === null ? null : { token: tokenOf(write) }));
    return 'token' in result ? tokenText(result.token) : result.errno;
  };

  it('sees what the CPU writes, and the other way round', () => {
    const lab = makeKind('anon_rw_touched');
    const ring = ringOf(lab);
    register(lab, ring, buffer(lab));
    lab.write('N');
    expect(io(lab, ring, null)).toBe('N');
    io(lab, ring, 'D');
    expect(lab.read()).toBe('D');
  });

  it('stays with the page when the process forks: the child got a copy', () => {
    const lab = makeKind('anon_rw_touched');
    const ring = ringOf(lab);
    register(lab, ring, buffer(lab));
    const pfn = lab.pfn();
    forkedChild(lab);
    lab.write('N');
    expect(lab.pfn()).toBe(pfn);
    expect(io(lab, ring, null)).toBe('N');
  });

  it('reads the old page after munmap', () => {
    const lab = makeKind('anon_rw_touched');
    const ring = ringOf(lab);
    register(lab, ring, buffer(lab));
    lab.do(() => munmap(lab.core, lab.vpn, lab.pages));
    expect(io(lab, ring, null)).toBe('c');
  });

  it('fails outside the buffer and on an empty slot', () => {
    const lab = makeKind('anon_rw_touched');
    const ring = ringOf(lab);
    register(lab, ring, { base: 0n, bytes: 0n }, buffer(lab));
    expect(io(lab, ring, null)).toBe('EFAULT');
    expect(lab.do(() => fixedIo(lab.core, ring, 1, 8, null))).toEqual({ errno: 'EFAULT' });
  });
});
