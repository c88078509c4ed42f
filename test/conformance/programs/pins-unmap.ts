// pins.c unmaps: munmap, mremap and mprotect of pinned memory.
import { call, type Steps } from '../../../src/engine/process.ts';
import { writes } from '../image.ts';
import { type Pinned, pinPrograms } from '../pinned.ts';
import type { Program } from '../program.ts';
import { addressOf, byteOf, must, vmlck } from '../vf.ts';

/** HugePages_Free of /proc/meminfo. */
function* hugeFree(p: Pinned): Steps<number> {
  yield* call(writes(p.s, 'stdio'));
  return Number((yield* call(p.s.op('meminfo'))).shows.HugePages_Free);
}

/** do_munmap */
function* unmapped(p: Pinned): Steps<void> {
  const { s, observed, mem } = p;
  const before = yield* call(p.cpu());
  const free = yield* call(hugeFree(p));
  const locked = yield* call(vmlck(s));
  const result = yield* call(s.op('munmap', { memory: mem.memory }));
  observed.vmlck_kb_change = (yield* call(vmlck(s))) - locked;
  const old = yield* call(p.kpage(p.f0));
  observed.old_page_flags = old.flags;
  observed.old_page_mapcount = old.mapcount;
  observed.dma_reads_old_content = (yield* call(p.dmaRead())) === before;
  yield* call(p.dmaWrite('D'));
  observed.dma_write_works = (yield* call(p.dmaRead())) === byteOf('D');
  if (mem.type.includes('huge')) observed.hugepages_free_change_while_pinned = (yield* call(hugeFree(p))) - free;
  if (hasFile(mem.type)) {
    const read = yield* call(s.op('file.read', { memory: mem.memory }));
    observed.file_read_sees_dma_write = byteOf(read.shows.value) === byteOf('D');
  }
  yield* call(p.finish(result));
}

/** A descriptor that the programs can pread. */
export function hasFile(type: string): boolean {
  return ['memfd', 'ext4', 'tmpfs', 'fsdax'].includes(type.split('_')[0]!);
}

/** do_remap_same_va */
function* mappedAgain(p: Pinned): Steps<void> {
  const { s, observed, mem } = p;
  const before = yield* call(p.cpu());
  const at = addressOf(s, mem.memory);
  yield* call(must(s, 'munmap', { memory: mem.memory }));
  const result = yield* call(s.op('mmap', { name: 'n', size: mem.bytes, at }));
  yield* call(must(s, 'touch', { memory: 'n', value: 'n' }));
  p.mem = { ...mem, memory: 'n' };
  yield* call(p.pageObserved());
  observed.dma_reads_old_content = (yield* call(p.dmaRead())) === before;
  yield* call(p.coherence(true));
  yield* call(p.finish({ ...result, ret: 0 }));
}

/** do_mremap */
function* moved(p: Pinned): Steps<void> {
  const { s, mem } = p;
  yield* call(must(s, 'mmap', { name: 'hole', size: mem.bytes * 2n, prot: 'none' }));
  const hole = addressOf(s, 'hole');
  const to = (hole + mem.bytes - 1n) & ~(mem.bytes - 1n);
  const result = yield* call(s.op('mremap', { memory: mem.memory, to }));
  yield* call(p.pageObserved());
  yield* call(p.coherence(true));
  yield* call(p.finish(result));
}

/** do_mremap_du */
function* dontUnmap(p: Pinned): Steps<void> {
  const { s, observed, mem } = p;
  const result = yield* call(s.op('mremap', { memory: mem.memory, dontunmap: true, name: 'n' }));
  if (result.errno === null) {
    observed.new_va_has_pinned_page = (yield* call(p.pfn(0n, 'n'))) === p.f0;
    observed.old_va_reads_zero = (yield* call(p.cpu())) === 0;
    p.mem = { ...mem, memory: 'n' };
  }
  yield* call(p.coherence(true));
  yield* call(p.finish(result));
}

/** do_mprot_ro */
function* readOnly(p: Pinned): Steps<void> {
  const { s, observed, mem } = p;
  const result = yield* call(s.op('mprotect', { memory: mem.memory, prot: 'r' }));
  yield* call(p.pageObserved());
  yield* call(p.coherence(false));
  yield* call(s.op('mprotect', { memory: mem.memory, prot: 'rw' }));
  yield* call(p.cpuWrite('M'));
  observed.dma_sees_write_after_rw_again = (yield* call(p.dmaRead())) === byteOf('M');
  yield* call(p.finish(result));
}

/** do_mprot_none */
function* none(p: Pinned): Steps<void> {
  const { s, observed, mem } = p;
  const result = yield* call(s.op('mprotect', { memory: mem.memory, prot: 'none' }));
  yield* call(p.dmaWrite('D'));
  yield* call(s.op('mprotect', { memory: mem.memory, prot: 'rw' }));
  observed.cpu_sees_dma_write_after_rw_again = (yield* call(p.cpu())) === byteOf('D');
  yield* call(p.pageObserved());
  yield* call(p.coherence(true));
  yield* call(p.finish(result));
}

const TYPES = ['anon_rw_touched', 'anon_thp', 'hugetlb_2m', 'memfd_shared_rw_touched', 'ext4_shared_rw_touched'];
const DONTUNMAP = ['anon_rw_touched', 'anon_thp', 'memfd_shared_rw_touched'];

export const pinsUnmap: readonly Program[] = [
  ...pinPrograms('munmap', TYPES, [true], unmapped),
  ...pinPrograms('munmap_then_mmap_same_va', TYPES, [true], mappedAgain),
  ...pinPrograms('mremap_move', TYPES, [true], moved),
  ...pinPrograms('mprotect_read', TYPES, [true], readOnly),
  ...pinPrograms('mprotect_none', TYPES, [true], none),
  ...pinPrograms('mremap_dontunmap', DONTUNMAP, [true], dontUnmap),
];
