// Drives the search of one case: until its end, until time is up, or until somebody presses Ctrl-C. The clock of this
// machine decides when to stop, never what is found by then.
import { performance } from 'node:perf_hooks';
import { setImmediate } from 'node:timers/promises';
import type { CaseSearcher } from '../scenario/search/search-case.ts';
import type { FrontierFile } from './frontier-file.ts';
import type { Interrupt } from './interrupt.ts';
import type { SearchProgress } from './search-progress.ts';

/** Executions between looks at the clock, time between looks at signals, and between saves. */
const CHUNK = 8;
const LISTEN_MS = 50;
const SAVE_MS = 15_000;

export interface Drive {
  readonly forMs: number | undefined;
  readonly interrupt: Interrupt;
  readonly progress: SearchProgress;
  readonly frontier: FrontierFile | undefined;
}

/** Search on; returns why it stopped before the end, in words. What was done is saved in any case. */
export async function driveSearch(searcher: CaseSearcher, drive: Drive): Promise<string | undefined> {
  const stopped = await search(searcher, drive);
  drive.progress.clear();
  drive.frontier?.save(searcher);
  return stopped;
}

async function search(searcher: CaseSearcher, drive: Drive): Promise<string | undefined> {
  const { forMs, interrupt, progress, frontier } = drive;
  const startMs = performance.now();
  const endMs = forMs === undefined ? Number.POSITIVE_INFINITY : startMs + forMs;
  let listenMs = startMs + LISTEN_MS;
  let saveMs = startMs + SAVE_MS;
  while (!interrupt.requested) {
    for (let i = 0; i < CHUNK; i++) if (!searcher.next()) return undefined;
    const now = performance.now();
    if (now >= endMs) return 'the time for this case was up (--for)';
    progress.update(searcher);
    if (now >= saveMs) {
      frontier?.save(searcher);
      // Saving a long frontier must not become the main work.
      saveMs = performance.now() + Math.max(SAVE_MS, 20 * (performance.now() - now));
    }
    if (now < listenMs) continue;
    await setImmediate();
    listenMs = performance.now() + LISTEN_MS;
  }
  return 'it was interrupted';
}
