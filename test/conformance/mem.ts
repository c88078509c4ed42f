// mem.h: one mapping of each memory type, made by operations. The mapping is called `m`, save for the BAR.
import { call, type Steps } from '../../src/engine/process.ts';
import { labBoot } from './boot.ts';
import { writes } from './image.ts';
import { type Boot, type Result, type Session, Unsupported } from './session.ts';
import { anonTouched, must, PG } from './vf.ts';

export interface Mem {
  readonly type: string;
  /** Name of the mapping: `m`, or another that exists already. */
  readonly memory: string;
  readonly bytes: bigint;
  readonly readable: boolean;
  readonly writable: boolean;
  /** A bare address instead of the mapping `m`. */
  readonly address?: bigint;
}

/** The memory objects that the types need, for the boot scenario. */
export const MEM_OBJECTS: Boot = {
  memfd: { kind: 'shmem', size: '32KiB' },
  memfd_ro: { kind: 'shmem', size: '32KiB', readonly_fd: true },
  memfd_sealed: { kind: 'shmem', size: '32KiB', sealed: ['write'] },
  memfd_huge: { kind: 'hugetlb', size: '2MiB', memfd: true },
  huge: { kind: 'hugetlb', size: '2MiB' },
  tmp: { kind: 'tmpfs', size: '32KiB' },
  ext4: { kind: 'file', size: '32KiB', mount: 'ext4' },
  ext4_page: { kind: 'file', size: '32KiB', file_size: '4KiB', mount: 'ext4' },
  dax: { kind: 'fsdax', size: '32KiB', content: 'f' },
  secret: { kind: 'secret', size: '32KiB' },
  sysv: { kind: 'sysv', size: '32KiB' },
  zero: { kind: 'dev-zero', size: '32KiB' },
  text: { kind: 'text', size: '32KiB' },
  vdso: { kind: 'vdso', size: '8KiB', content: '\u007fELF' },
  vvar: { kind: 'vvar', size: '16KiB', content: 'vvar' },
};

/** A laboratory with all of them. */
export const MEM_BOOT = labBoot({ memory: MEM_OBJECTS });

const N8 = 8n * PG;
const RW = { readable: true, writable: true };
const RO = { readable: true, writable: false };

export const MEM_TYPES = [
  ...['anon_rw_untouched', 'anon_rw_touched', 'anon_rw_zeropage', 'anon_ro_untouched', 'anon_ro_zeropage'],
  ...['anon_ro_after_write', 'anon_wo', 'anon_thp', 'anon_thp_untouched', 'anon_mlocked', 'anon_dontfork'],
  ...['anon_mergeable', 'stack', 'heap_brk', 'shared_anon', 'sysv_shm', 'dev_zero_private', 'dev_zero_shared'],
  ...['hugetlb_2m', 'hugetlb_2m_untouched', 'memfd_hugetlb', 'memfd_shared_rw', 'memfd_shared_rw_touched'],
  ...['memfd_shared_ro', 'memfd_rofd_shared_ro', 'memfd_write_sealed_ro', 'memfd_private_rw'],
  ...['memfd_private_rw_touched', 'memfd_private_ro', 'tmpfs_shared_rw', 'tmpfs_shared_ro', 'ext4_shared_rw'],
  ...['ext4_shared_rw_touched', 'ext4_shared_ro', 'ext4_private_rw', 'ext4_private_rw_touched', 'ext4_private_ro'],
  ...['ext4_shared_rw_past_eof', 'fsdax_shared_rw', 'fsdax_shared_ro', 'fsdax_private_rw_touched', 'fsdax_private_ro'],
  ...['memfd_secret', 'prot_none', 'prot_none_after_touch', 'exec_ro_text', 'hole', 'half_hole', 'half_ro'],
  ...['kernel_address', 'noncanonical_address', 'pfnmap_bar', 'vdso', 'vvar', 'uffd_missing', 'uffd_wp'],
  ...['anon_after_fork_cow', 'swapped_out', 'guest_memfd'],
] as const;

/** mk(): make the mapping `m`; or the errno of what failed. */
export function* mk(s: Session, type: string): Steps<Mem | { readonly errno: string }> {
  const map = (args: Readonly<Record<string, unknown>>) => s.op('mmap', { name: 'm', ...args });
  const anon = function* (prot: string): Steps<void> {
    yield* call(must(s, 'mmap', { name: 'm', size: N8, prot }));
    yield* call(must(s, 'madvise', { memory: 'm', advice: 'NOHUGEPAGE' }));
  };
  const write = (value = 'c') => must(s, 'touch', { memory: 'm', value });
  const read = () => must(s, 'touch', { memory: 'm', read: true });
  const done = (rights: { readable: boolean; writable: boolean }, bytes = N8): Mem => ({
    type,
    memory: 'm',
    bytes,
    ...rights,
  });
  switch (type) {
    case 'anon_rw_untouched':
      yield* call(anon('rw'));
      return done(RW);
    case 'anon_rw_touched':
      yield* call(anonTouched(s, 'm', 8n, 'c'));
      return done(RW);
    case 'anon_rw_zeropage':
      yield* call(anon('rw'));
      yield* call(read());
      return done(RW);
    case 'anon_ro_untouched':
      yield* call(anon('r'));
      return done(RO);
    case 'anon_ro_zeropage':
      yield* call(anon('r'));
      yield* call(read());
      return done(RO);
    case 'anon_ro_after_write':
      yield* call(anonTouched(s, 'm', 8n, 'c'));
      yield* call(must(s, 'mprotect', { memory: 'm', prot: 'r' }));
      return done(RO);
    case 'anon_wo':
      yield* call(anon('w'));
      yield* call(write());
      return done(RW);
    case 'anon_thp':
    case 'anon_thp_untouched':
      yield* call(must(s, 'mmap', { name: 'm', size: 512n * PG }));
      yield* call(must(s, 'madvise', { memory: 'm', advice: 'HUGEPAGE' }));
      if (type === 'anon_thp') yield* call(write());
      return done(RW, 512n * PG);
    case 'anon_mlocked':
      yield* call(anon('rw'));
      yield* call(must(s, 'mlock', { memory: 'm' }));
      return done(RW);
    case 'anon_dontfork':
      yield* call(anonTouched(s, 'm', 8n, 'c'));
      yield* call(must(s, 'madvise', { memory: 'm', advice: 'DONTFORK' }));
      return done(RW);
    case 'anon_mergeable':
      yield* call(anonTouched(s, 'm', 8n, 'c'));
      yield* call(must(s, 'madvise', { memory: 'm', advice: 'MERGEABLE' }));
      return done(RW);
    case 'stack':
      yield* call(anonTouched(s, 'm', 8n, 'c'));
      return done(RW);
    case 'heap_brk':
      yield* call(anon('rw'));
      return done(RW);
    case 'shared_anon':
      yield* call(must(s, 'mmap', { name: 'm', size: N8, shared: true }));
      return done(RW);
    case 'sysv_shm':
      yield* call(must(s, 'mmap', { name: 'm', memory: 'sysv', shared: true }));
      return done(RW);
    case 'dev_zero_private':
      yield* call(must(s, 'mmap', { name: 'm', memory: 'zero', shared: false }));
      return done(RW);
    case 'dev_zero_shared':
      yield* call(must(s, 'mmap', { name: 'm', memory: 'zero', shared: true }));
      return done(RW);
    case 'hugetlb_2m':
    case 'hugetlb_2m_untouched':
      yield* call(must(s, 'mmap', { name: 'm', memory: 'huge', shared: false }));
      if (type === 'hugetlb_2m') yield* call(write());
      return done(RW, 512n * PG);
    case 'memfd_hugetlb':
      yield* call(must(s, 'mmap', { name: 'm', memory: 'memfd_huge', shared: true }));
      return done(RW, 512n * PG);
    case 'memfd_secret':
      yield* call(must(s, 'mmap', { name: 'm', memory: 'secret', shared: true }));
      yield* call(write());
      return done(RW);
    case 'prot_none':
      yield* call(anon('none'));
      return done({ readable: false, writable: false });
    case 'prot_none_after_touch':
      yield* call(anonTouched(s, 'm', 8n, 'c'));
      yield* call(must(s, 'mprotect', { memory: 'm', prot: 'none' }));
      return done({ readable: false, writable: false });
    case 'exec_ro_text':
      // The page of a function that runs: mapped and cached.
      yield* call(must(s, 'mmap', { name: 'm', memory: 'text', shared: false, prot: 'rx', size: PG }));
      yield* call(read());
      return done(RO, PG);
    case 'hole':
      yield* call(anon('rw'));
      yield* call(must(s, 'munmap', { memory: 'm' }));
      return done({ readable: false, writable: false });
    case 'half_hole':
      yield* call(anonTouched(s, 'm', 8n, 'c'));
      yield* call(must(s, 'munmap', { memory: 'm', offset: N8 / 2n }));
      return done(RW);
    case 'half_ro':
      yield* call(anonTouched(s, 'm', 8n, 'c'));
      yield* call(must(s, 'mprotect', { memory: 'm', offset: N8 / 2n, prot: 'r' }));
      return done(RW);
    case 'kernel_address':
      return { ...done({ readable: false, writable: false }), address: 0xffff888000000000n };
    case 'noncanonical_address':
      return { ...done({ readable: false, writable: false }), address: 0x8000000000000000n };
    case 'pfnmap_bar':
      // Part of the mapping that the device was opened with.
      return { ...done({ readable: false, writable: false }), memory: 'bar' };
    case 'vdso':
    case 'vvar':
      return { ...done({ readable: false, writable: false }, PG), memory: type };
    case 'guest_memfd': {
      // A type of VM that the kernel does not have: then an ordinary one.
      let vm = yield* call(s.op('kvm.create_vm', { as: 'gmem-vm', type: 'sw-protected' }));
      if (vm.errno !== null) vm = yield* call(s.op('kvm.create_vm', { as: 'gmem-vm' }));
      if (vm.errno !== null) return { errno: vm.errno };
      const file = yield* call(s.op('kvm.create_guest_memfd', { vm: 'gmem-vm', as: 'gmem', size: N8 }));
      if (file.errno !== null) return { errno: file.errno };
      const mapped = yield* call(map({ memory: 'gmem', shared: true }));
      return mapped.errno === null ? done(RW) : { errno: mapped.errno };
    }
    case 'uffd_missing':
      yield* call(anon('rw'));
      yield* call(must(s, 'uffd.register', { memory: 'm', mode: 'missing', fill: 'w' }));
      return done(RW);
    case 'uffd_wp':
      yield* call(anonTouched(s, 'm', 8n, 'c'));
      yield* call(must(s, 'uffd.register', { memory: 'm', mode: 'wp' }));
      return done(RW);
    case 'anon_after_fork_cow':
      yield* call(anonTouched(s, 'm', 8n, 'c'));
      yield* call(must(s, 'fork', { as: 'sharer', stays: true }));
      yield* call(writes(s, 'parent'));
      yield* call(must(s, 'settle', {}));
      return done(RW);
    case 'swapped_out':
      yield* call(anonTouched(s, 'm', 8n, 'c'));
      yield* call(must(s, 'madvise', { memory: 'm', advice: 'PAGEOUT' }));
      yield* call(must(s, 'settle', {}));
      return done(RW);
    default:
      return yield* call(fileMemory(s, type, map));
  }
}

/** mk_file: O_TRUNC, write, fsync. The blocks of fsdax_* are there from the start. */
function* makeFile(s: Session, memory: string, length: bigint): Steps<void> {
  yield* call(must(s, 'truncate', { memory, size: 0n }));
  yield* call(writes(s, 'file'));
  yield* call(must(s, 'file.write', { memory, length, value: 'f' }));
  yield* call(must(s, 'fsync', { memory }));
}

/** memfd_*, tmpfs_*, ext4_*, fsdax_*. */
function* fileMemory(
  s: Session,
  type: string,
  map: (args: Readonly<Record<string, unknown>>) => Steps<Result>,
): Steps<Mem | { readonly errno: string }> {
  const memory =
    type === 'memfd_rofd_shared_ro'
      ? 'memfd_ro'
      : type === 'memfd_write_sealed_ro'
        ? 'memfd_sealed'
        : type === 'ext4_shared_rw_past_eof'
          ? 'ext4_page'
          : { memfd: 'memfd', tmpfs: 'tmp', ext4: 'ext4', fsdax: 'dax' }[type.split('_')[0]!];
  if (memory === undefined) throw new Unsupported(`memory type ${type}`);
  if (memory === 'tmp' || memory.startsWith('ext4')) yield* call(makeFile(s, memory, memory === 'ext4_page' ? PG : N8));
  const readOnly = type.includes('_ro');
  const result = yield* call(map({ memory, prot: readOnly ? 'r' : 'rw', shared: !type.includes('private') }));
  if (result.errno !== null) return { errno: result.errno };
  if (type.includes('touched')) yield* call(must(s, 'touch', { memory: 'm', value: 'c' }));
  return { type, memory: 'm', bytes: N8, readable: true, writable: !readOnly };
}
