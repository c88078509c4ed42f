// The recorded program as a process: pages of its own that it writes to along the way. It runs each case in a forked child,
// where the first write to such a page takes a new one, which waits in the processor's LRU batch with the pages of the
// case. Which pages, and when, was seen by running the same program (statically linked, built with -O1) and recording its
// page faults. The page of the stack is the one that the parent had: it writes to it first, and takes a new one. (Whether
// the frames of a case reach into a second page depends on where the stack begins in its page.)
import { call, type Steps } from '../../src/engine/process.ts';
import type { Session } from './session.ts';

const PG = 4096n;

/** Pages of the image, in the order in which a child writes to them. */
const PAGES = {
  /** _Fork: thread control block, locks of stdio and of the loader, list of arenas. */
  fork: [0, 1, 2, 3],
  /** mkid: the name of the case. */
  name: [4],
  /** A_S: the arguments to be reported. */
  args: [5],
  /** kpf_str: the names of the flags. */
  flags: [6],
  /** fopen: the arena, the heap, the lock of the list of files. */
  stdio: [7, 8, 17],
  /** zone_of, which keeps the name of the zone beside those of the flags. */
  zone: [7, 8, 17, 6],
  /** After a fork of its own: the stack, and the kernel to the thread control block (rseq). */
  parent: [18, 0],
  /** malloc of 32 KiB by mk_file: the arena and nine pages of heap. */
  file: [7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
} as const;

const STACK = 18n * PG;

/** Sessions whose image counts; the outcomes of other programs do not depend on it. */
const images = new WeakSet<Session>();

/** The child begins, unless it has. */
export function* forked(s: Session): Steps<void> {
  if (images.has(s)) return;
  images.add(s);
  yield* call(s.op('mmap', { name: 'image', size: 19n * PG }));
  // The stack has long been on its LRU list: this drains the batch.
  yield* call(s.op('cpu.write', { memory: 'image', offset: STACK, value: 'stack' }));
  yield* call(s.op('madvise', { memory: 'image', offset: STACK, length: PG, advice: 'COLD' }));
  yield* call(writes(s, 'fork'));
}

/** It does something that writes to pages of its own. */
export function* writes(s: Session, what: keyof typeof PAGES): Steps<void> {
  if (!images.has(s)) return;
  for (const page of PAGES[what]) {
    yield* call(s.op('cpu.write', { memory: 'image', offset: BigInt(page) * PG, value: what }));
  }
}
