// Ctrl-C while something long runs: the first time it is asked to stop, so that it can say what it knows by then; the
// second time the process dies as usual.
import type { Io } from './io.ts';

export class Interrupt {
  requested = false;
  private readonly forget: (() => void) | undefined;

  constructor(io: Io) {
    this.forget = io.onInterrupt?.(() => {
      this.requested = true;
    });
  }

  /** Nothing long runs any more. */
  end(): void {
    this.forget?.();
  }
}
