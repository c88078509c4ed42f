// A gate makes a step wait: locks, condition waits, joins and grace periods are gates. The scheduler asks `ready`,
// and on picking the process calls `take` in the same atomic step, before the process resumes.
import type { Process } from './process.ts';

/**
 * What a search may rely on. `always`: never shut (trylock, unlock). `lasting`: once open for a process that has
 * announced it, open until that process acts (a join, a place in a fair queue). `lock`: open while the lock object
 * `lockId` is free. Without a promise, a gate may open and shut as its objects change.
 */
export type GatePromise = 'always' | 'lasting' | 'lock';

export interface Gate {
  readonly promise?: GatePromise;
  /** With promise `lock`: the object id of the lock. */
  readonly lockId?: number;
  /** The object id of the lock that the act took if it wrote it, though it may have let it go again in the same act. */
  taken?(): number;
  /** What is being waited for, for deadlock reports: `mmap_lock of vmm`. */
  readonly name: string;
  /** Pure. False while the process must stay disabled. */
  ready(process: Process): boolean;
  /** Runs atomically with the step: takes the lock. */
  take(process: Process): void;
  /** Who could end the wait, as far as the gate knows (lock owners): the edges of a deadlock cycle. */
  waitsFor(process: Process): readonly Process[];
}
