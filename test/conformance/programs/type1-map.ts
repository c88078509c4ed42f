// vfio_type1.c args_errors: argument checks of MAP_DMA, argsz, overlaps.
import { call, type Steps } from '../../../src/engine/process.ts';
import { labBoot } from '../boot.ts';
import type { Program } from '../program.ts';
import { hex, type Session, word } from '../session.ts';
import { addressOf, anonTouched, IOVA_SCRATCH, IOVA0, PG, VR, VRW, vfNeed, vmlck } from '../vf.ts';

function* argsErrors(s: Session): Steps<void> {
  yield* call(vfNeed(s));
  yield* call(anonTouched(s, 'p', 64n));
  const p = addressOf(s, 'p');
  function* T(name: string, vaddr: bigint, iova: bigint, length: bigint, flags: number): Steps<void> {
    const before = yield* call(vmlck(s));
    const result = yield* call(s.op('vfio.map', { device: 'edu', vaddr, iova, length, flags }));
    const inside = vaddr >= p && vaddr - p < 64n * PG;
    const text = inside ? `p+0x${(vaddr - p).toString(16)}` : vaddr === 0n ? '(nil)' : hex(vaddr);
    const observed: Record<string, unknown> = { vmlck_kb_delta: (yield* call(vmlck(s))) - before };
    if (result.errno === null) {
      observed.cleanup_unmap = word(yield* call(s.op('vfio.unmap', { device: 'edu', iova, size: length })));
    }
    s.emit(`type1/map/${name}`, result, { iova: hex(iova), vaddr: text, size: hex(length), flags }, observed);
  }
  const top = 0xfffffffffffff000n;
  yield* call(T('ok', p, IOVA0, PG, VRW));
  yield* call(T('flags_zero', p, IOVA0, PG, 0));
  yield* call(T('flags_unknown_bit3', p, IOVA0, PG, VRW | 8));
  yield* call(T('flags_unknown_bit31', p, IOVA0, PG, VRW + 2 ** 31));
  yield* call(T('flags_vaddr_without_prior', p, IOVA0, PG, 4));
  yield* call(T('flags_vaddr_plus_rw', p, IOVA0, PG, VRW | 4));
  yield* call(T('iova_unaligned', p, IOVA0 + 8n, PG, VRW));
  yield* call(T('iova_half_page', p, IOVA0 + 2048n, PG, VRW));
  yield* call(T('vaddr_unaligned', p + 8n, IOVA0, PG, VRW));
  yield* call(T('size_unaligned', p, IOVA0, PG + 8n, VRW));
  yield* call(T('size_zero', p, IOVA0, 0n, VRW));
  yield* call(T('size_half_page', p, IOVA0, 2048n, VRW));
  yield* call(T('iova_wrap', p, top, 2n * PG, VRW));
  yield* call(T('iova_last_page', p, top, PG, VRW));
  yield* call(T('vaddr_wrap', top, IOVA0, 2n * PG, VRW));
  yield* call(T('vaddr_wrap_to_0', top, IOVA0, PG, VRW));
  yield* call(T('vaddr_null', 0n, IOVA0, PG, VRW));
  yield* call(T('iova_zero', p, 0n, PG, VRW));
  yield* call(T('iova_2_38', p, 1n << 38n, PG, VRW));
  yield* call(T('iova_2_39_minus_page', p, (1n << 39n) - PG, PG, VRW));
  yield* call(T('iova_2_39', p, 1n << 39n, PG, VRW));
  yield* call(T('iova_2_48', p, 1n << 48n, PG, VRW));
  yield* call(T('iova_crossing_2_39', p, (1n << 39n) - PG, 2n * PG, VRW));
  yield* call(T('iova_msi_window', p, 0xfee00000n, PG, VRW));
  yield* call(T('iova_msi_window_end', p, 0xfeeff000n, PG, VRW));
  yield* call(T('iova_below_msi_window', p, 0xfedff000n, PG, VRW));
  yield* call(T('iova_crossing_msi_window', p, 0xfedff000n, 2n * PG, VRW));
  yield* call(T('iova_after_msi_window', p, 0xfef00000n, PG, VRW));
  yield* call(T('size_huge_u64', p, IOVA0, 0x7ffffffffffff000n, VRW));
  yield* call(T('size_128GB_over_scratch', p, IOVA0, 1n << 37n, VRW));
  yield* call(T('size_64GB_mostly_hole', p, 1n << 36n, 1n << 36n, VRW));
  yield* call(T('size_huge_u64_no_overlap', p, IOVA_SCRATCH + PG, 0x7ffffffffffff000n, VRW));
  yield* call(T('overlap_and_beyond_aperture', p, IOVA_SCRATCH, 1n << 40n, VRW));
  yield* call(T('hole_and_beyond_aperture', 0x1000n, 1n << 39n, PG, VRW));
  const short = yield* call(
    s.op('vfio.map', { device: 'edu', vaddr: p, iova: IOVA0, length: PG, flags: VRW, argsz: 24 }),
  );
  s.emit('type1/map/argsz_short', short, { argsz: 'short' });
  const long = yield* call(
    s.op('vfio.map', { device: 'edu', vaddr: p, iova: IOVA0, length: PG, flags: VRW, argsz: 96 }),
  );
  s.emit('type1/map/argsz_long', long, { argsz: 'long' });
  yield* call(s.op('vfio.unmap', { device: 'edu', iova: IOVA0, size: PG }));
  s.emit('type1/map/arg_pointer_bad', yield* call(s.op('vfio.map', { device: 'edu', iova: 0, fault: true })), {
    ptr: 'NULL',
  });
  s.emit('type1/ioctl_unknown', yield* call(s.op('vfio.ioctl_unknown', { device: 'edu' })), { cmd: 'type 0x3b nr 99' });
  yield* call(s.op('vfio.map', { device: 'edu', vaddr: p, iova: IOVA0 + 4n * PG, length: 4n * PG, flags: VRW }));
  yield* call(T('overlap_exact', p, IOVA0 + 4n * PG, 4n * PG, VRW));
  yield* call(T('overlap_exact_same_vaddr_other_flags', p, IOVA0 + 4n * PG, 4n * PG, VR));
  yield* call(T('overlap_inside', p, IOVA0 + 5n * PG, PG, VRW));
  yield* call(T('overlap_head', p, IOVA0 + 3n * PG, 2n * PG, VRW));
  yield* call(T('overlap_tail', p, IOVA0 + 7n * PG, 2n * PG, VRW));
  yield* call(T('overlap_surrounding', p, IOVA0, 16n * PG, VRW));
  yield* call(T('adjacent_below', p, IOVA0 + 3n * PG, PG, VRW));
  yield* call(T('adjacent_above', p, IOVA0 + 8n * PG, PG, VRW));
  yield* call(T('same_vaddr_second_iova', p, IOVA0 + 32n * PG, 4n * PG, VRW));
}

export const type1Map: Program = {
  name: 'type1/map',
  reports: ['type1/map', 'type1/ioctl_unknown'],
  boot: labBoot(),
  run: argsErrors,
};
