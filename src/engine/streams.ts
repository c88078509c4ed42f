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

  /** A stream of its own as a function of non-negative 31-bit integers; the caller keeps and restarts it. */
  open(name: string): () => number {
    const stream = seedrandom(`${this.seed}/${name}`);
    return () => stream.int32() >>> 1;
  }

  restart(): void {
    if (this.streams.size > 0) this.streams.clear();
  }
}
