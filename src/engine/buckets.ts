// Events in unsorted buckets, for a queue of many: those of a bucket lie together by the chunk, so that reading a bucket
// goes through memory in order instead of following a link from event to event.

/** Events per chunk; a power of two. */
const CHUNK = 16;
const IN_CHUNK = CHUNK - 1;
const NONE = -1;

export class Buckets {
  /** Events by bucket. */
  readonly counts: Int32Array;
  /** What `next` took. */
  timeNs = 0;
  rank = 0;
  payload = NONE;

  // By bucket: the chunks of its events, of which only the last may have room.
  private readonly first: Int32Array;
  private readonly last: Int32Array;
  // By chunk: the times and ranks of its events side by side, their payloads, and the chunk that was begun after it.
  private whens = new Float64Array(64 * CHUNK * 2);
  private payloads = new Int32Array(64 * CHUNK);
  private after = new Int32Array(64);
  private chunks = 0;
  private free = NONE;
  // What is being emptied.
  private chunk = NONE;
  private place = 0;
  private left = 0;

  constructor(buckets: number) {
    this.counts = new Int32Array(buckets);
    this.first = new Int32Array(buckets);
    this.last = new Int32Array(buckets);
  }

  add(bucket: number, timeNs: number, rank: number, payload: number): void {
    const count = this.counts[bucket]!++;
    const place = count & IN_CHUNK;
    if (place === 0) this.addChunk(bucket, count === 0);
    const at = this.last[bucket]! * CHUNK + place;
    this.whens[2 * at] = timeNs;
    this.whens[2 * at + 1] = rank;
    this.payloads[at] = payload;
  }

  /** Empty a bucket: it holds nothing from now on, and `next` gives what it held. */
  empty(bucket: number): void {
    this.chunk = this.first[bucket]!;
    this.place = 0;
    this.left = this.counts[bucket]!;
    this.counts[bucket] = 0;
  }

  /** The next event of the bucket being emptied, in the order in which they were added; false: that was all. */
  next(): boolean {
    if (this.left === 0) return false;
    const { chunk } = this;
    const at = chunk * CHUNK + this.place++;
    this.timeNs = this.whens[2 * at]!;
    this.rank = this.whens[2 * at + 1]!;
    this.payload = this.payloads[at]!;
    if (--this.left > 0 && this.place < CHUNK) return true;
    this.chunk = this.after[chunk]!;
    this.place = 0;
    this.after[chunk] = this.free;
    this.free = chunk;
    return true;
  }

  /** The times of a bucket: every `every`-th goes into `sample`, the least comes back. */
  survey(bucket: number, every: number, sample: number[]): number {
    let least = Infinity;
    let chunk = this.first[bucket]!;
    for (let seen = 0; seen < this.counts[bucket]!; seen++) {
      if (seen > 0 && (seen & IN_CHUNK) === 0) chunk = this.after[chunk]!;
      const time = this.whens[2 * (chunk * CHUNK + (seen & IN_CHUNK))]!;
      if (time < least) least = time;
      if (seen % every === 0) sample.push(time);
    }
    return least;
  }

  clear(): void {
    this.counts.fill(0);
    this.chunks = 0;
    this.free = NONE;
    this.left = 0;
  }

  private addChunk(bucket: number, isFirst: boolean): void {
    let chunk = this.free;
    if (chunk === NONE) {
      chunk = this.chunks++;
      if (chunk === this.after.length) this.grow();
    } else this.free = this.after[chunk]!;
    if (isFirst) this.first[bucket] = chunk;
    else this.after[this.last[bucket]!] = chunk;
    this.last[bucket] = chunk;
  }

  private grow(): void {
    const { whens, payloads, after } = this;
    this.whens = new Float64Array(whens.length * 2);
    this.payloads = new Int32Array(payloads.length * 2);
    this.after = new Int32Array(after.length * 2);
    this.whens.set(whens);
    this.payloads.set(payloads);
    this.after.set(after);
  }
}
