// vfio_type1.c prot_dma: what a device may do through READ, WRITE and absent mappings.
import { call, type Steps } from '../../../src/engine/process.ts';
import { labBoot } from '../boot.ts';
import type { Program } from '../program.ts';
import type { Session } from '../session.ts';
import { byteOf, IOVA0, must, PG, VR, VRW, VW, vfMap, vfNeed, vfUnmap } from '../vf.ts';

function* protDma(s: Session): Steps<void> {
  yield* call(vfNeed(s));
  yield* call(must(s, 'mmap', { name: 'p', size: 16n * PG }));
  const device = { device: 'edu', iova: IOVA0 };
  function* write(name: string): Steps<void> {
    yield* call(must(s, 'cpu.write', { memory: 'p', value: 'A' }));
    yield* call(must(s, 'dma.write', { ...device, value: 'B' }));
    const seen = yield* call(s.op('cpu.read', { memory: 'p' }));
    s.emit(`type1/dma/${name}`, 'ok', {}, { memory_changed: seen.shows.value === 'B' });
  }
  function* read(name: string): Steps<void> {
    yield* call(must(s, 'cpu.write', { memory: 'p', value: 'A' }));
    const { value } = (yield* call(s.op('dma.read', device))).shows;
    s.emit(`type1/dma/${name}`, 'ok', {}, { device_got_data: value === 'A', read_value: byteOf(value) });
  }
  yield* call(write('write_unmapped_iova'));
  yield* call(read('read_unmapped_iova'));
  for (const [flags, write_, read_] of [
    [VR, 'write_to_read_only_mapping', 'read_from_read_only_mapping'],
    [VW, 'write_to_write_only_mapping', 'read_from_write_only_mapping'],
    [VRW, 'write_rw', 'read_rw'],
  ] as const) {
    yield* call(vfMap(s, 'p', 0n, IOVA0, PG, flags));
    yield* call(write(write_));
    yield* call(read(read_));
    yield* call(vfUnmap(s, IOVA0, PG));
  }
  yield* call(write('write_after_unmap'));
  yield* call(read('read_after_unmap'));
}

export const type1Dma: Program = { name: 'type1/dma', boot: labBoot(), run: protDma };
