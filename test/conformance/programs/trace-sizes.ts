// trace.c sizes: how type1 cuts a mapping into calls of iommu_map and iommu_unmap.
import { call, type Steps } from '../../../src/engine/process.ts';
import { LAB_HOST, labBoot } from '../boot.ts';
import { MEM_OBJECTS, type Mem, mk } from '../mem.ts';
import type { Program } from '../program.ts';
import { hex, type Session } from '../session.ts';
import { IOVA0, must, PG, VR, VRW, vfMap, vfNeed, vfUnmap } from '../vf.ts';

const BOOT = labBoot({ host: { ...LAB_HOST, trace: ['iommu'] }, memory: MEM_OBJECTS });
const CASES = [
  { type: 'anon_rw_touched', offset: 0n, small: false },
  { type: 'anon_rw_untouched', offset: 0n, small: false },
  { type: 'memfd_shared_rw', offset: 0n, small: false },
  { type: 'anon_thp', offset: 0n, small: false },
  { type: 'anon_thp', offset: PG, small: false },
  { type: 'anon_thp', offset: 0n, small: true },
  { type: 'hugetlb_2m', offset: 0n, small: false },
  { type: 'hugetlb_2m', offset: PG, small: false },
  { type: 'pfnmap_bar', offset: 0n, small: false },
  { type: 'anon_rw_zeropage', offset: 0n, small: false },
] as const;
const LAYOUT = 'how many pages in a row are neighbours in memory depends on what the machine did since it booted';

/** Runs of neighbouring frames; pages that are not there count one each. */
function* runsOf(s: Session, mem: Mem): Steps<number> {
  let runs = 1;
  let before = 0;
  for (let at = 0n; at < mem.bytes; at += PG) {
    const pfn = Number((yield* call(s.op('pagemap', { memory: mem.memory, offset: at, length: PG }))).shows.pfn);
    if (at > 0n && pfn !== before + 1) runs++;
    before = pfn;
  }
  return runs;
}

function* sizes(s: Session, { type, offset, small }: (typeof CASES)[number]): Steps<void> {
  yield* call(must(s, 'vfio.module_param', { disable_hugepages: small }));
  yield* call(vfNeed(s));
  const mem = yield* call(mk(s, type));
  if ('errno' in mem) throw new Error(`${type}: ${mem.errno}`);
  const contiguous = type === 'pfnmap_bar' ? 1 : yield* call(runsOf(s, mem));
  const look = function* (): Steps<Readonly<Record<string, unknown>>> {
    return (yield* call(must(s, 'trace.iommu', {}))).shows;
  };
  yield* call(look());
  const flags = type === 'anon_rw_zeropage' ? VR : VRW;
  const result = yield* call(vfMap(s, mem.memory, 0n, IOVA0 + offset, mem.bytes, flags));
  const map = yield* call(look());
  const page = (yield* call(s.op('pagemap', { memory: mem.memory, length: PG }))).shows;
  const scattered = page.present === true && page.huge_page !== true && page.zero_page !== true;
  yield* call(vfUnmap(s, IOVA0 + offset, mem.bytes));
  const unmap = yield* call(look());
  const suffix = (offset === 0n ? '' : '_iova_off_4k') + (small ? '_disable_hugepages' : '');
  s.emit(
    `trace/iommu_map_sizes/${type}${suffix}`,
    result,
    { type, size: Number(mem.bytes), iova_offset: hex(offset), disable_hugepages: small },
    {
      map_calls: map.map_calls,
      map_bytes: map.map_bytes,
      map_sizes: map.map_sizes,
      physically_contiguous_runs_before_map: contiguous,
      unmap_calls: unmap.unmap_calls,
      unmap_bytes: unmap.unmap_bytes,
      unmap_sizes: unmap.unmap_sizes,
    },
    scattered ? LAYOUT : undefined,
  );
}

export const traceSizes: readonly Program[] = CASES.map((one) => ({
  name: `trace/iommu_map_sizes/${one.type}`,
  reports: ['trace/iommu_map_sizes'],
  boot: BOOT,
  run: (s: Session) => sizes(s, one),
}));
