// How far a search has come: executed, how many there may be in all, how many were redundant, time left. One live line
// on a terminal, a plain line now and then elsewhere, both on stderr. The clock decides only when to write.
import { formatEstimate } from '../report/search.ts';
import { formatCount } from '../report/value.ts';
import type { CaseSearcher } from '../scenario/search/search-case.ts';
import type { Io } from './io.ts';

const LIVE_FIRST_MS = 1000;
const LIVE_AGAIN_MS = 200;
const PLAIN_FIRST_MS = 5000;
const PLAIN_AT_MOST_MS = 60_000;

export class SearchProgress {
  private readonly io: Io;
  private readonly total: number;
  private name = '';
  private number = 0;
  private startMs = 0;
  private executedBefore = 0;
  private nextMs = 0;
  private visible = false;

  /** `total`: cases to search. */
  constructor(io: Io, total: number) {
    this.io = io;
    this.total = total;
  }

  private get live(): boolean {
    return this.io.stderr.isTTY === true;
  }

  /** The search of the next case begins, or goes on. */
  begin(name: string, { search }: CaseSearcher): void {
    this.number++;
    this.name = name;
    this.startMs = performance.now();
    this.executedBefore = search.executions;
    this.nextMs = this.startMs + (this.live ? LIVE_FIRST_MS : PLAIN_FIRST_MS);
  }

  /** Between executions. */
  update(searcher: CaseSearcher): void {
    const now = performance.now();
    if (now < this.nextMs) return;
    const text = `${this.total > 1 ? `[${this.number}/${this.total}] ` : ''}${this.name}: ${this.line(searcher, now)}`;
    if (this.live) {
      this.nextMs = performance.now() + LIVE_AGAIN_MS;
      this.io.stderr.write(`\r\x1b[K${text.slice(0, (this.io.stderr.columns ?? 80) - 1)}`);
      this.visible = true;
      return;
    }
    this.nextMs = now + Math.min(Math.max(now - this.startMs, PLAIN_FIRST_MS), PLAIN_AT_MOST_MS);
    this.io.stderr.write(`${text}\n`);
  }

  private line({ search }: CaseSearcher, now: number): string {
    const { executions, blocked } = search;
    const estimate = search.estimate();
    const parts = [
      `${formatCount(executions)} of ${estimate === null ? 'an unknown number' : formatEstimate(estimate)}`,
    ];
    parts.push(`${formatCount(blocked)} redundant`);
    const fresh = executions - this.executedBefore;
    if (estimate !== null && fresh > 0) {
      const leftMs = ((now - this.startMs) * Math.max(0, estimate.total - executions)) / fresh;
      parts.push(`${formatDuration(leftMs)} left`);
    }
    return parts.join(', ');
  }

  /** Take the line away before something else is written. */
  clear(): void {
    if (this.visible) this.io.stderr.write('\r\x1b[K');
    this.visible = false;
  }
}

const UNITS: readonly (readonly [string, number])[] = [
  ['d', 86_400],
  ['h', 3600],
  ['min', 60],
  ['s', 1],
];

/** A time on the clock, in the two largest units that matter: `2min 5s`. */
export function formatDuration(ms: number): string {
  let seconds = Math.ceil(ms / 1000);
  const parts: string[] = [];
  for (const [unit, size] of UNITS) {
    if (parts.length === 2) break;
    const count = Math.floor(seconds / size);
    if (count === 0 && parts.length === 0 && size > 1) continue;
    if (count > 0 || parts.length === 0) parts.push(`${formatCount(count)}${unit}`);
    else break;
    seconds -= count * size;
  }
  return parts.join(' ');
}
