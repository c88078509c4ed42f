// The event queue of timed mode for any number of events: a heap while they are few, a ladder of buckets by time in front
// of that heap when they are many (after Tang, Goh and Thng, "Ladder queue", ACM TOMACS 2005). Only the bucket that is
// due gets sorted, by insertion, so that a push and a pop cost the same at a hundred events and at a million. As it
// knows some dozens of events before their turn, it can tell the clock to fetch what they will need (`ahead`).
import { Buckets } from './buckets.ts';
import { EventHeap, type EventQueue } from './queue.ts';

/** More events than this in the heap alone are spread over buckets. */
const FEW = 1024;
/** Events that a bucket should hold. */
const PER_BUCKET = 32;
const BUCKETS = 2048;
/** The bucket of what comes after all others. */
const BEYOND = BUCKETS;
/** More events than this in one bucket go through the heap. */
const MOST_DUE = 8 * PER_BUCKET;
/** Times that the width of buckets is judged by. */
const SAMPLE = 64;

/** The first `count` of `payloads` will be popped soon. */
export type Ahead = (payloads: Int32Array, count: number) => void;

/** Events leave in the order (time, priority, sequence), exactly as from an `EventHeap`. */
export class LadderQueue implements EventQueue {
  size = 0;
  poppedTimeNs = 0;
  /** The events before `nearEndNs` that came after their bucket was opened, and buckets too full to sort by insertion. */
  private readonly near = new EventHeap();
  private nearEndNs = Infinity;
  /** Bucket k: times from startNs + k * widthNs on; a power of two wide, so that no division rounds. */
  private startNs = 0;
  private widthNs = 1;
  private perNs = 1;
  private cursor = BUCKETS;
  private readonly buckets = new Buckets(BUCKETS + 1);
  /** Events in the heap at which to lay out buckets: twice as many when the last time left many of one time in it. */
  private most = FEW;
  /** Pushes since the buckets were laid out: laying them out anew is paid by as many. */
  private pushes = 0;

  // The bucket that is due, in order.
  private dueTimeNs = new Float64Array(MOST_DUE);
  private dueRank = new Float64Array(MOST_DUE);
  private duePayload = new Int32Array(MOST_DUE);
  private dueFrom = 0;
  private dueTo = 0;

  private readonly ahead: Ahead | null;

  /** @param ahead told of payloads that will be popped soon; not of all of them */
  constructor(ahead: Ahead | null = null) {
    this.ahead = ahead;
  }

  push(timeNs: number, priority: number, seq: number, payload: number): void {
    const rank = EventHeap.rank(timeNs, priority, seq);
    this.size++;
    this.pushes++;
    if (timeNs < this.nearEndNs) {
      this.near.pushRanked(timeNs, rank, payload);
      if (this.near.size > this.most) this.layOut();
    } else this.put(timeNs, rank, payload);
  }

  pop(): number {
    if (!this.ready()) return -1;
    this.size--;
    if (this.dueFrom < this.dueTo && this.dueFirst()) {
      this.poppedTimeNs = this.dueTimeNs[this.dueFrom]!;
      return this.duePayload[this.dueFrom++]!;
    }
    const payload = this.near.pop();
    this.poppedTimeNs = this.near.poppedTimeNs;
    return payload;
  }

  peekTime(): number {
    if (!this.ready()) return Infinity;
    const heapNs = this.near.peekTime();
    return this.dueFrom < this.dueTo ? Math.min(heapNs, this.dueTimeNs[this.dueFrom]!) : heapNs;
  }

  clear(): void {
    this.near.clear();
    this.buckets.clear();
    this.cursor = BUCKETS;
    this.nearEndNs = Infinity;
    this.dueFrom = 0;
    this.dueTo = 0;
    this.most = FEW;
    this.pushes = 0;
    this.size = 0;
  }

  /** Is there a first event? It is the first of the bucket that is due or of the heap then. */
  private ready(): boolean {
    return this.dueFrom < this.dueTo || this.near.size > 0 || this.advance();
  }

  /** Does the first event of the bucket that is due go before all in the heap? */
  private dueFirst(): boolean {
    const { near } = this;
    if (near.size === 0) return true;
    const heapNs = near.peekTime();
    const dueNs = this.dueTimeNs[this.dueFrom]!;
    return dueNs < heapNs || (dueNs === heapNs && this.dueRank[this.dueFrom]! < near.firstRank());
  }

  /** Open the next bucket that holds something. False when there is nothing. */
  private advance(): boolean {
    while (this.size > 0) {
      while (this.cursor < BUCKETS) {
        const bucket = this.cursor++;
        this.nearEndNs = this.startNs + this.cursor * this.widthNs;
        if (this.buckets.counts[bucket] === 0) continue;
        this.open(bucket);
        // Wider than the events are dense by now.
        if (this.near.size > MOST_DUE && this.widthNs > 1 && this.pushes > this.size / 2) {
          this.layOut();
          break;
        }
        this.most = Math.max(FEW, 2 * this.near.size);
        return true;
      }
      if (this.near.size > 0 || this.dueFrom < this.dueTo) return true;
      if (this.cursor === BUCKETS) this.spread();
    }
    return false;
  }

  /** The events of a bucket are due: in order, or into the heap when they are many. */
  private open(bucket: number): void {
    const { buckets, near, dueTimeNs, dueRank, duePayload } = this;
    const many = buckets.counts[bucket]! > MOST_DUE;
    let count = 0;
    buckets.empty(bucket);
    while (buckets.next()) {
      if (many) {
        near.pushRanked(buckets.timeNs, buckets.rank, buckets.payload);
        continue;
      }
      dueTimeNs[count] = buckets.timeNs;
      dueRank[count] = buckets.rank;
      duePayload[count++] = buckets.payload;
    }
    if (many) return;
    this.dueFrom = 0;
    this.dueTo = count;
    this.ahead?.(duePayload, count);
    this.sortDue();
  }

  /** By insertion: few, and mostly in order already. */
  private sortDue(): void {
    const { dueTimeNs, dueRank, duePayload, dueTo } = this;
    for (let i = 1; i < dueTo; i++) {
      const time = dueTimeNs[i]!;
      const rank = dueRank[i]!;
      let at = i;
      while (at > 0 && (dueTimeNs[at - 1]! > time || (dueTimeNs[at - 1]! === time && dueRank[at - 1]! > rank))) at--;
      if (at === i) continue;
      const payload = duePayload[i]!;
      dueTimeNs.copyWithin(at + 1, at, i);
      dueRank.copyWithin(at + 1, at, i);
      duePayload.copyWithin(at + 1, at, i);
      dueTimeNs[at] = time;
      dueRank[at] = rank;
      duePayload[at] = payload;
    }
  }

  /** Everything into buckets that suit what is pending now. */
  private layOut(): void {
    const { near, buckets } = this;
    for (; this.dueFrom < this.dueTo; this.dueFrom++) {
      const at = this.dueFrom;
      buckets.add(BEYOND, this.dueTimeNs[at]!, this.dueRank[at]!, this.duePayload[at]!);
    }
    while (near.size > 0) {
      const rank = near.firstRank();
      const payload = near.pop();
      buckets.add(BEYOND, near.poppedTimeNs, rank, payload);
    }
    for (let bucket = this.cursor; bucket < BUCKETS; bucket++) {
      buckets.empty(bucket);
      while (buckets.next()) buckets.add(BEYOND, buckets.timeNs, buckets.rank, buckets.payload);
    }
    this.spread();
  }

  /** All that is pending is beyond the buckets: lay them out by its times. The heap alone takes a few. */
  private spread(): void {
    this.pushes = 0;
    const { buckets } = this;
    this.cursor = BUCKETS;
    this.nearEndNs = Infinity;
    if (this.size <= FEW / 2) {
      this.open(BEYOND);
      return;
    }
    const sample: number[] = [];
    const least = buckets.survey(BEYOND, Math.ceil(this.size / SAMPLE), sample);
    const median = sample.sort((a, b) => a - b)[sample.length >> 1]!;
    // Half of the events lie before the median; more buckets than there are must not be needed for them.
    const perBucket = Math.max(PER_BUCKET, this.size / BUCKETS);
    const width = ((median - least) * 2 * perBucket) / this.size;
    this.widthNs = width <= 1 ? 1 : 2 ** Math.ceil(Math.log2(width));
    this.perNs = 1 / this.widthNs;
    this.startNs = least;
    this.cursor = 0;
    this.nearEndNs = least;
    buckets.empty(BEYOND);
    while (buckets.next()) this.put(buckets.timeNs, buckets.rank, buckets.payload);
  }

  private put(timeNs: number, rank: number, payload: number): void {
    // A power of two: its inverse is exact.
    const bucket = Math.floor((timeNs - this.startNs) * this.perNs);
    this.buckets.add(bucket >= BUCKETS ? BEYOND : bucket, timeNs, rank, payload);
  }
}
