// A line on the terminal that tells how far a long run has come. Nothing is written unless stderr is a terminal. The
// clock decides only when to repaint; no result depends on it.

import { formatCount, formatTime } from '../report/value.ts';
import type { Progress } from '../scenario/run.ts';
import type { Io } from './io.ts';

const FIRST_AFTER_MS = 1000;
const AGAIN_AFTER_MS = 100;

export class ProgressLine {
  private readonly io: Io;
  private readonly total: number;
  private nextMs: number;
  private done = 0;
  private file = '';
  private visible = false;

  constructor(io: Io, total: number) {
    this.io = io;
    this.total = total;
    this.nextMs = performance.now() + FIRST_AFTER_MS;
  }

  /** The next scenario begins. */
  begin(file: string): void {
    this.done++;
    this.file = file;
  }

  /** What a runner reports during a run. */
  update(progress: Progress): void {
    const now = performance.now();
    if (this.io.stderr.isTTY !== true || now < this.nextMs) return;
    this.nextMs = now + AGAIN_AFTER_MS;
    const { caseName, steps, timeNs } = progress;
    const text = `[${this.done}/${this.total}] ${this.file} ${caseName}: ${formatCount(steps)} steps, ${formatTime(timeNs)} simulated`;
    this.io.stderr.write(`\r\x1b[K${text.slice(0, (this.io.stderr.columns ?? 80) - 1)}`);
    this.visible = true;
  }

  /** Take the line away before something else is written. */
  clear(): void {
    if (this.visible) this.io.stderr.write('\r\x1b[K');
    this.visible = false;
  }
}
