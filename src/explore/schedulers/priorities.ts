// Priorities of actors, drawn when an actor is met: what PCT and POS have in common.
import type { Process } from '../../engine/process.ts';
import type { Sim } from '../../engine/sim.ts';
import type { Draws } from '../draws.ts';
import { canStep } from './scheduler.ts';

/** Who of those that can step has the highest priority; null: nobody can. `priorities` (by slot) grows with the actors. */
export function highest({ processes }: Sim, priorities: number[], draws: Draws): Process | null {
  while (priorities.length < processes.length) priorities.push(draws.fraction());
  let best: Process | null = null;
  for (const process of processes) {
    if (!canStep(process)) continue;
    if (best === null || priorities[process.slot]! > priorities[best.slot]!) best = process;
  }
  return best;
}
