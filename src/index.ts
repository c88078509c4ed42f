// The library: programs over the engine's cells and locks, and the search for the interleaving that breaks them.
export type { Finding, FindingStep, FindingValue } from './engine/finding.ts';
export { LimitReached } from './engine/limit.ts';
export { call, type Process, type SpawnOptions, type Steps, type Yielded } from './engine/process.ts';
export { Sim, type SimOptions, UndeclaredAccess } from './engine/sim.ts';
export { type Announced, type Step, step } from './engine/step.ts';
export { NotAStep } from './engine/yielded.ts';
export {
  type Estimate,
  type ExploreOptions,
  type ExploreResult,
  explore,
  exploreSim,
  type FoundFinding,
  type Strategy,
} from './explore/explore.ts';
export {
  Program,
  type ProgramCell,
  type ProgramCompletion,
  type ProgramCpu,
  type ProgramMutex,
  type ProgramTally,
} from './explore/program.ts';
export { BrokenPromise } from './explore/promises.ts';
export type { ScheduledStep } from './explore/runner.ts';
export { NotRepeatable } from './explore/schedulers/scheduler.ts';
export { type ShrinkOptions, type Shrunk, shrink } from './explore/shrink.ts';
export { type SwapFailure, type SwapOptions, type SwapResult, swapTest } from './explore/swap.ts';
