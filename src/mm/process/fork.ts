// fork's copy of an address space (kernel/fork.c dup_mmap): VMAs one by one under both mmap_locks, page tables where a
// later fault could not rebuild them, and one TLB flush of the parent at the very end.
import { call, type Process, type Steps } from '../../engine/process.ts';
import { type Step, step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import type { Vma } from '../mapping/vma.ts';
import { findVmas, joinFamily, linkVma } from '../mapping/vma-edit.ts';
import { Mm } from '../mm.ts';
import { inheritAges } from '../reclaim/lru-move.ts';
import { flushTlbMm } from '../tlb.ts';
import { copyPageRange } from './copy-page-range.ts';
import { mmput } from './exit.ts';
import { type OpenFile, Task } from './task.ts';

const LINK = step('anon_vma_fork', 'op');
const FILES = step('copy_files', 'op');
const SCHEDULE = step('wake_up_new_task', 'none');

export interface ForkOptions {
  /** Name of the child; the actor's own number is added, so that two forks differ. */
  readonly name?: string;
  /** CPU that the child runs on; default: chosen by its slot. */
  readonly cpu?: number;
  /** CLONE_VM: share the address space. */
  readonly shareMm?: boolean;
  /** Announces what the caller does in the last step, in which the child appears. */
  readonly appearing?: (at: Step) => void;
}

/**
 * fork(2) with a child that runs `body`. The child inherits descriptors, limits and credentials; locks on memory and
 * MMF_HAS_PINNED it does not. ENOMEM: no memory for a page that must be copied at once; EINTR: killed.
 */
export function* fork(
  core: CoreMm,
  options: ForkOptions,
  body: (child: Task) => Steps<void>,
): Steps<{ readonly task: Task; readonly process: Process } | { readonly errno: Errno }> {
  const { sim } = core;
  const { current } = core;
  const { task: parent, process: caller } = current;
  const oldMm = parent.mm.peek()!;
  const number = caller.nextNumber();
  const name = `${options.name ?? parent.name}.${number}`;
  let mm = oldMm;
  if (options.shareMm === true) {
    yield mm.users.willUpdate(LINK);
    mm.users.value = mm.users.value + 1;
  } else {
    mm = new Mm(sim, core.kernel, name);
    core.join(mm, options.cpu ?? caller.cpu);
    const copied = yield* call(dupMmap(core, oldMm, mm));
    if (copied !== 'ok') {
      yield* call(mmput(core, mm));
      return { errno: copied };
    }
  }
  const files = yield* call(copyFiles(core, parent, options));
  const task = new Task(sim, mm, {
    name,
    user: current.user,
    capabilities: current.capabilities,
    memlockBytes: parent.memlockBytes.value,
    memlockHardBytes: parent.memlockHardBytes.value,
    oomScoreAdj: parent.oomScoreAdj.value,
    homeNode: parent.homeNode,
    parent,
  });
  // Nobody else can reach the child yet.
  sim.unwatched(() => {
    task.files.value = files;
  });
  const process = sim.spawn(
    name,
    function* () {
      yield sim.local(SCHEDULE);
      yield* call(body(task));
    },
    options.cpu === undefined ? {} : { cpu: options.cpu },
  );
  core.runAs(process, task);
  inheritAges(caller, number, process);
  return { task, process };
}

/** dup_fd: the child holds a reference of every open file. The child is in the list of processes from then on. */
function* copyFiles(core: CoreMm, parent: Task, { appearing }: ForkOptions): Steps<readonly OpenFile[]> {
  for (;;) {
    // The look tells which files to announce; the act looks again. The references are counted one by one.
    const files = parent.files.peek();
    for (const file of files) file.references.willUpdate(FILES);
    // copy_signal, which follows: limits and oom_score_adj.
    parent.memlockBytes.willRead(FILES);
    parent.memlockHardBytes.willRead(FILES);
    parent.oomScoreAdj.willRead(FILES);
    core.tasklist.willAdd(FILES);
    appearing?.(FILES);
    yield parent.files.willRead(FILES);
    if (parent.files.value !== files) continue;
    for (const file of files) file.references.value = file.references.value + 1;
    core.tasklist.add(1);
    return files;
  }
}

/** dup_mmap. EINTR: killed while waiting; ENOMEM. The child's mm is not visible to anybody but rmap walks. */
export function* dupMmap(core: CoreMm, parent: Mm, child: Mm): Steps<'ok' | Errno> {
  const { task } = core.current;
  if (!(yield* call(parent.mmapLock.killable(true, task.killed)))) return 'EINTR';
  yield* call(child.mmapLock.write());
  let result: 'ok' | Errno = 'ok';
  for (const vma of yield* call(findVmas(parent, 0, Number.POSITIVE_INFINITY))) {
    // VM_DONTCOPY: the child has a hole.
    if (vma.fields.dontFork) continue;
    result = yield* call(dupVma(core, parent, child, vma));
    if (result !== 'ok') break;
  }
  yield child.mmapLock.up();
  // The parent's threads may have written through stale entries until here.
  yield* call(flushTlbMm(core, parent));
  yield parent.mmapLock.up();
  return result;
}

/** One VMA: into the child's tree and the trees of what it maps, then its page tables. */
function* dupVma(core: CoreMm, parent: Mm, child: Mm, vma: Vma): Steps<'ok' | Errno> {
  const wipe = vma.fields.wipeOnFork;
  const copy = vma.with({
    locked: false,
    lockOnFault: false,
    uffd: null,
    // hugetlb_dup_vma_private: what was promised was promised to the parent.
    reservation: null,
    ...(wipe ? { anonVma: null } : {}),
  });
  // anon_vma_fork comes before the tree, linking the file after; rmap walks see the child from then on.
  const { anonVma } = copy.fields;
  if (anonVma !== null) yield* call(joinFamily(anonVma, anonVma.lock, child, LINK));
  yield* call(linkVma(child, copy));
  if (wipe || !needsCopy(vma)) return 'ok';
  return yield* call(copyPageRange(core, parent, child, vma, copy));
}

/** vma_needs_copy: shared file pages without anon_vma are left to the child's faults. */
function needsCopy(vma: Vma): boolean {
  return vma.fields.pfnMapping !== null || vma.fields.anonVma !== null;
}
