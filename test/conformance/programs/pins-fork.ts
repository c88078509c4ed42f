// pins.c forks: who keeps the pinned page when a process forks, and whose data the device sees.
import { call, type Steps } from '../../../src/engine/process.ts';
import { type Observed, type Pinned, pinPrograms } from '../pinned.ts';
import type { Program } from '../program.ts';
import type { Session } from '../session.ts';
import { byteOf, must, PG, VR, VRW, VW } from '../vf.ts';

const HOW = [
  'fork_parent_writes',
  'fork_child_writes',
  'fork_child_reads_only',
  'fork_parent_writes_after_child_exit',
] as const;
type How = (typeof HOW)[number];

/** read() of a pipe that the other side has not written yet. */
function* waitFor(s: Session, written: () => boolean): Steps<void> {
  while (!written()) yield* call(must(s, 'settle', {}));
}

/** do_fork */
function forked(how: How) {
  const outlived = how === 'fork_parent_writes_after_child_exit';
  return function* (p: Pinned): Steps<void> {
    const { s, observed, mem } = p;
    const before = yield* call(p.cpu());
    let go = false;
    let seen: { readonly pfn: number; readonly value: unknown } | null = null;
    const result = yield* call(
      s.fork('child', function* (child) {
        if (how === 'fork_child_writes') {
          yield* call(child.op('cpu.write', { memory: mem.memory, value: 'C' }));
        }
        if (outlived) return;
        yield* call(waitFor(child, () => go));
        const pfn = Number((yield* call(child.op('pagemap', { memory: mem.memory, length: PG }))).shows.pfn);
        seen = { pfn, value: byteOf((yield* call(child.op('cpu.read', { memory: mem.memory }))).shows.value) };
      }),
    );
    yield* call(outlived ? must(s, 'waitpid', { process: 'child' }) : must(s, 'settle', {}));
    observed.parent_pfn_kept_at_fork = (yield* call(p.pfn())) === p.f0;
    if (how === 'fork_parent_writes' || outlived) yield* call(p.cpuWrite('P'));
    observed.parent_pfn_kept = (yield* call(p.pfn())) === p.f0;
    if (p.pinned) yield* call(device(p, observed));
    if (!outlived) {
      go = true;
      yield* call(must(s, 'waitpid', { process: 'child' }));
      const { pfn, value } = seen!;
      observed.child_has_pinned_page = pfn === p.f0;
      observed.child_sees_dma_write = value === byteOf('D');
      observed.child_sees_original = value === before;
    }
    yield* call(p.finish(result.errno === null ? 'ok' : result));
  };
}

function* device(p: Pinned, observed: Observed): Steps<void> {
  const read = yield* call(p.dmaRead());
  observed.dma_reads_parent_data = read === (yield* call(p.cpu()));
  observed.dma_reads_child_data = read === byteOf('C');
  if ((p.flags & VW) === 0) return;
  yield* call(p.dmaWrite('D'));
  observed.parent_sees_dma_write = (yield* call(p.cpu())) === byteOf('D');
}

const TYPES = ['anon_rw_touched', 'anon_thp', 'hugetlb_2m', 'memfd_private_rw_touched', 'shared_anon'];
const ANON = ['anon_rw_touched'];

export const pinsFork: readonly Program[] = [
  ...HOW.flatMap((how) => pinPrograms(how, TYPES, [true], forked(how), { flags: VRW })),
  ...HOW.slice(0, 2).flatMap((how) => pinPrograms(how, ANON, [false], forked(how))),
  ...HOW.slice(0, 2).flatMap((how) =>
    pinPrograms(`${how}_ro_pin`, [...ANON, 'anon_rw_zeropage'], [true], forked(how), { flags: VR }),
  ),
];
