// pins.c truncs: holes, truncation, unlink and drop_caches under pinned memory of files.
import { call, type Steps } from '../../../src/engine/process.ts';
import { type Pinned, pinPrograms } from '../pinned.ts';
import type { Program } from '../program.ts';
import type { Result } from '../session.ts';
import { byteOf, must, PG, VR, VRW } from '../vf.ts';

type How =
  | 'punch_hole'
  | 'truncate_0'
  | 'truncate_0_and_extend'
  | 'unlink_and_close'
  | 'drop_caches'
  | 'fallocate_zero_range'
  | 'fallocate_collapse_range';

function* change(p: Pinned, how: How): Steps<Result> {
  const { s, mem } = p;
  const { memory, bytes: length } = mem;
  switch (how) {
    case 'punch_hole':
      return yield* call(s.op('fallocate', { memory, mode: 'punch-hole', length }));
    case 'truncate_0':
      return yield* call(s.op('truncate', { memory, size: 0n }));
    case 'truncate_0_and_extend': {
      const result = yield* call(s.op('truncate', { memory, size: 0n }));
      yield* call(s.op('truncate', { memory, size: length }));
      return result;
    }
    case 'unlink_and_close': {
      const result = yield* call(s.op('unlink', { memory }));
      yield* call(must(s, 'close', { fd: memory }));
      return result;
    }
    case 'drop_caches': {
      yield* call(must(s, 'sync', {}));
      yield* call(must(s, 'drop_caches', {}));
      return yield* call(must(s, 'settle', {}));
    }
    case 'fallocate_zero_range':
      return yield* call(s.op('fallocate', { memory, mode: 'zero-range', length }));
    default:
      return yield* call(s.op('fallocate', { memory, mode: 'collapse-range', length: PG }));
  }
}

/** do_trunc */
function changed(how: How) {
  return function* (p: Pinned): Steps<void> {
    const { s, observed, mem } = p;
    const before = yield* call(p.cpu());
    p.f0 = yield* call(p.pfn());
    const result = yield* call(change(p, how));
    observed.va_still_present = (yield* call(p.pfn())) !== 0;
    const old = yield* call(p.kpage(p.f0));
    observed.old_page_flags = old.flags;
    observed.old_page_mapcount = old.mapcount;
    if (p.pinned) observed.dma_reads_old_content = (yield* call(p.dmaRead())) === before;
    if (how !== 'truncate_0') {
      observed.cpu_reads = yield* call(p.cpu());
      yield* call(p.pageObserved());
      yield* call(p.coherence(mem.writable));
      if (how !== 'unlink_and_close') {
        const read = yield* call(s.op('file.read', { memory: mem.memory }));
        observed.file_reads = byteOf(read.shows.value);
      }
    }
    yield* call(p.finish(result));
  };
}

const SHMEM = 'memfd_shared_rw_touched';
const EXT4 = 'ext4_shared_rw_touched';
const EXT4_RO = 'ext4_shared_ro';
const TYPES = [SHMEM, 'memfd_private_rw_touched', 'memfd_hugetlb', EXT4, EXT4_RO];

function programs(how: How, types: readonly string[]): readonly Program[] {
  return types.flatMap((type) =>
    pinPrograms(how, [type], [true], changed(how), { flags: type === EXT4_RO ? VR : VRW }),
  );
}

export const pinsTruncate: readonly Program[] = [
  ...programs('punch_hole', TYPES),
  ...programs('truncate_0', TYPES),
  ...programs('truncate_0_and_extend', TYPES),
  ...programs('unlink_and_close', ['tmpfs_shared_rw', EXT4, EXT4_RO]),
  ...programs('drop_caches', [SHMEM, EXT4, EXT4_RO]),
  ...programs('fallocate_zero_range', [SHMEM, EXT4_RO]),
  ...programs('fallocate_collapse_range', [EXT4_RO]),
];
