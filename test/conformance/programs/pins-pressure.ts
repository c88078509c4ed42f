// pins.c pressure and compact: all memory at work. A process that takes more than there is pushes everything else to
// swap; compaction of every zone moves what is scattered. Neither moves what is pinned.
import { call, type Steps } from '../../../src/engine/process.ts';
import { LAB_HOST, labBoot } from '../boot.ts';
import { MEM_OBJECTS } from '../mem.ts';
import { type Pinned, pinPrograms } from '../pinned.ts';
import type { Program } from '../program.ts';
import type { Session } from '../session.ts';
import { must, PG } from '../vf.ts';

/** The recorded machine, two nodes of 1 GiB, in small, with more swap than it needs. What the programs take is in proportion. */
const SCALE = 8n;
const SMALL_BOOT = labBoot({
  memory: MEM_OBJECTS,
  host: { ...LAB_HOST, memory: [{ dma32: '128MiB' }, { dma32: '128MiB' }], hugepages: { '2MiB': 0 }, swap: '64MiB' },
});
const MB = 256n * PG;

function* swappedOut(s: Session): Steps<number> {
  return Number((yield* call(s.op('vmstat'))).shows.pswpout);
}

/** do_pressure */
function* pressed(p: Pinned): Steps<void> {
  const { s, observed, mem } = p;
  yield* call(p.cpu());
  p.f0 = yield* call(p.pfn());
  if (mem.type.includes('anon')) yield* call(must(s, 'touch', { memory: mem.memory, value: 'x' }));
  const available = BigInt(Number((yield* call(must(s, 'meminfo', {}))).shows.MemAvailable));
  const size = available + (64n * MB) / SCALE;
  const before = yield* call(swappedOut(s));
  let killed = false;
  yield* call(
    s.fork(
      'hog',
      function* (hog) {
        yield* call(must(hog, 'mmap', { name: 'h', size }));
        killed = (yield* call(hog.op('touch', { memory: 'h', value: 'h' }))).errno === 'SIGKILL';
      },
      // It and kswapd share two CPUs, whose LRU batches do not outlast the first pages that they add.
      { cpu: s.cpu },
    ),
  );
  yield* call(must(s, 'waitpid', { process: 'hog' }));
  // kswapd ends its run while the program reads /proc.
  yield* call(must(s, 'settle', {}));
  observed.hog_oom_killed = killed;
  observed.pswpout = (yield* call(swappedOut(s))) - before;
  yield* call(p.pageObserved());
  yield* call(p.coherence(true));
  yield* call(p.finish('ok'));
}

/** Little more than that part of 192 MiB: as many pages as leave the batches of 15 and of 31 pages where those left them. */
const FRAGMENTED = 3117n * PG;
const SAMPLES = 256n;
/** Pages from one sample to the next. */
const STRIDE = 128n / SCALE;

/** A large area whose pages of odd number stay, taken before the case begins. */
function* fragment(s: Session): Steps<void> {
  yield* call(must(s, 'mmap', { name: 'frag', size: FRAGMENTED }));
  yield* call(must(s, 'madvise', { memory: 'frag', advice: 'NOHUGEPAGE' }));
  yield* call(must(s, 'touch', { memory: 'frag', value: 'f' }));
}

function* sample(s: Session): Steps<readonly unknown[]> {
  const pfns: unknown[] = [];
  for (let i = 0n; i < SAMPLES; i++) {
    const offset = PG + i * STRIDE * PG;
    pfns.push((yield* call(s.op('pagemap', { memory: 'frag', offset, length: PG }))).shows.pfn);
  }
  return pfns;
}

const COUNTED = ['compact_migrate_scanned', 'pgmigrate_success', 'pgmigrate_fail'] as const;

function* counted(s: Session): Steps<readonly number[]> {
  const { shows } = yield* call(s.op('vmstat'));
  return COUNTED.map((name) => Number(shows[name]));
}

/** do_compact */
function* compacted(p: Pinned): Steps<void> {
  const { s, observed } = p;
  yield* call(p.cpu());
  p.f0 = yield* call(p.pfn());
  for (let offset = 0n; offset < FRAGMENTED; offset += 2n * PG) {
    yield* call(must(s, 'madvise', { memory: 'frag', offset, length: PG, advice: 'DONTNEED' }));
  }
  const before = yield* call(sample(s));
  const counts = yield* call(counted(s));
  const result = yield* call(s.op('compact_memory'));
  const after = yield* call(sample(s));
  const [scanned, success, fail] = (yield* call(counted(s))).map((count, i) => count - counts[i]!);
  observed.compact_scanned = scanned;
  observed.pgmigrate_success = success;
  observed.pgmigrate_fail = fail;
  observed.sampled_unpinned_pages_moved_of_256 = after.filter((pfn, i) => pfn !== before[i]).length;
  yield* call(p.pageObserved());
  yield* call(p.coherence(true));
  // The scanners meet somewhere in the zone; what lies above stays.
  const why = 'whether an unpinned page moves depends on whether it lies below or above where the two scanners meet';
  yield* call(p.finish(result, p.pinned ? undefined : why));
}

const BOTH = [true, false];
const HELD = ['anon_rw_touched', 'memfd_shared_rw_touched', 'anon_thp'];

export const pinsPressure: readonly Program[] = [
  ...pinPrograms('swap_pressure', HELD, BOTH, pressed, { boot: SMALL_BOOT }),
  ...pinPrograms('compact_memory', ['anon_rw_touched'], BOTH, compacted, { boot: SMALL_BOOT, before: fragment }),
];
