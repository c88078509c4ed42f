// pins.c life: soft-dirty tracking, writes through /proc/self/mem, and memory errors under pins.
import { call, type Steps } from '../../../src/engine/process.ts';
import { type Pinned, pinPrograms } from '../pinned.ts';
import type { Program } from '../program.ts';
import { byteOf, must, PG } from '../vf.ts';

/** pagemap bit 55 of the first page. */
function* softDirty(p: Pinned): Steps<unknown> {
  return (yield* call(must(p.s, 'pagemap', { memory: p.mem.memory, length: PG }))).shows.soft_dirty;
}

/** do_softdirty */
function* tracked(p: Pinned): Steps<void> {
  const { s, observed } = p;
  yield* call(must(s, 'clear_refs', { what: 'soft-dirty' }));
  observed.softdirty_before = yield* call(softDirty(p));
  yield* call(p.dmaWrite('D'));
  observed.softdirty_after_dma_write = yield* call(softDirty(p));
  yield* call(p.cpuWrite('c'));
  observed.softdirty_after_cpu_write = yield* call(softDirty(p));
  observed.same_pfn = (yield* call(p.pfn())) === p.f0;
  yield* call(p.finish('ok'));
}

/** do_remote */
function* forced(p: Pinned): Steps<void> {
  const { s, observed, mem } = p;
  yield* call(must(s, 'mprotect', { memory: mem.memory, prot: 'r' }));
  const result = yield* call(s.op('proc_mem.write', { memory: mem.memory, value: 'F' }));
  observed.same_pfn_after_force_write = (yield* call(p.pfn())) === p.f0;
  observed.dma_sees_force_write = (yield* call(p.dmaRead())) === byteOf('F');
  yield* call(p.finish(result));
}

/** do_poison: a SIGBUS during madvise leaves its result unwritten, which was -EINTR. */
function* poisoned(p: Pinned): Steps<void> {
  const { s, observed, mem } = p;
  const { memory } = mem;
  const result = yield* call(s.op('madvise', { memory, length: PG, advice: 'HWPOISON' }));
  const signalled = result.shows.signal === 'SIGBUS';
  observed.sigbus_during_madvise = signalled;
  observed.present_after = (yield* call(p.pfn())) !== 0;
  observed.old_page_flags = (yield* call(p.kpage(p.f0))).flags;
  if (p.pinned) {
    yield* call(p.dmaWrite('D'));
    observed.dma_still_works = (yield* call(p.dmaRead())) === byteOf('D');
  }
  let seen: string | null = null;
  yield* call(
    s.fork('toucher', function* (child) {
      seen = (yield* call(child.op('cpu.read', { memory }))).errno;
    }),
  );
  yield* call(must(s, 'waitpid', { process: 'toucher' }));
  observed.child_touch_sigbus = seen === 'SIGBUS';
  yield* call(p.finish(signalled ? 'EINTR' : result));
}

const PINNED = [true];
const TOUCHED = ['anon_rw_touched', 'memfd_shared_rw_touched'];

export const pinsProc: readonly Program[] = [
  ...pinPrograms('softdirty_misses_dma', TOUCHED, PINNED, tracked),
  ...pinPrograms('ptrace_write_via_proc_mem', ['anon_rw_touched', 'anon_ro_after_write'], PINNED, forced),
  ...pinPrograms('madv_hwpoison', TOUCHED, [true, false], poisoned),
];
