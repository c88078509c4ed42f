// vfio_type1.c matrix: every memory type mapped for DMA with READ, WRITE and both; what device and CPU see of each other.
import { call, type Steps } from '../../../src/engine/process.ts';
import { MEM_BOOT, MEM_TYPES, type Mem, mk } from '../mem.ts';
import type { Program } from '../program.ts';
import { type Session, word } from '../session.ts';
import { mapObserved, snap } from '../snap.ts';
import { IOVA0, must, PG, VR, VRW, VW, vfNeed } from '../vf.ts';

const MODES = [
  [VR, 'READ'],
  [VW, 'WRITE'],
  [VRW, 'READ|WRITE'],
] as const;

function* matrix(s: Session, type: string, flags: number, prot: string): Steps<void> {
  const name = `type1/mem/${type}`;
  yield* call(vfNeed(s));
  const mem = yield* call(mk(s, type));
  if ('errno' in mem) {
    s.emit(name, mem.errno, { type, prot }, { stage: 'make_memory' });
    return;
  }
  const args = { type, prot, size: Number(mem.bytes) };
  const observed: Record<string, unknown> = {};
  const a = yield* call(snap(s, mem));
  if (type === 'swapped_out') observed.was_swapped = a.swapped;
  const where = mem.address === undefined ? { memory: mem.memory, offset: 0 } : { vaddr: mem.address };
  yield* call(clockGettime(s));
  const result = yield* call(s.op('vfio.map', { device: 'edu', ...where, iova: IOVA0, length: mem.bytes, flags }));
  const b = yield* call(snap(s, mem));
  Object.assign(observed, mapObserved(a, b));
  if (type.startsWith('uffd')) observed.uffd_faults_served = b.present > a.present ? b.present - a.present : 0;
  if (result.errno === null) {
    if (type !== 'pfnmap_bar') yield* call(accesses(s, mem, flags, observed));
    const unmap = yield* call(s.op('vfio.unmap', { device: 'edu', iova: IOVA0, size: mem.bytes }));
    const c = yield* call(snap(s, mem));
    observed.unmap = word(unmap);
    observed.unmapped_bytes = Number(unmap.shows.unmapped);
    observed.vmlck_kb_after_unmap = c.lck - a.lck;
    observed.foll_pin_released_by_unmap = c.released - b.released;
  }
  s.emit(name, result, args, observed);
}

/** clock_gettime runs code of the vdso, which reads vvar: their pages are mapped from then on. */
function* clockGettime(s: Session): Steps<void> {
  yield* call(must(s, 'cpu.read', { memory: 'vdso' }));
  yield* call(must(s, 'cpu.read', { memory: 'vvar' }));
}

/** What the device and the CPU see of each other's writes. */
function* accesses(s: Session, mem: Mem, flags: number, observed: Record<string, unknown>): Steps<void> {
  if ((flags & VW) !== 0 && mem.readable) {
    yield* call(must(s, 'dma.write', { device: 'edu', iova: IOVA0, value: 'D' }));
    observed.cpu_sees_dma_write = (yield* call(s.op('cpu.read', { memory: mem.memory }))).shows.value === 'D';
  }
  if ((flags & VR) !== 0 && mem.writable) {
    const before = (yield* call(s.op('pagemap', { memory: mem.memory, length: PG }))).shows.pfn;
    yield* call(s.op('cpu.write', { memory: mem.memory, offset: PG, value: 'W' }));
    yield* call(s.op('cpu.write', { memory: mem.memory, value: 'W' }));
    const read = yield* call(s.op('dma.read', { device: 'edu', iova: IOVA0 }));
    observed.dma_sees_later_cpu_write = read.shows.value === 'W';
    observed.cpu_write_moved_page =
      (yield* call(s.op('pagemap', { memory: mem.memory, length: PG }))).shows.pfn !== before;
  }
}

export const type1Mem: readonly Program[] = MEM_TYPES.flatMap((type) =>
  MODES.map(([flags, prot]) => ({
    name: `type1/mem/${type}`,
    boot: MEM_BOOT,
    run: (s: Session) => matrix(s, type, flags, prot),
  })),
);
