// vfio_type1.c groups: two groups in one container.
import { call, type Steps } from '../../../src/engine/process.ts';
import { labBoot } from '../boot.ts';
import type { Program } from '../program.ts';
import { type Session, word } from '../session.ts';
import { byteOf, IOVA0, mapBar, must, PG, vfMap, vfNeed, vfUnmap, vmlck } from '../vf.ts';

function* groups(s: Session): Steps<void> {
  yield* call(vfNeed(s));
  yield* call(must(s, 'mmap', { name: 'p', size: 16n * PG }));
  yield* call(must(s, 'cpu.write', { memory: 'p', value: 'g' }));
  yield* call(vfMap(s, 'p', 0n, IOVA0, PG));
  const before = yield* call(vmlck(s));
  yield* call(must(s, 'vfio.open_group', { device: 'edu2' }));
  const joined = yield* call(s.op('vfio.set_container', { device: 'edu2' }));
  const change = { vmlck_kb_change: (yield* call(vmlck(s))) - before };
  s.emit('type1/groups/second_group_joins_container_with_mappings', joined, {}, change);

  const opened = yield* call(s.op('vfio.get_device_fd', { device: 'edu2' }));
  const observed: Record<string, unknown> = { open: word(opened) };
  const read = function* (device: string): Steps<number> {
    return byteOf((yield* call(s.op('dma.read', { device, iova: IOVA0 }))).shows.value);
  };
  const g = byteOf('g');
  if (opened.errno === null) {
    yield* call(mapBar(s, 'edu2', 'bar2'));
    observed.second_device_reads_existing_mapping = (yield* call(read('edu2'))) === g;
  }
  s.emit('type1/groups/second_device_uses_existing_mappings', opened, {}, observed);

  yield* call(vfUnmap(s, IOVA0, PG));
  const second = yield* call(read('edu2'));
  s.emit(
    'type1/groups/unmap_hits_both_devices',
    'ok',
    {},
    { second_device_read_blocked: second !== g, read_value: second },
  );
  const first = yield* call(read('edu'));
  s.emit('type1/groups/unmap_first_device', 'ok', {}, { first_device_read_blocked: first !== g, read_value: first });
  yield* call(must(s, 'vfio.open_container', { as: 'z' }));
  const moved = yield* call(s.op('vfio.set_container', { device: 'edu', fd: 'z' }));
  s.emit('type1/groups/group_in_second_container', moved);
}

export const type1Groups: Program = { name: 'type1/groups', boot: labBoot(), run: groups };
