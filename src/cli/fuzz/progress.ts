// How a campaign is getting on: one live line on a terminal, a plain line every few seconds elsewhere, on stderr. No
// result depends on this clock.
import { performance } from 'node:perf_hooks';
import { formatCount, plural } from '../../report/value.ts';
import type { Io } from '../io.ts';

const LIVE_MS = 200;
const PLAIN_MS = 5000;
/** The stretch of time over which new coverage is counted. */
const MINUTE_MS = 60_000;

/** What can be said at a moment. */
export interface Standing {
  readonly runs: number;
  /** Features covered. */
  readonly coverage: number;
  readonly findings: number;
  readonly unexpected: number;
  /** Findings that every run must show, and that some did not. */
  readonly absent: number;
}

export interface Goal {
  readonly runs: number;
  /** When time is up, by `performance.now()`; Infinity: never. */
  readonly endMs: number;
}

export class FuzzProgress {
  private readonly io: Io;
  private readonly goal: Goal;
  private readonly look: () => Standing;
  private readonly startMs: number;
  private readonly startRuns: number;
  private readonly past: { readonly atMs: number; readonly coverage: number }[] = [];
  private timer: NodeJS.Timeout | null = null;
  private visible = false;

  constructor(io: Io, goal: Goal, look: () => Standing) {
    this.io = io;
    this.goal = goal;
    this.look = look;
    this.startMs = performance.now();
    this.startRuns = look().runs;
  }

  start(): void {
    const live = this.io.stderr.isTTY === true;
    this.timer = setInterval(() => this.tell(live), live ? LIVE_MS : PLAIN_MS);
  }

  /** No more lines; a live one goes away. */
  end(): void {
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
    this.clear();
  }

  /** Take the live line away before something else is written. */
  clear(): void {
    if (this.visible) this.io.stderr.write('\r\x1b[K');
    this.visible = false;
  }

  private tell(live: boolean): void {
    const text = this.line(performance.now());
    if (!live) {
      this.io.stderr.write(`${text}\n`);
      return;
    }
    this.io.stderr.write(`\r\x1b[K${text.slice(0, (this.io.stderr.columns ?? 80) - 1)}`);
    this.visible = true;
  }

  private line(nowMs: number): string {
    const { runs, coverage, findings, unexpected, absent } = this.look();
    const seconds = Math.max((nowMs - this.startMs) / 1000, 0.001);
    const rate = (runs - this.startRuns) / seconds;
    const left = this.leftMs(nowMs, runs, rate);
    return [
      plural(runs, 'run'),
      `${formatCount(Math.round(rate))}/s`,
      `coverage ${formatCount(coverage)} (+${formatCount(this.newPerMinute(nowMs, coverage))}/min)`,
      [
        plural(findings, 'finding'),
        ...(unexpected > 0 ? [`${formatCount(unexpected)} UNEXPECTED`] : []),
        ...(absent > 0 ? [`${formatCount(absent)} ABSENT`] : []),
      ].join(', '),
      ...(Number.isFinite(left) ? [`${formatDuration(left)} left`] : []),
    ].join('  ');
  }

  /** Features that the last minute added; of a shorter campaign, what it would add at this rate. */
  private newPerMinute(nowMs: number, coverage: number): number {
    const { past } = this;
    past.push({ atMs: nowMs, coverage });
    while (past.length > 2 && past[1]!.atMs < nowMs - MINUTE_MS) past.shift();
    const first = past[0]!;
    const spanMs = nowMs - first.atMs;
    if (spanMs <= 0) return coverage;
    return Math.round(((coverage - first.coverage) * MINUTE_MS) / Math.max(spanMs, 1));
  }

  private leftMs(nowMs: number, runs: number, rate: number): number {
    const byTime = this.goal.endMs - nowMs;
    const byRuns = rate > 0 ? ((this.goal.runs - runs) / rate) * 1000 : Number.POSITIVE_INFINITY;
    return Math.max(0, Math.min(byTime, byRuns));
  }
}

/** `4s`, `3min 20s`, `2h 05min`. */
function formatDuration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}min ${seconds % 60}s`;
  return `${Math.floor(minutes / 60)}h ${String(minutes % 60).padStart(2, '0')}min`;
}
