// iouring.c limits: RLIMIT_MEMLOCK of root and of a user, across rings and processes, beside mlock.
import { call, type Steps } from '../../../src/engine/process.ts';
import { labBoot } from '../boot.ts';
import type { Program } from '../program.ts';
import { reg, unreg } from '../ring.ts';
import type { Session } from '../session.ts';
import { dropToUser, must, PG, vmlck, vmpin } from '../vf.ts';

const LIMIT = 16n * PG;

function* limits(s: Session): Steps<void> {
  yield* call(must(s, 'mmap', { name: 'p', size: 64n * PG }));
  yield* call(must(s, 'touch', { memory: 'p', value: 'm' }));
  yield* call(must(s, 'setrlimit', { memlock: LIMIT }));
  yield* call(must(s, 'iouring.setup', { as: 'q' }));
  const figures = function* (): Steps<Record<string, unknown>> {
    return { vmpin_kb: yield* call(vmpin(s)), vmlck_kb: yield* call(vmlck(s)) };
  };
  const root = yield* call(reg(s, 'q', 'p', 0n, 32n * PG));
  s.emit('iouring/memlock/root_over_limit', root, {}, yield* call(figures()));
  yield* call(unreg(s, 'q'));

  yield* call(dropToUser(s, LIMIT));
  yield* call(must(s, 'iouring.setup', { as: 'r' }));
  yield* call(must(s, 'iouring.setup', { as: 's' }));
  function* register(name: string, ring: string, page: bigint, pages: bigint): Steps<void> {
    const result = yield* call(reg(s, ring, 'p', page * PG, pages * PG));
    const args = { uid: 1000, rlimit_pages: 16, size_pages: Number(pages) };
    s.emit(`iouring/memlock/${name}`, result, args, yield* call(figures()));
  }
  yield* call(register('user_over', 'r', 0n, 17n));
  yield* call(register('user_exact', 'r', 0n, 16n));
  yield* call(register('user_second_ring_one_more', 's', 20n, 1n));
  const locked = yield* call(s.op('mlock', { memory: 'p', offset: 40n * PG, length: 16n * PG }));
  const note = 'mlock uses mm->locked_vm, io_uring user->locked_vm + mm->pinned_vm';
  s.emit('iouring/memlock/mlock_full_limit_besides', locked, { note }, yield* call(figures()));
  yield* call(s.op('munlock', { memory: 'p' }));
  yield* call(
    s.fork('c', function* (child) {
      yield* call(must(child, 'iouring.setup', { as: 'z' }));
      const result = yield* call(reg(child, 'z', 'p', 0n, PG));
      child.emit('iouring/memlock/other_process_same_user', result, {}, { who: 'another process of the same uid' });
    }),
  );
  yield* call(must(s, 'waitpid', { process: 'c' }));
  yield* call(unreg(s, 'r'));
  yield* call(must(s, 'settle', {}));
  yield* call(register('user_after_unregister', 's', 0n, 16n));
}

export const iouringLimits: Program = { name: 'iouring/memlock', boot: labBoot(), run: limits };
