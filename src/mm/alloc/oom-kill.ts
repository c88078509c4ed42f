// The OOM killer (mm/oom_kill.c): when no allocation can go on, the process with the most memory gets SIGKILL, and the
// oom_reaper takes the private memory of a victim that does not get to its end. Neither takes what is pinned.
import { Cell } from '../../engine/cell.ts';
import { eventType } from '../../engine/event.ts';
import { LimitReached } from '../../engine/limit.ts';
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { until } from '../../engine/wait.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Mm } from '../mm.ts';
import { memoryStatus, willReadMemoryStatus } from '../proc/pagemap.ts';
import { execs, killNow } from '../process/signal.ts';
import { Task, User } from '../process/task.ts';
import { tlbFinish, tlbGather } from '../tlb.ts';
import { notifierRange, zapPageRange } from '../zap/zap.ts';

const OOM = step('out_of_memory', 'op');
const WAIT = step('out_of_memory:victim-exits', 'none');
const DELAY = step('oom_reaper:OOM_REAPER_DELAY', 'none');
const AGAIN = step('oom_reap_task:retry', 'none');
const TRYLOCK = step('oom_reap_task_mm:mmap_read_trylock', 'lock');
const UNSTABLE = step('__oom_reap_task_mm:MMF_UNSTABLE', 'op');
const SKIP = step('oom_reap_task:MMF_OOM_SKIP', 'op');

/** OOM_REAPER_DELAY: 2 * HZ [ns]. */
const REAPER_DELAY_NS = 2_000_000_000;
/** HZ / 10 [ns] */
const REAP_RETRY_NS = 100_000_000;
const MAX_OOM_REAP_RETRIES = 10;
const OOM_SCORE_ADJ_MIN = -1000;

/** The OOM killer acted, or found nobody: then the kernel panics. What the kernel log says of it. */
export interface OomKill {
  /** Who could not allocate. */
  readonly asker: string;
  readonly victim: Task | null;
  /** oom_badness [pages]: resident, in swap and in page tables, adjusted. */
  readonly points: number;
  readonly residentPages: number;
  readonly swapPages: number;
}
export const OOM_KILL = eventType<OomKill>('oom-kill');

class Oom {
  readonly tasks: () => Iterable<Task>;
  /** signal->oom_mm of every victim so far: its memory, which it may have let go of already without its being free. */
  readonly victims: Cell<readonly Mm[]>;

  constructor(core: CoreMm, tasks: () => Iterable<Task>) {
    this.tasks = tasks;
    this.victims = new Cell<readonly Mm[]>(core.sim, 'OOM victims', []);
  }
}

const installed = new WeakMap<CoreMm, Oom>();

/** Give the world an OOM killer that may choose among `tasks`. While it is built. */
export function installOom(core: CoreMm, tasks: () => Iterable<Task>): void {
  installed.set(core, new Oom(core, tasks));
}

/** out_of_memory, under oom_lock: one act. False: the allocation fails; the caller is dying, or nobody can be killed. */
export function* outOfMemory(core: CoreMm): Steps<boolean> {
  const oom = installed.get(core);
  if (oom === undefined) return false;
  const { task } = core.current;
  // The look tells whom to announce; the act looks again.
  const look = () => [...oom.tasks()].filter((one) => !one.kernelThread).map((one) => ({ one, mm: one.mm.peek() }));
  let seen = look();
  let victims = oom.victims.peek();
  for (;;) {
    for (const { one, mm } of seen) {
      one.mm.willRead(OOM);
      one.exited.willRead(OOM);
      one.killed.willUpdate(OOM);
      one.execing.willUpdate(OOM);
      one.oomScoreAdj.willRead(OOM);
      if (mm === null) continue;
      mm.oomSkip.willRead(OOM);
      willReadMemoryStatus(mm, OOM);
    }
    for (const mm of victims) mm.oomSkip.willRead(OOM);
    core.vmstat.willAdd('oom_kill', OOM);
    core.tasklist.willRead(OOM);
    yield oom.victims.willUpdate(OOM);
    const now = look();
    const same = now.length === seen.length && now.every(({ mm }, i) => mm === seen[i]!.mm);
    if (same && oom.victims.value === victims) break;
    seen = now;
    victims = oom.victims.value;
  }
  const tasks = seen.map(({ one }) => one);
  // task_will_free_mem: the dying get no more memory here, and are reaped where they cannot end. Not so what exec ends.
  if (task.killed.value && !execs(task)) {
    mark(core, oom, task);
    return false;
  }
  // tsk_is_oom_victim without MMF_OOM_SKIP: it will give memory back.
  const dying = oom.victims.value.find((mm) => !mm.oomSkip.peek());
  if (dying === undefined) return kill(core, oom, tasks);
  // The kernel turns in a loop of vain reclaim meanwhile.
  const { oomSkip } = dying;
  const ready = () => oomSkip.peek() || task.killed.peek();
  yield until(core.sim, [oomSkip, task.killed], ready, WAIT, { name: `${dying.name}, killed for its memory` });
  return true;
}

/** select_bad_process and oom_kill_process. */
function kill(core: CoreMm, oom: Oom, tasks: readonly Task[]): boolean {
  const asker = core.current.process.name;
  let chosen: Badness | null = null;
  for (const task of tasks) {
    const badness = badnessOf(core, task);
    if (badness !== null && (chosen === null || badness.points >= chosen.points)) chosen = badness;
  }
  const fact = { asker, victim: chosen?.task ?? null, points: chosen?.points ?? 0 };
  const sizes = { residentPages: chosen?.resident ?? 0, swapPages: chosen?.swapped ?? 0 };
  if (core.sim.hears(OOM_KILL)) core.sim.emit(OOM_KILL, { ...fact, ...sizes });
  if (chosen === null) throw new LimitReached(`${asker} finds no memory and nobody to kill for it: the kernel panics`);
  core.vmstat.add('oom_kill', 1);
  const mm = chosen.task.mm.value;
  mark(core, oom, chosen.task);
  killNow(core, chosen.task);
  // Other processes on the same address space (CLONE_VM) would keep it.
  for (const task of tasks) if (task !== chosen.task && task.mm.value === mm) killNow(core, task);
  return true;
}

interface Badness {
  readonly task: Task;
  readonly points: number;
  readonly resident: number;
  readonly swapped: number;
}

/** oom_badness: null for who cannot be chosen. */
function badnessOf(core: CoreMm, task: Task): Badness | null {
  const mm = task.mm.value;
  const adjust = task.oomScoreAdj.value;
  if (mm === null || adjust === OOM_SCORE_ADJ_MIN || mm.oomSkip.value) return null;
  const { residentKb, swapKb } = memoryStatus(core, mm);
  const resident = residentKb / 4;
  const swapped = swapKb / 4;
  const total = core.zones.reduce((sum, { zone }) => sum + (zone.kind === 'DEVICE' ? 0 : zone.pages), core.swap.slots);
  const points = resident + swapped + tablePages(core, mm) + adjust * Math.floor(total / 1000);
  return { task, points, resident, swapped };
}

/** mm_pgtables_bytes: a PTE table for every populated 2 MiB (deposited under huge pages), and one table of each level above. */
function tablePages(core: CoreMm, mm: Mm): number {
  const rows = new Set<number>();
  for (const [, vma] of core.sim.unwatched(() => mm.vmas.entries())) {
    for (let row = Math.floor(vma.start / PMD_PAGES); row * PMD_PAGES < vma.end; row++) {
      if (mm.pageTable.peekPmd(row).bits !== 0) rows.add(row);
    }
  }
  return rows.size === 0 ? 0 : rows.size + 2;
}

/** mark_oom_victim and queue_oom_reaper; a victim is queued once. */
function mark(core: CoreMm, oom: Oom, task: Task): void {
  const mm = task.mm.value;
  if (mm === null || oom.victims.value.includes(mm)) return;
  oom.victims.value = [...oom.victims.value, mm];
  const reaper = core.sim.spawn('oom_reaper', () => oomReapTask(core, mm));
  const fields = { user: new User(core.sim, 0), capabilities: [], memlockBytes: 0, kernelThread: true };
  core.runAs(reaper, new Task(core.sim, mm, { name: reaper.name, ...fields }));
}

/** oom_reap_task, after the time that the victim has to end by itself: ten tries to get mmap_lock. */
function* oomReapTask(core: CoreMm, mm: Mm): Steps<void> {
  yield core.sim.sleep(core.kernel.has('oom.reaper-waits') ? REAPER_DELAY_NS : 0, DELAY);
  for (let attempt = 0; attempt < MAX_OOM_REAP_RETRIES; attempt++) {
    mm.oomSkip.willRead(TRYLOCK);
    yield mm.mmapLock.willChange(TRYLOCK);
    if (mm.oomSkip.value) return;
    if (mm.mmapLock.tryNow(false)) {
      const whole = yield* call(reapMm(core, mm));
      yield mm.mmapLock.up();
      if (whole) break;
    }
    yield core.sim.sleep(REAP_RETRY_NS, AGAIN);
  }
  yield mm.oomSkip.willWrite(SKIP);
  mm.oomSkip.value = true;
}

/** __oom_reap_task_mm: private memory only, each VMA with a gather of its own. False: a notifier would have had to wait. */
function* reapMm(core: CoreMm, mm: Mm): Steps<boolean> {
  mm.vmas.willRead(UNSTABLE);
  yield mm.unstable.willWrite(UNSTABLE);
  mm.unstable.value = true;
  let whole = true;
  for (const [, vma] of mm.vmas.entries()) {
    if (vma.hugetlb || vma.fields.pfnMapping !== null || (!vma.anonymous && vma.fields.shared)) continue;
    const range = { ...notifierRange(core, mm, vma, vma.start, vma.end, 'UNMAP'), blockable: false };
    const gather = yield* call(tlbGather(core, mm));
    if (yield* call(mm.notifiers.start(range))) {
      yield* call(zapPageRange(core, gather, vma, mm, vma.start, vma.end));
      yield* call(mm.notifiers.end(range));
    } else whole = false;
    yield* call(tlbFinish(core, gather));
  }
  return whole;
}
