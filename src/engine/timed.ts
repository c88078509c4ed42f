// The timed clock: a discrete-event loop. A step acts at its announce time plus its cost; events of equal time run in
// order of (priority, sequence). A step whose gate is shut waits until an object it announced is written.
import { deadlockFinding } from './deadlock.ts';
import { LadderQueue } from './ladder.ts';
import { LivelockWatch } from './livelock.ts';
import type { Process } from './process.ts';

import type { Sim } from './sim.ts';
import { type Access, READ } from './step.ts';

export interface TimedLimits {
  /** Stop after this many steps; the result says so. */
  readonly maxSteps?: number;
  /** Stop at this simulated time [ns]. */
  readonly maxTimeNs?: number;
  /** Called every `progressEvery` steps. */
  readonly onProgress?: (steps: number, nowNs: number) => void;
}

export interface TimedResult {
  readonly steps: number;
  readonly timeNs: number;
  readonly end: 'done' | 'deadlock' | 'livelock' | 'step-limit' | 'time-limit';
}

const PROGRESS_EVERY = 1 << 16;

/**
 * Run every process of `sim` to its end. Drains deferred work and reports a deadlock, or (where the sim keeps its state
 * digest) a livelock.
 */
export function runTimed(sim: Sim, limits: TimedLimits = {}): TimedResult {
  const { turns } = sim;
  const queue = new LadderQueue((slots, count) => {
    for (let i = 0; i < count; i++) turns.fetch(slots[i]!);
  });
  const waiting: Process[] = [];
  let sequence = 0;
  let steps = 0;
  let unfinished = 0;
  let end: TimedResult['end'] = 'done';
  const livelocks = sim.digested ? new LivelockWatch(sim) : null;
  const maxSteps = limits.maxSteps ?? Number.POSITIVE_INFINITY;
  const maxTimeNs = limits.maxTimeNs ?? Number.POSITIVE_INFINITY;

  const schedule = (process: Process, slot: number, announced: Access): void => {
    const at = sim.nowNs + sim.latencies.durationNs(process, announced);
    queue.push(at, turns.priority[slot]!, sequence++, slot);
  };
  const admit = (process: Process): void => {
    if (process.state === 'ended') return;
    if (!process.daemon) unfinished++;
    schedule(process, process.slot, process.announced);
    process.announced = sim.shared(process.announced);
  };
  for (const process of sim.processes) admit(process);
  sim.spawned = admit;
  sim.sharing = true;

  // A waiter is looked at again when somebody writes an object it announced; whoever waited longest comes first.
  const wake = (acted: Process): void => {
    const access = acted.acted;
    const ended = acted.state === 'ended';
    for (let w = 0; w < waiting.length; ) {
      const process = waiting[w]!;
      if ((ended || touches(process, access)) && process.enabled) {
        waiting.splice(w, 1);
        queue.push(sim.nowNs, process.priority, sequence++, process.slot);
      } else w++;
    }
  };

  try {
    while (unfinished > 0 || !onlyIdleDaemons(queue)) {
      if (queue.size === 0) break;
      if (steps >= maxSteps) {
        end = 'step-limit';
        break;
      }
      if (maxTimeNs !== Number.POSITIVE_INFINITY && queue.peekTime() > maxTimeNs) {
        end = 'time-limit';
        break;
      }
      const slot = queue.pop();
      const process = sim.processes[slot]!;
      sim.nowNs = queue.poppedTimeNs;
      if (turns.announced[slot]!.gate !== null && !process.enabled) {
        waiting.push(process);
        continue;
      }
      const announced = sim.actAt(slot);
      steps++;
      if (announced !== null) schedule(process, slot, announced);
      else if (!process.daemon) unfinished--;
      if (waiting.length > 0) wake(process);
      const livelock = livelocks?.stepActed(process) ?? null;
      if (livelock !== null) {
        end = 'livelock';
        sim.report(livelock);
        break;
      }
      if (steps % PROGRESS_EVERY === 0) limits.onProgress?.(steps, sim.nowNs);
    }
  } finally {
    sim.spawned = null;
    sim.sharing = false;
  }
  while (queue.size > 0) {
    const process = sim.processes[queue.pop()]!;
    sim.unshare(process, queue.poppedTimeNs - sim.nowNs);
  }
  if (end === 'done' && unfinished > 0) {
    end = 'deadlock';
    sim.report(deadlockFinding(sim, waiting));
  }
  if (end === 'done' || end === 'deadlock') sim.drain();
  return { steps, timeNs: sim.nowNs, end };
}

/** Daemons that still have an event run on: only waiting ones are idle. */
function onlyIdleDaemons(queue: LadderQueue): boolean {
  return queue.size === 0;
}

function touches(process: Process, acted: Process['acted']): boolean {
  const announced = process.announced;
  for (let i = 0; i < acted.count; i++) {
    if (acted.kind[i] === READ) continue;
    for (let j = 0; j < announced.count; j++) {
      if (acted.lo[i]! <= announced.hi[j]! && announced.lo[j]! <= acted.hi[i]!) return true;
    }
  }
  return false;
}
