// The threads that do a campaign's work. Even one job has a thread of its own, so that the main one is always there to
// hear the clock and Ctrl-C.
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { BenchSettings, BenchTask } from '../../scenario/search/fuzz-bench.ts';
import type { Answer } from './answer.ts';

export interface Pool {
  readonly jobs: number;
  /** Do a task as soon as a thread is free. */
  do(task: BenchTask): Promise<Answer>;
  /** End the threads at once, whatever they are doing: what they have not sent is lost. */
  close(): Promise<void>;
}

export type MakePool = (settings: BenchSettings, jobs: number) => Promise<Pool>;

/** As many threads as the machine runs at once. */
export function defaultJobs(): number {
  return availableParallelism();
}

/** Threads of this process, each with the model loaded. */
export const threadPool: MakePool = async (settings, jobs) => {
  const { Piscina } = await import('piscina');
  const threads = new Piscina({
    filename: fileURLToPath(new URL('./worker.js', import.meta.url)),
    minThreads: jobs,
    maxThreads: jobs,
    workerData: settings,
  });
  return {
    jobs,
    do: (task) => threads.run(task) as Promise<Answer>,
    close: () => threads.destroy(),
  };
};
