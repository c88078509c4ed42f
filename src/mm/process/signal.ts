// SIGKILL, exit_group and exec (kernel/signal.c complete_signal, kernel/exit.c do_group_exit, fs/exec.c de_thread): all
// threads of the process leave at the next return to user mode or from a killable wait, the last of them takes the process
// down. An actor of its own is that last thread here, so that a process whose scripts have ended dies as well. Of exec the
// caller stays.
import { call, type Process, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { join, until } from '../../engine/wait.ts';
import type { CoreMm } from '../core.ts';
import { exit } from './exit.ts';
import type { Task } from './task.ts';

const SEND = step('send_sig:SIGKILL', 'op');
const ZAP = step('do_group_exit:zap_other_threads', 'op');
const WAKE = step('signal_wake_up', 'none');
const EXEC = step('de_thread:zap_other_threads', 'op');
const NOTIFY = step('__exit_signal:notify_count', 'none');
const ALONE = step('de_thread:alone', 'none');

/** send_sig(SIGKILL): to a process that is dead or dying already it means nothing. */
export function* sendSigkill(core: CoreMm, task: Task): Steps<void> {
  task.exited.willRead(SEND);
  task.execing.willUpdate(SEND);
  yield task.killed.willUpdate(SEND);
  killNow(core, task);
}

/**
 * do_group_exit by one of several threads: zap_other_threads sends SIGKILL to the others. A group that is exiting already
 * (signal_group_exit) goes on with that; while another thread execs, the caller alone leaves.
 */
export function* doGroupExit(core: CoreMm): Steps<void> {
  const { task } = core.current;
  task.exited.willRead(ZAP);
  task.execing.willUpdate(ZAP);
  yield task.killed.willUpdate(ZAP);
  if (!execs(task)) killNow(core, task, 'exiting');
}

/** Does a thread exec, and has not begun to replace the address space? In a step that announced `execing`. */
export function execs(task: Task): boolean {
  const { value } = task.execing;
  return value === 'waiting' || value === 'alone';
}

/** __exit_signal of the last of the others. An actor, as the caller waits for that or for a signal to itself. */
function* notify(core: CoreMm, task: Task, others: readonly Process[]): Steps<void> {
  yield core.sim.local(WAKE);
  yield* call(joinAll(core, others));
  yield task.execing.willUpdate(NOTIFY);
  if (task.execing.value === 'waiting') task.execing.value = 'alone';
}

/**
 * de_thread, for the one of several threads that execs: the others are killed, and waited for. False (EAGAIN): the process
 * is dying already, is killed meanwhile, or execs in another thread; then the caller dies as well.
 */
export function* deThread(core: CoreMm): Steps<boolean> {
  const { sim } = core;
  const { task, process: caller } = core.current;
  task.execing.willUpdate(EXEC);
  yield task.killed.willUpdate(EXEC);
  if (task.killed.value) return false;
  task.killed.value = true;
  task.execing.value = 'waiting';
  const others = mainThreads(core, task).filter((process) => process !== caller);
  sim.spawn('de_thread', () => notify(core, task, others));
  const { execing } = task;
  task.killed.willUpdate(ALONE);
  const name = `the end of the other threads of ${task.name}`;
  yield until(sim, [execing], () => execing.peek() !== 'waiting', ALONE, { name, update: true, lasting: true });
  if (!execs(task)) return false;
  execing.value = 'no';
  task.killed.value = false;
  // What exec'ing and exited threads have under way in io_uring (io_uring_task_cancel).
  yield* call(joinAll(core, requestsOf(core, task, [caller, ...others])));
  return true;
}

/** The act of both, in a step that announced updating `killed` and `execing`, reading `exited`; `how` names the last thread. */
export function killNow(core: CoreMm, task: Task, how = 'killed'): void {
  if (task.kernelThread || task.exited.value) return;
  if (execs(task)) task.execing.value = 'killed';
  else if (task.killed.value) return;
  task.killed.value = true;
  const threads = mainThreads(core, task);
  // On a CPU that runs the process already, or did: it is one of its threads, and not a new one where the sender runs.
  const ran = threads[0] === undefined ? task.mm.peek()?.cpumask.peek()[0] : core.threadOf(threads[0])!.cpu;
  const cpu = ran === undefined ? {} : { cpu: ran.number };
  const last = core.sim.spawn(`${task.name} ${how}`, () => groupExit(core, threads), cpu);
  core.runAs(last, task);
}

/** Without requests that threads have under way: they come and go unannounced, and those left in the end are waited for. */
function mainThreads(core: CoreMm, task: Task): Process[] {
  return threadsOf(core, task).filter(({ parent }) => parent === null || !isThread(core, parent, task));
}

/** What runs for the task besides its `threads`. */
function requestsOf(core: CoreMm, task: Task, threads: readonly Process[]): Process[] {
  const requests = threadsOf(core, task).filter((process) => !threads.includes(process));
  return requests.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function* joinAll(core: CoreMm, processes: readonly Process[]): Steps<void> {
  for (const process of processes) yield join(core.sim, process);
}

function threadsOf(core: CoreMm, task: Task): Process[] {
  return core.sim.processes.filter((process) => isThread(core, process, task));
}

/** Does the process run user code of the task? A device beside its driver and work of the kernel's own do not. */
function isThread(core: CoreMm, process: Process, task: Task): boolean {
  const thread = core.threadOf(process);
  return thread !== undefined && thread.task === task && !thread.device && !process.daemon && process.state !== 'cut';
}

function* groupExit(core: CoreMm, threads: readonly Process[]): Steps<void> {
  yield core.sim.local(WAKE);
  yield* call(joinAll(core, threads));
  const { process: last, task } = core.current;
  yield* call(joinAll(core, requestsOf(core, task, [last, ...threads])));
  yield* call(exit(core));
}
