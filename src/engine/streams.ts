// Random streams: one per actor and purpose, created at first draw, so that adding an actor does not shift another's
// numbers. seedrandom's ARC4 gives the same doubles on every platform.
import seedrandom from 'seedrandom';

export class Streams {
  private readonly seed: string;
  private readonly streams = new Map<string, () => number>();

  constructor(seed: string) {
    this.seed = seed;
  }

  /** Uniform double in [0, 1) from the named stream. */
  draw(name: string): number {
    let stream = this.streams.get(name);
    if (stream === undefined) {
      stream = seedrandom(`${this.seed}/${name}`);
      this.streams.set(name, stream);
    }
    return stream();
  }

  /** Uniform integer below `limit`. */
  below(name: string, limit: number): number {
    return Math.floor(this.draw(name) * limit);
  }

  restart(): void {
    this.streams.clear();
  }
}
