// vfio_type1.c memlock: RLIMIT_MEMLOCK of a user against pins and mlock, and what lets go of the charge.
import { call, type Steps } from '../../../src/engine/process.ts';
import { labBoot } from '../boot.ts';
import type { Program } from '../program.ts';
import type { Session } from '../session.ts';
import { dropToUser, IOVA0, must, PG, VRW, vfMap, vfNeed, vfUnmap, vmlck } from '../vf.ts';

function* memlock(s: Session): Steps<void> {
  yield* call(vfNeed(s));
  yield* call(must(s, 'mmap', { name: 'p', size: 64n * PG }));
  yield* call(must(s, 'touch', { memory: 'p', length: 32n * PG, value: 'm' }));
  const before = yield* call(vmlck(s));
  yield* call(
    s.fork('q', function* (child) {
      yield* call(must(child, 'setrlimit', { memlock: 0 }));
      const result = yield* call(vfMap(child, 'p', 0n, IOVA0, 16n * PG));
      const observed = { vmlck_kb: before, vmlck_kb_after: yield* call(vmlck(child)) };
      child.emit('type1/memlock/root_ignores_rlimit_zero', result, { who: 'root, CAP_IPC_LOCK', rlimit: 0 }, observed);
      yield* call(vfUnmap(child, IOVA0, 16n * PG));
    }),
  );
  yield* call(must(s, 'waitpid', { process: 'q' }));
  yield* call(dropToUser(s, 16n * PG));

  function* map(name: string, page: bigint, iova: bigint, pages: bigint, vaddr?: bigint): Steps<void> {
    const observed: Record<string, unknown> = { vmlck_kb_before: yield* call(vmlck(s)) };
    const result = yield* call(
      vaddr === undefined
        ? vfMap(s, 'p', page * PG, iova, pages * PG)
        : s.op('vfio.map', { device: 'edu', vaddr, iova, length: pages * PG, flags: VRW }),
    );
    observed.vmlck_kb_after = yield* call(vmlck(s));
    s.emit(`type1/memlock/${name}`, result, { uid: 1000, rlimit_pages: 16, size_pages: Number(pages) }, observed);
  }
  const other = IOVA0 + 64n * PG;
  yield* call(map('user_over_limit', 0n, IOVA0, 17n));
  yield* call(map('user_at_limit_but_scratch_counts', 0n, IOVA0, 16n));
  yield* call(map('user_over_limit_and_hole', 0n, IOVA0, 17n, 0x1000n));
  yield* call(map('user_exactly_fits', 0n, IOVA0, 15n));
  yield* call(map('user_one_more_page', 32n, other, 1n));
  yield* call(map('user_same_page_again_other_iova', 0n, other, 1n));
  const unmap = yield* call(vfUnmap(s, IOVA0, 15n * PG));
  s.emit('type1/memlock/user_unmap', unmap, {}, { vmlck_kb_after: yield* call(vmlck(s)) });
  yield* call(map('user_double_map_first', 0n, IOVA0, 8n));
  yield* call(map('user_double_map_second_over', 0n, other, 8n));
  yield* call(map('user_double_map_second_fits', 0n, other, 7n));
  yield* call(vfUnmap(s, IOVA0, 8n * PG));
  yield* call(vfUnmap(s, other, 7n * PG));
  const locked = yield* call(s.op('mlock', { memory: 'p', length: 14n * PG }));
  const lockedNow = { vmlck_kb_after: yield* call(vmlck(s)) };
  s.emit('type1/memlock/user_mlock_14_of_16_with_1_pinned', locked, {}, lockedNow);
  yield* call(map('user_map_mlocked_pages_again_counts', 0n, IOVA0, 8n));
  yield* call(map('user_map_one_left', 0n, IOVA0, 1n));
  yield* call(s.op('munlock', { memory: 'p' }));
  yield* call(vfUnmap(s, IOVA0, PG));
  yield* call(map('user_refill', 0n, IOVA0, 15n));
  s.emit('type1/memlock/mlock_after_vfio_used_limit', yield* call(s.op('mlock', { memory: 'p', length: PG })));
  const munmapped = yield* call(s.op('munmap', { memory: 'p' }));
  s.emit('type1/memlock/munmap_keeps_charge', munmapped, {}, { vmlck_kb_after_munmap: yield* call(vmlck(s)) });
  const closed = yield* call(s.op('close'));
  yield* call(s.op('close', { fd: 'edu' }));
  yield* call(s.op('close', { group_of: 'edu' }));
  const held = { vmlck_kb_after: yield* call(vmlck(s)), note: 'BAR mmap still holds the device' };
  s.emit('type1/memlock/close_fds_with_bar_mmapped', closed, {}, held);
  yield* call(must(s, 'munmap', { memory: 'bar' }));
  yield* call(must(s, 'settle', {}));
  s.emit('type1/memlock/close_fds_bar_unmapped', 'ok', {}, { vmlck_kb_after: yield* call(vmlck(s)) });
}

export const type1Memlock: Program = { name: 'type1/memlock', boot: labBoot(), run: memlock };
