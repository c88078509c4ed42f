// pins.c madv, ropin: madvise on pinned memory; what a read-only pin sees of later writes by the CPU or to the file.
import { call, type Steps } from '../../../src/engine/process.ts';
import { type Pinned, pinPrograms } from '../pinned.ts';
import type { Program } from '../program.ts';
import { byteOf, must, PG, VR } from '../vf.ts';

/** do_madv; `part`: bytes, or the whole mapping. */
function advise(advice: string, part?: bigint) {
  return function* (p: Pinned): Steps<void> {
    const { s, observed, mem } = p;
    const length = part ?? mem.bytes;
    p.args.bytes = Number(length);
    const before = yield* call(p.cpu());
    const result = yield* call(s.op('madvise', { memory: mem.memory, length, advice }));
    yield* call(must(s, 'settle', {}));
    yield* call(p.pageObserved());
    observed.cpu_content_kept = (yield* call(p.cpu())) === before;
    if (p.pinned) {
      const read = yield* call(p.dmaRead());
      observed.dma_sees_old_content = read === before;
      observed.device_reads_zero = read === 0;
    }
    yield* call(p.coherence(true));
    yield* call(p.finish(result));
  };
}

/** do_ro_pin */
function* cpuWrites(p: Pinned): Steps<void> {
  const { observed } = p;
  const flags = (yield* call(p.kpage(p.f0))).flags.split('|');
  yield* call(p.cpuWrite('N'));
  observed.pinned_zero_page = flags.includes('ZERO_PAGE');
  observed.pinned_anon_page = flags.includes('ANON');
  observed.dma_sees_new_cpu_write = (yield* call(p.dmaRead())) === byteOf('N');
  yield* call(p.pageObserved());
  yield* call(p.finish('ok'));
}

/** do_ro_file_write */
function* fileWrite(p: Pinned): Steps<void> {
  const { s, observed } = p;
  const result = yield* call(s.op('file.write', { memory: p.mem.memory, value: 'F' }));
  observed.dma_sees_file_write = (yield* call(p.dmaRead())) === byteOf('F');
  observed.cpu_mapping_sees_file_write = (yield* call(p.cpu())) === byteOf('F');
  yield* call(p.pageObserved());
  yield* call(p.finish(result));
}

const PINNED = [true];
const BOTH = [true, false];
const SHMEM = 'memfd_shared_rw_touched';
const PRIVATE = 'memfd_private_rw_touched';
const EXT4 = 'ext4_shared_rw_touched';
const DONTNEED = [
  ...['anon_rw_touched', 'anon_thp', 'anon_mlocked', 'shared_anon', SHMEM, PRIVATE, 'hugetlb_2m', 'memfd_hugetlb'],
  ...[EXT4, 'ext4_private_rw_touched'],
];
const REMOVE = [SHMEM, 'shared_anon', 'anon_rw_touched', 'memfd_hugetlb', EXT4];
const PAGEOUT = ['anon_rw_touched', 'anon_thp', 'shared_anon', SHMEM, PRIVATE, EXT4, 'anon_mlocked'];
const RO_PIN = [
  ...['anon_rw_untouched', 'anon_rw_zeropage', 'anon_rw_touched', 'anon_thp_untouched', 'memfd_private_rw'],
  ...['ext4_private_rw', 'memfd_shared_rw', 'ext4_shared_rw', 'anon_after_fork_cow'],
];
const RO_FILE = [
  ...['memfd_private_rw', 'memfd_private_ro', 'ext4_private_rw', 'ext4_private_ro', 'memfd_shared_rw'],
  'ext4_shared_rw',
];

export const pinsMadvise: readonly Program[] = [
  ...pinPrograms('madv_dontneed', DONTNEED, PINNED, advise('DONTNEED')),
  ...pinPrograms('madv_dontneed_locked', ['anon_mlocked'], PINNED, advise('DONTNEED_LOCKED')),
  ...pinPrograms('madv_free', ['anon_rw_touched', 'anon_thp'], PINNED, advise('FREE')),
  ...pinPrograms('madv_remove', REMOVE, PINNED, advise('REMOVE')),
  ...pinPrograms('madv_pageout', PAGEOUT, BOTH, advise('PAGEOUT')),
  ...pinPrograms('madv_cold', ['anon_rw_touched'], PINNED, advise('COLD')),
  ...pinPrograms('madv_soft_offline', ['anon_rw_touched', SHMEM, 'anon_thp'], BOTH, advise('SOFT_OFFLINE', PG)),
  ...pinPrograms('madv_dontneed_16k_of_thp', ['anon_thp'], BOTH, advise('DONTNEED', 4n * PG)),
  ...pinPrograms('ro_pin_then_cpu_write', RO_PIN, PINNED, cpuWrites, { flags: VR }),
  ...pinPrograms('ro_pin_then_file_write', RO_FILE, PINNED, fileWrite, { flags: VR }),
];
