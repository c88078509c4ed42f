// pins.c offline and dimm: memory blocks that go offline while a page of them is pinned. Whether a block of the memory
// that the machine booted with can go offline at all depends on where holes and zones lie in it; a DIMM has whole blocks.
import { call, type Steps } from '../../../src/engine/process.ts';
import { LAB_HOST, labBoot } from '../boot.ts';
import { writes } from '../image.ts';
import { MEM_OBJECTS } from '../mem.ts';
import { type Observed, Pinned, pinPrograms } from '../pinned.ts';
import type { Program } from '../program.ts';
import type { Result, Session } from '../session.ts';
import { IOVA0, must, PG, vfMap } from '../vf.ts';
import { MOVABLE_BOOT, zoneOf } from './pins-migrate.ts';

const BLOCK = 128 * 256;

/** A child writes to the state of the block; who waits for it kills it when it is still at it after a while. */
function* offline(s: Session, block: number): Steps<string> {
  let result: Result | null = null;
  yield* call(
    s.fork(
      'writer',
      function* (writer) {
        result = yield* call(writer.op('memory_block.offline', { block }));
      },
      // A new process starts on a CPU that is idle (select_task_rq_fair).
      { cpu: 0 },
    ),
  );
  yield* call(writes(s, 'parent'));
  yield* call(must(s, 'settle', {}));
  const done: Result | null = result;
  if (done === null) yield* call(must(s, 'kill', { process: 'writer' }));
  yield* call(must(s, 'waitpid', { process: 'writer' }));
  return done === null ? 'EINTR' : ((done as Result).errno ?? 'ok');
}

/** From the state of the block on, which both programs do alike. */
function* take(p: Pinned, block: number, unsupported?: string): Steps<void> {
  const { s, observed } = p;
  const result = yield* call(offline(s, block));
  observed.offline_result = result === 'EINTR' ? 'still retrying after 6 s (killed)' : result;
  yield* call(p.pageObserved());
  yield* call(p.coherence(true));
  if (result === 'ok') yield* call(must(s, 'memory_block.online', { block }));
  yield* call(p.finish(result, unsupported));
}

/** do_offline */
function blockOf(unsupported?: string) {
  return function* (p: Pinned): Steps<void> {
    yield* call(p.cpu());
    p.f0 = yield* call(p.pfn());
    p.observed.zone = yield* call(zoneOf(p));
    yield* call(take(p, Math.floor(p.f0 / BLOCK), unsupported));
  };
}

const DIMM = {
  movable: { size: '256MiB', zone: 'movable' },
  // What the kernel allocates on node 1 from then on comes from there: in two blocks it is everywhere soon.
  kernel: { size: '256MiB', zone: 'normal', kernel: '1MiB' },
} as const;

function dimmBoot(zone: keyof typeof DIMM) {
  const [first, second] = LAB_HOST.memory;
  const memory = [first, { ...second, dimm: DIMM[zone] }];
  return labBoot({ memory: MEM_OBJECTS, host: { ...LAB_HOST, memory } });
}

/** do_dimm */
function* dimm(s: Session, zone: string, pinned: boolean): Steps<void> {
  const p = new Pinned(s, 'dimm_offline', zone, pinned);
  const { observed } = p;
  yield* call(p.open());
  p.args.dimm_zone = zone;
  p.args.pinned = pinned;
  yield* call(must(s, 'mmap', { name: 'm', size: 8n * PG }));
  yield* call(must(s, 'madvise', { memory: 'm', advice: 'NOHUGEPAGE' }));
  yield* call(must(s, 'mbind', { memory: 'm', nodes: [1] }));
  yield* call(must(s, 'touch', { memory: 'm', value: 'a' }));
  const before = yield* call(p.pfn());
  observed.zone_before = yield* call(zoneOf(p));
  const mapped = pinned ? yield* call(vfMap(s, 'm', 0n, IOVA0, 8n * PG)) : null;
  p.f0 = yield* call(p.pfn());
  observed.zone_after_pin = yield* call(zoneOf(p));
  observed.migrated_by_pin = before !== p.f0;
  if (mapped !== null && mapped.errno !== null) {
    s.emit(p.name, mapped, p.args, observed satisfies Observed);
    return;
  }
  const block = Math.floor(before / BLOCK);
  observed.pinned_page_on_block = Math.floor(p.f0 / BLOCK) === block;
  yield* call(take(p, block));
}

const BOTH = [true, false];
const ANON = ['anon_rw_touched'];
const LAYOUT = 'which memory block a page lies in depends on what the machine did since it booted, and some have holes';

export const pinsOffline: readonly Program[] = [
  ...pinPrograms('memory_block_offline', ANON, BOTH, blockOf(LAYOUT)),
  ...pinPrograms('memory_block_offline_movablecore', ANON, BOTH, blockOf(), { boot: MOVABLE_BOOT }),
  ...(['movable', 'kernel'] as const).flatMap((zone) =>
    BOTH.map((pinned) => ({
      name: `pins/dimm_offline/${zone}${pinned ? '' : '/control'}`,
      boot: dimmBoot(zone),
      run: (s: Session) => dimm(s, zone, pinned),
    })),
  ),
];
