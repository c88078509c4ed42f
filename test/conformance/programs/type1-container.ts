// vfio_type1.c info: what containers and groups refuse in which state, extensions, GET_INFO.
import { call, type Steps } from '../../../src/engine/process.ts';
import { labBoot } from '../boot.ts';
import type { Program } from '../program.ts';
import { hex, type Session, word } from '../session.ts';
import { IOVA0, must, PG, VRW, vmlck } from '../vf.ts';

const EXTENSIONS = [
  ...['TYPE1', 'SPAPR_TCE', 'TYPE1v2', 'DMA_CC', 'EEH', 'TYPE1_NESTING', 'SPAPR_TCE_v2', 'NOIOMMU', 'UNMAP_ALL'],
  ...['UPDATE_VADDR', '11'],
];

function* info(s: Session): Steps<void> {
  yield* call(must(s, 'vfio.open_container', { as: 'c' }));
  const c = { container: 'c' };
  const version = yield* call(s.op('vfio.api_version', c));
  s.emit('type1/container/api_version', 'ok', {}, { api_version: version.ret });
  yield* call(extensions(s, 'no_group'));
  yield* call(must(s, 'mmap', { name: 'p', size: PG }));
  const emit = function* (
    name: string,
    operation: string,
    args: Readonly<Record<string, unknown>>,
    a = {},
  ): Steps<void> {
    s.emit(`type1/${name}`, yield* call(s.op(operation, args)), a);
  };
  const map = { ...c, memory: 'p', iova: IOVA0, length: PG, flags: VRW };
  yield* call(emit('container/set_iommu_without_group', 'vfio.set_iommu', { ...c, type: 'type1v2' }));
  yield* call(emit('container/map_without_iommu', 'vfio.map', map));
  yield* call(emit('container/unmap_without_iommu', 'vfio.unmap', { ...c, iova: IOVA0, size: PG }));
  yield* call(emit('container/get_info_without_iommu', 'vfio.info', c));

  yield* call(must(s, 'vfio.open_group', { device: 'edu' }));
  const second = yield* call(s.op('vfio.open_group', { device: 'edu' }));
  s.emit('type1/group/second_open_while_open', second, {}, { second_open: word(second) });
  const status = yield* call(s.op('vfio.group_status', { device: 'edu' }));
  s.emit('type1/group/status_fresh', status, {}, { flags: hex(Number(status.shows.flags)) });
  yield* call(emit('group/get_device_fd_without_container', 'vfio.get_device_fd', { device: 'edu' }));
  yield* call(emit('group/unset_container_when_none', 'vfio.unset_container', { device: 'edu' }));
  yield* call(must(s, 'open', { path: '/dev/null', as: 'null' }));
  yield* call(emit('group/set_container_bogus_fd', 'vfio.set_container', { device: 'edu', fd: 'null' }));
  yield* call(emit('group/set_container', 'vfio.set_container', { device: 'edu', fd: 'c' }));
  yield* call(emit('group/set_container_twice', 'vfio.set_container', { device: 'edu', fd: 'c' }));
  yield* call(emit('group/get_device_fd_before_set_iommu', 'vfio.get_device_fd', { device: 'edu' }));

  yield* call(emit('container/set_iommu_bad_type', 'vfio.set_iommu', { ...c, type: 99 }));
  yield* call(emit('container/set_iommu_spapr', 'vfio.set_iommu', { ...c, type: 'spapr' }));
  yield* call(must(s, 'vfio.module_param', { allow_unsafe_interrupts: false }));
  const unsafe = { allow_unsafe_interrupts: '0', intremap: 'off' };
  yield* call(emit('container/set_iommu_no_interrupt_remapping', 'vfio.set_iommu', { ...c, type: 'type1v2' }, unsafe));
  yield* call(must(s, 'vfio.module_param', { allow_unsafe_interrupts: true }));
  yield* call(emit('container/set_iommu_type1v2', 'vfio.set_iommu', { ...c, type: 'type1v2' }));
  yield* call(emit('container/set_iommu_twice', 'vfio.set_iommu', { ...c, type: 'type1v2' }));
  yield* call(extensions(s, 'with_iommu'));
  yield* call(emit('group/get_device_fd_wrong_name', 'vfio.get_device_fd', { device: 'edu', unknown: true }));
  yield* call(emit('group/get_device_fd', 'vfio.get_device_fd', { device: 'edu', as: 'd' }));
  yield* call(emit('group/get_device_fd_second_time', 'vfio.get_device_fd', { device: 'edu', as: 'd2' }));
  yield* call(s.op('close', { fd: 'd2' }));
  yield* call(emit('group/unset_container_while_device_open', 'vfio.unset_container', { device: 'edu' }));

  const { shows } = yield* call(must(s, 'vfio.info', c));
  const observed: Record<string, unknown> = {
    flags: hex(Number(shows.flags)),
    iova_pgsizes: hex(shows.pgsizes as bigint),
  };
  const ranges = shows.ranges as readonly bigint[];
  for (let i = 0; i < ranges.length; i += 2) observed[`iova_range_${i / 2}`] = [hex(ranges[i]!), hex(ranges[i + 1]!)];
  observed.migration_pgsizes = hex(shows.migration_pgsizes as bigint);
  observed.max_dirty_bitmap = shows.max_dirty_bitmap;
  if (shows.dma_avail !== undefined) observed.dma_avail = shows.dma_avail;
  s.emit('type1/container/get_info', 'ok', {}, observed);
  yield* call(s.op('vfio.map', map));
  const left = (yield* call(s.op('vfio.info', c))).shows.dma_avail;
  s.emit('type1/container/dma_avail_after_one_map', 'ok', {}, left === undefined ? {} : { dma_avail: left });
  yield* call(must(s, 'close', { fd: 'd' }));
  yield* call(emit('group/unset_container_device_closed_mapping_left', 'vfio.unset_container', { device: 'edu' }));
  const after = { vmlck_kb: yield* call(vmlck(s)) };
  const gone = yield* call(s.op('vfio.unmap', { ...c, iova: IOVA0, size: PG }));
  s.emit('type1/container/unmap_after_group_gone', gone, {}, after);
}

function* extensions(s: Session, when: string): Steps<void> {
  for (const [i, name] of EXTENSIONS.entries()) {
    const ext = i + 1;
    const answer = yield* call(s.op('vfio.check_extension', { container: 'c', extension: ext }));
    s.emit(`type1/container/check_extension_${when}/${name}`, answer, { ext, name });
  }
}

export const type1Container: Program = {
  name: 'type1/container',
  reports: ['type1/container', 'type1/group'],
  boot: labBoot(),
  run: info,
};
