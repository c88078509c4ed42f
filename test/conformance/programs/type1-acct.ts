// vfio_type1.c accounting: what is charged how often, and to which address space.
import { call, type Steps } from '../../../src/engine/process.ts';
import { MEM_BOOT, mk } from '../mem.ts';
import type { Program } from '../program.ts';
import { type Result, type Session, word } from '../session.ts';
import { snap } from '../snap.ts';
import { IOVA0, mapBar, must, PG, VRW, vfMap, vfNeed, vfUnmap, vmlck } from '../vf.ts';

const MB = 256n * PG;
const EIGHT = 8n * PG;

function* accounting(s: Session): Steps<void> {
  yield* call(vfNeed(s));
  yield* call(must(s, 'mmap', { name: 'p', size: 64n * PG }));
  yield* call(must(s, 'touch', { memory: 'p', value: 'm' }));
  const start = yield* call(vmlck(s));
  function* emit(name: string, result: Result | 'ok', observed: Record<string, unknown> = {}): Steps<void> {
    const delta = { vmlck_kb_delta: (yield* call(vmlck(s))) - start };
    s.emit(`type1/acct/${name}`, result, {}, { ...delta, ...observed });
  }
  yield* call(emit('one_map_8_pages', yield* call(vfMap(s, 'p', 0n, IOVA0, EIGHT))));
  yield* call(emit('same_pages_second_iova', yield* call(vfMap(s, 'p', 0n, IOVA0 + MB, EIGHT))));
  const opened = yield* call(openSecond(s));
  if (opened !== null) s.emit('type1/acct/second_container_open', opened);
  else {
    const map = { container: 'w', memory: 'p', length: EIGHT, iova: IOVA0, flags: VRW };
    yield* call(emit('same_pages_second_container', yield* call(s.op('vfio.map', map))));
    yield* call(s.op('vfio.unmap', { container: 'w', iova: IOVA0, size: EIGHT }));
    yield* call(emit('unmap_second_container', 'ok'));
  }
  yield* call(emit('mlock_same_pages', yield* call(s.op('mlock', { memory: 'p', length: EIGHT }))));
  yield* call(s.op('munlock', { memory: 'p', length: EIGHT }));
  yield* call(vfUnmap(s, IOVA0 + MB, EIGHT));
  yield* call(vfUnmap(s, IOVA0, EIGHT));
  yield* call(emit('all_unmapped', 'ok'));
  yield* call(kinds(s, emit));
  yield* call(rollBack(s));
  yield* call(children(s, start));
}

/** vf_open_bdf of the second device with a container of its own. The errno of what fails. */
function* openSecond(s: Session): Steps<string | null> {
  yield* call(must(s, 'vfio.open_container', { as: 'w' }));
  yield* call(must(s, 'vfio.open_group', { device: 'edu2' }));
  for (const [operation, args] of [
    ['vfio.set_container', { device: 'edu2', fd: 'w' }],
    ['vfio.set_iommu', { container: 'w', type: 'type1v2' }],
    ['vfio.get_device_fd', { device: 'edu2' }],
  ] as const) {
    const { errno } = yield* call(s.op(operation, args));
    if (errno !== null) return errno;
  }
  yield* call(mapBar(s, 'edu2', 'bar2'));
  return null;
}

/** THP and hugetlb are charged by small pages, BARs not at all. */
function* kinds(
  s: Session,
  emit: (name: string, result: Result, observed?: Record<string, unknown>) => Steps<void>,
): Steps<void> {
  for (const [type, name] of [
    ['anon_thp', 'thp_2m'],
    ['hugetlb_2m', 'hugetlb_2m'],
    ['pfnmap_bar', 'pfnmap_bar_not_charged'],
  ] as const) {
    const mem = yield* call(mk(s, type));
    if ('errno' in mem) continue;
    const result = yield* call(vfMap(s, mem.memory, 0n, IOVA0, mem.bytes));
    const huge = (yield* call(s.op('pagemap', { memory: mem.memory, length: PG }))).shows.huge_page === true;
    yield* call(emit(name, result, type === 'anon_thp' ? { is_thp: huge } : {}));
    yield* call(vfUnmap(s, IOVA0, mem.bytes));
  }
}

function* rollBack(s: Session): Steps<void> {
  const a = yield* call(snap(s, null));
  const mem = yield* call(mk(s, 'half_hole'));
  if ('errno' in mem) throw new Error(`half_hole: ${mem.errno}`);
  const result = yield* call(vfMap(s, 'm', 0n, IOVA0, mem.bytes));
  const b = yield* call(snap(s, null));
  const retry = yield* call(vfMap(s, 'm', 0n, IOVA0, mem.bytes / 2n));
  s.emit(
    'type1/acct/failed_map_rolls_back',
    result,
    {},
    {
      vmlck_kb_delta: b.lck - a.lck,
      foll_pin_acquired: b.acquired - a.acquired,
      foll_pin_released: b.released - a.released,
      retry_first_half: word(retry),
    },
  );
  yield* call(vfUnmap(s, IOVA0, mem.bytes / 2n));
}

/** A child that shares the container: whose locked_vm moves? */
function* children(s: Session, start: number): Steps<void> {
  yield* call(vfMap(s, 'p', 0n, IOVA0, EIGHT));
  const before = yield* call(vmlck(s));
  yield* call(
    s.fork('c1', function* (child) {
      yield* call(vmlck(child));
      yield* call(vfUnmap(child, IOVA0, EIGHT));
    }),
  );
  yield* call(must(s, 'waitpid', { process: 'c1' }));
  const change = { parent_vmlck_kb_change: (yield* call(vmlck(s))) - before };
  s.emit('type1/acct/child_unmaps_parents_mapping', 'ok', {}, change);
  let mapped: Result = { ret: 0, errno: null, shows: {} };
  const observed: Record<string, unknown> = {};
  yield* call(
    s.fork('c2', function* (child) {
      observed.child_vmlck_kb_before = yield* call(vmlck(child));
      mapped = yield* call(vfMap(child, 'p', 0n, IOVA0, EIGHT));
      observed.child_vmlck_kb_after = yield* call(vmlck(child));
    }),
  );
  yield* call(must(s, 'waitpid', { process: 'c2' }));
  observed.parent_vmlck_kb_change = (yield* call(vmlck(s))) - start;
  s.emit('type1/acct/child_maps_its_own_memory', mapped, {}, observed);
  const unmap = yield* call(vfUnmap(s, IOVA0, EIGHT));
  s.emit(
    'type1/acct/parent_unmaps_mapping_of_dead_child',
    unmap,
    {},
    { unmapped_bytes: Number(unmap.shows.unmapped), parent_vmlck_kb_change: (yield* call(vmlck(s))) - start },
  );
}

export const type1Acct: Program = { name: 'type1/acct', boot: MEM_BOOT, run: accounting };
