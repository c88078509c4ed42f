// Pseudo-random numbers for schedulers: sfc32, seeded from text. A run is a function of (seed, run number) alone, so
// that any run can be had again without those before it. The model's own streams are the engine's.
import { hashText, mix } from '../engine/hash.ts';

export class Draws {
  private a = 0;
  private b = 0;
  private c = 0;
  private counter = 0;

  /** Start over for run `run` of `seed`; `purpose` keeps streams apart. */
  restart(seed: string, run: number, purpose = 0): void {
    const base = hashText(seed);
    this.a = mix(base, run | 0);
    this.b = mix(base ^ 0x9e3779b9, Math.floor(run / 4294967296));
    this.c = mix(base ^ 0x85ebca6b, purpose);
    this.counter = 1;
    for (let i = 0; i < 12; i++) this.bits();
  }

  /** 32 random bits, as an unsigned integer. */
  bits(): number {
    const t = (this.a + this.b + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = ((this.c << 21) | (this.c >>> 11)) + t;
    return t >>> 0;
  }

  /** Uniform integer below `limit` (at most 2^32), without the bias of a remainder. */
  below(limit: number): number {
    return Math.floor((this.bits() / 4294967296) * limit);
  }

  /** Uniform double in [0, 1) of 32 bits. */
  fraction(): number {
    return this.bits() / 4294967296;
  }
}
