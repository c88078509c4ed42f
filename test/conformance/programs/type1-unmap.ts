// vfio_type1.c unmap_sem: what UNMAP_DMA takes away, v1 and v2, and (v2) the update of vaddr.
import { call, type Steps } from '../../../src/engine/process.ts';
import { labBoot } from '../boot.ts';
import type { Program } from '../program.ts';
import { hex, type Result, type Session } from '../session.ts';
import { byteOf, IOVA_SCRATCH, IOVA0, must, PG, VRW, vfMap, vfNeed, vfUnmap, vmlck } from '../vf.ts';

/** VFIO_DMA_UNMAP_FLAG_* and VFIO_DMA_MAP_FLAG_VADDR */
const DIRTY = 1;
const ALL = 2;
const VADDR = 4;
const MAP_VADDR = 4;

type Unmap = (name: string, iova: bigint, size: bigint, flags?: number) => Steps<void>;

/** The macro UN: one unmap, reported with what is left charged since `start`. */
function reporter(s: Session, version: 'v1' | 'v2', start: () => number): Unmap {
  return function* (name, iova, size, flags = 0): Steps<void> {
    const result = yield* call(vfUnmap(s, iova, size, flags));
    const args = { iova: hex(iova), size: hex(size), flags, iommu: version };
    const left = (yield* call(vmlck(s))) - start();
    const observed = { unmapped_bytes: Number(result.shows.unmapped), vmlck_kb_left: left };
    s.emit(`type1/unmap_${version}/${name}`, result, args, observed);
  };
}

function* unmapSemantics(s: Session, version: 'v1' | 'v2'): Steps<void> {
  yield* call(vfNeed(s, version === 'v2' ? 'type1v2' : 'type1'));
  yield* call(must(s, 'mmap', { name: 'p', size: 2048n * PG }));
  yield* call(must(s, 'madvise', { memory: 'p', advice: 'NOHUGEPAGE' }));
  const start = yield* call(vmlck(s));
  const un = reporter(s, version, () => start);
  const map = (page: bigint, iovaPage: bigint, pages: bigint): Steps<Result> =>
    vfMap(s, 'p', page * PG, IOVA0 + iovaPage * PG, pages * PG);
  const unPages = (name: string, page: bigint, pages: bigint, flags = 0) =>
    un(name, IOVA0 + page * PG, pages * PG, flags);
  function* reset(): Steps<void> {
    yield* call(vfUnmap(s, 0n, IOVA_SCRATCH));
    yield* call(vfUnmap(s, IOVA_SCRATCH + PG, 1n << 37n));
  }
  const scratch = () => s.op('vfio.map', { device: 'edu', memory: 'scratch', iova: IOVA_SCRATCH });
  function* twoHalves(): Steps<void> {
    yield* call(map(0n, 0n, 4n));
    yield* call(map(4n, 4n, 4n));
  }
  yield* call(map(0n, 0n, 8n));
  yield* call(unPages('exact', 0n, 8n));
  yield* call(unPages('double', 0n, 8n));
  yield* call(unPages('never_mapped', 100n, 1n));
  yield* call(map(0n, 0n, 8n));
  yield* call(unPages('middle_of_mapping', 2n, 2n));
  yield* call(reset());
  yield* call(map(0n, 0n, 8n));
  yield* call(unPages('head_of_mapping', 0n, 2n));
  yield* call(unPages('then_rest', 0n, 8n));
  yield* call(reset());
  yield* call(map(0n, 0n, 8n));
  yield* call(unPages('tail_of_mapping', 6n, 2n));
  yield* call(reset());
  yield* call(twoHalves());
  yield* call(unPages('spans_two_mappings', 0n, 8n));
  yield* call(reset());
  yield* call(twoHalves());
  yield* call(unPages('one_and_a_half_mappings', 0n, 6n));
  yield* call(reset());
  yield* call(twoHalves());
  yield* call(unPages('half_and_one_mappings', 2n, 6n));
  yield* call(reset());
  yield* call(map(0n, 2n, 2n));
  yield* call(map(4n, 6n, 2n));
  yield* call(unPages('range_with_holes', 0n, 16n));
  yield* call(reset());
  yield* call(map(0n, 0n, 1024n));
  yield* call(unPages('middle_of_4mb_contiguous_iova', 512n, 2n));
  yield* call(reset());
  const top = 0xfffffffffffff000n;
  yield* call(un('size_zero', IOVA0, 0n));
  yield* call(un('size_unaligned', IOVA0, PG + 8n));
  yield* call(un('iova_unaligned', IOVA0 + 8n, PG));
  yield* call(un('wrap', top, 2n * PG));
  yield* call(un('last_page_of_u64', top, PG));
  yield* call(map(0n, 0n, 2n));
  yield* call(un('whole_space_by_size', 0n, top));
  yield* call(scratch());
  yield* call(map(0n, 0n, 2n));
  yield* call(map(0n, 256n, 2n));
  yield* call(un('all_with_iova', IOVA0, 0n, ALL));
  yield* call(un('all_with_size', 0n, PG, ALL));
  yield* call(un('all', 0n, 0n, ALL));
  yield* call(un('all_again_when_empty', 0n, 0n, ALL));
  yield* call(scratch());
  yield* call(un('unknown_flag', IOVA0, PG, 8));
  yield* call(un('all_plus_dirty_bitmap', 0n, 0n, ALL | DIRTY));
  yield* call(un('dirty_bitmap_without_tracking', IOVA0, PG, DIRTY));
  if (version === 'v2') yield* call(vaddrUpdate(s));
}

function* vaddrUpdate(s: Session): Steps<void> {
  const start = yield* call(vmlck(s));
  const un = reporter(s, 'v2', () => start);
  const left = function* (): Steps<number> {
    return (yield* call(vmlck(s))) - start;
  };
  const device = () => s.op('dma.read', { device: 'edu', iova: IOVA0 });
  const two = 2n * PG;
  function* unmap(name: string, iova: bigint, size: bigint, flags: number, charged = false): Steps<void> {
    const result = yield* call(vfUnmap(s, iova, size, flags));
    const observed: Record<string, unknown> = { unmapped_bytes: Number(result.shows.unmapped) };
    if (charged) observed.vmlck_kb_left = yield* call(left());
    if (name === 'unmap_vaddr') observed.dma_still_works = (yield* call(device())).shows.value === 'q';
    s.emit(`type1/vaddr/${name}`, result, {}, name === 'unmap_vaddr_plus_dirty' ? {} : observed);
  }
  yield* call(vfMap(s, 'p', 0n, IOVA0, two));
  yield* call(must(s, 'cpu.write', { memory: 'p', value: 'q' }));
  yield* call(unmap('unmap_vaddr', IOVA0, two, VADDR, true));
  yield* call(un('vaddr_unmap_vaddr_twice', IOVA0, two, VADDR));
  s.emit('type1/vaddr/plain_map_over_vaddr_invalid', yield* call(vfMap(s, 'p', 0n, IOVA0, two, VRW)));
  s.emit('type1/vaddr/remap_wrong_size', yield* call(vfMap(s, 'p', 0n, IOVA0, PG, MAP_VADDR)));
  s.emit('type1/vaddr/remap_wrong_iova', yield* call(vfMap(s, 'p', 8n * PG, IOVA0 + PG, two, MAP_VADDR)));
  yield* call(must(s, 'mmap', { name: 'np', size: two }));
  yield* call(must(s, 'cpu.write', { memory: 'np', value: 'z' }));
  const remapped = yield* call(vfMap(s, 'np', 0n, IOVA0, two, MAP_VADDR));
  const seen = (yield* call(device())).shows.value;
  s.emit(
    'type1/vaddr/remap_new_vaddr',
    remapped,
    {},
    { device_reads: byteOf(seen), device_still_sees_old_page: seen === 'q', vmlck_kb_left: yield* call(left()) },
  );
  s.emit('type1/vaddr/remap_again_when_valid', yield* call(vfMap(s, 'np', 0n, IOVA0, two, MAP_VADDR)));
  yield* call(unmap('unmap_vaddr_nothing_there', IOVA0 + 50n * PG, PG, VADDR));
  yield* call(unmap('unmap_vaddr_partial', IOVA0, PG, VADDR));
  yield* call(unmap('unmap_vaddr_all', 0n, 0n, VADDR | ALL, true));
  yield* call(unmap('unmap_vaddr_plus_dirty', IOVA0, PG, VADDR | DIRTY));
  yield* call(unmap('real_unmap_while_vaddr_invalid', IOVA0, two, 0, true));
}

export const type1Unmap: readonly Program[] = (['v1', 'v2'] as const).map((version) => ({
  name: `type1/unmap_${version}`,
  reports: [`type1/unmap_${version}`, ...(version === 'v2' ? ['type1/vaddr'] : [])],
  boot: labBoot(),
  run: (s: Session) => unmapSemantics(s, version),
}));
