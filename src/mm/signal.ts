// SIGKILL and exit_group (kernel/signal.c complete_signal, kernel/exit.c do_group_exit): every thread of the process leaves
// at its next return to user mode or from a killable wait, the last of them takes the process down. An actor of its own is
// that last thread here, so that a process whose scripts have ended dies as well.
import { call, type Process, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { join } from '../engine/wait.ts';
import type { CoreMm } from './core.ts';
import { exit } from './exit.ts';
import type { Task } from './task.ts';

const SEND = step('send_sig:SIGKILL', 'op');
const ZAP = step('do_group_exit:zap_other_threads', 'op');
const WAKE = step('signal_wake_up', 'none');

/** send_sig(SIGKILL): to a process that is dead or dying already it means nothing. */
export function* sendSigkill(core: CoreMm, task: Task): Steps<void> {
  task.exited.willRead(SEND);
  yield task.killed.willUpdate(SEND);
  killNow(core, task);
}

/**
 * do_group_exit by one of several threads: zap_other_threads sends SIGKILL to the others. A group that is exiting already
 * (signal_group_exit) goes on with that.
 */
export function* doGroupExit(core: CoreMm): Steps<void> {
  const { task } = core.current;
  task.exited.willRead(ZAP);
  yield task.killed.willUpdate(ZAP);
  killNow(core, task, 'exiting');
}

/** The act of both, in a step that announced updating `killed` and reading `exited`; `how` names the last thread. */
export function killNow(core: CoreMm, task: Task, how = 'killed'): void {
  if (task.kernelThread || task.killed.value || task.exited.value) return;
  task.killed.value = true;
  // Requests that threads have under way come and go unannounced: those there are in the end are waited for then.
  const threads = threadsOf(core, task).filter(({ parent }) => parent === null || !isThread(core, parent, task));
  // On a CPU that runs the process already, or did: it is one of its threads, and not a new one where the sender runs.
  const ran = threads[0] === undefined ? task.mm.peek()?.cpumask.peek()[0] : core.threadOf(threads[0])!.cpu;
  const cpu = ran === undefined ? {} : { cpu: ran.number };
  const last = core.sim.spawn(`${task.name} ${how}`, () => groupExit(core, threads), cpu);
  core.runAs(last, task);
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
  const { sim } = core;
  yield sim.local(WAKE);
  for (const thread of threads) yield join(sim, thread);
  const { process: last, task } = core.current;
  const requests = threadsOf(core, task).filter((process) => process !== last && !threads.includes(process));
  for (const request of requests.sort((a, b) => (a.name < b.name ? -1 : 1))) yield join(sim, request);
  yield* call(exit(core));
}
