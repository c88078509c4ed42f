// The event queue of timed mode for any number of events: a heap while they are few, a ladder of buckets by time in front
// of that heap when they are many (after Tang, Goh and Thng, "Ladder queue", ACM TOMACS 2005). Only the bucket that is
// due gets sorted, by insertion, so that a push and a pop cost the same at a hundred events and at a million. As it
// knows some dozens of events before their turn, it can tell the clock to fetch what they will need (`ahead`).
import { EventHeap, type EventQueue } from './queue.ts';

/** More events than this in the heap alone are spread over buckets. */
const FEW = 1024;
/** Events that a bucket should hold. */
const PER_BUCKET = 32;
const BUCKETS = 2048;
/** More events than this in one bucket go through the heap. */
const MOST_DUE = 8 * PER_BUCKET;
const NONE = -1;

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
  private readonly first = new Int32Array(BUCKETS).fill(NONE);
  private cursor = BUCKETS;
  /** Events after the last bucket. */
  private beyond = NONE;
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

  // An event in a bucket is a row: its time and rank side by side, and its payload and the next row (as twice its number).
  private whens = new Float64Array(FEW * 2);
  private rows = new Int32Array(FEW * 2);
  private rowsEnd = 0;
  private free = NONE;

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
    } else this.put(this.allot(timeNs, rank, payload));
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
    this.first.fill(NONE);
    this.cursor = BUCKETS;
    this.nearEndNs = Infinity;
    this.beyond = NONE;
    this.dueFrom = 0;
    this.dueTo = 0;
    this.free = NONE;
    this.rowsEnd = 0;
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
        const row = this.first[this.cursor]!;
        this.first[this.cursor++] = NONE;
        this.nearEndNs = this.startNs + this.cursor * this.widthNs;
        if (row === NONE) continue;
        this.open(row);
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
  private open(list: number): void {
    const { rows, whens } = this;
    let count = 0;
    for (let row = list; row !== NONE; row = rows[row + 1]!) count++;
    // A list begins with what came last.
    let at = count;
    for (let row = list; row !== NONE; ) {
      if (count <= MOST_DUE) {
        this.dueTimeNs[--at] = whens[row]!;
        this.dueRank[at] = whens[row + 1]!;
        this.duePayload[at] = rows[row]!;
      } else this.near.pushRanked(whens[row]!, whens[row + 1]!, rows[row]!);
      const after = rows[row + 1]!;
      rows[row + 1] = this.free;
      this.free = row;
      row = after;
    }
    if (count > MOST_DUE) return;
    this.dueFrom = 0;
    this.dueTo = count;
    this.ahead?.(this.duePayload, count);
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
    const { near } = this;
    for (; this.dueFrom < this.dueTo; this.dueFrom++) {
      const at = this.dueFrom;
      this.append(this.allot(this.dueTimeNs[at]!, this.dueRank[at]!, this.duePayload[at]!));
    }
    while (near.size > 0) {
      const rank = near.firstRank();
      const payload = near.pop();
      this.append(this.allot(near.poppedTimeNs, rank, payload));
    }
    for (let bucket = this.cursor; bucket < BUCKETS; bucket++) {
      for (let row = this.first[bucket]!; row !== NONE; ) {
        const after = this.rows[row + 1]!;
        this.append(row);
        row = after;
      }
      this.first[bucket] = NONE;
    }
    this.spread();
  }

  /** All that is pending is beyond the buckets: lay them out by its times. The heap alone takes a few. */
  private spread(): void {
    this.pushes = 0;
    const list = this.beyond;
    this.beyond = NONE;
    this.cursor = BUCKETS;
    this.nearEndNs = Infinity;
    if (this.size <= FEW / 2) {
      this.open(list);
      return;
    }
    let least = Infinity;
    const sample = new Float64Array(64);
    const every = Math.ceil(this.size / sample.length);
    let seen = 0;
    let taken = 0;
    for (let row = list; row !== NONE; row = this.rows[row + 1]!) {
      const time = this.whens[row]!;
      if (time < least) least = time;
      if (seen++ % every === 0) sample[taken++] = time;
    }
    const median = sample.subarray(0, taken).sort()[taken >> 1]!;
    // Half of the events lie before the median; more buckets than there are must not be needed for them.
    const perBucket = Math.max(PER_BUCKET, this.size / BUCKETS);
    const width = ((median - least) * 2 * perBucket) / this.size;
    this.widthNs = width <= 1 ? 1 : 2 ** Math.ceil(Math.log2(width));
    this.startNs = least;
    this.cursor = 0;
    this.nearEndNs = least;
    for (let row = list; row !== NONE; ) {
      const after = this.rows[row + 1]!;
      this.put(row);
      row = after;
    }
  }

  private put(row: number): void {
    const bucket = Math.floor((this.whens[row]! - this.startNs) / this.widthNs);
    if (bucket >= BUCKETS) {
      this.append(row);
      return;
    }
    this.rows[row + 1] = this.first[bucket]!;
    this.first[bucket] = row;
  }

  private append(row: number): void {
    this.rows[row + 1] = this.beyond;
    this.beyond = row;
  }

  private allot(timeNs: number, rank: number, payload: number): number {
    let row = this.free;
    if (row === NONE) {
      row = this.rowsEnd;
      this.rowsEnd += 2;
      if (row === this.rows.length) this.grow();
    } else this.free = this.rows[row + 1]!;
    this.whens[row] = timeNs;
    this.whens[row + 1] = rank;
    this.rows[row] = payload;
    return row;
  }

  private grow(): void {
    const { whens, rows } = this;
    this.whens = new Float64Array(whens.length * 2);
    this.rows = new Int32Array(rows.length * 2);
    this.whens.set(whens);
    this.rows.set(rows);
  }
}
