// A queue of events, which leave in the order (time, priority, sequence): what a clock needs of one, and a 4-ary heap over
// typed columns, so that neither push nor pop allocates. It takes 0.6 of the time of js-sdsl's PriorityQueue at 16 pending
// and half at 50,000 (`npm run bench -- hold`); `ladder.ts` puts buckets before it for the latter. Not journalled: an
// exploration has no queue, and a timed run is never rewound halfway.

/** What the engine needs of a queue. A payload is a small integer, the process's slot. */
export interface EventQueue {
  /** Events pending. */
  readonly size: number;
  /** Time in nanoseconds of the event that the last `pop` returned. */
  readonly poppedTimeNs: number;
  /**
   * Adds an event.
   * @param timeNs when it is due, whole nanoseconds
   * @param priority the lower goes first among events of one time; an integer, |priority| < 4096
   * @param seq the lower goes first among events of one time and priority; unique, 0 ≤ seq < 2^40
   */
  push(timeNs: number, priority: number, seq: number, payload: number): void;
  /** Removes the first event and returns its payload; -1 when the queue is empty. */
  pop(): number;
  /** Time in nanoseconds of the first event; Infinity when the queue is empty. */
  peekTime(): number;
  /** Forgets all events; keeps the memory. */
  clear(): void;
}

/** Priority and sequence share one double: 2^12 priorities on either side of zero, times 2^40, stay below 2^53. */
const SEQUENCES = 2 ** 40;
const PRIORITIES = 2 ** 12;
const INITIAL_CAPACITY = 64;

/** The children of row i are rows 4i+1 … 4i+4; each row sorts no later than its children. */
export class EventHeap implements EventQueue {
  size = 0;
  poppedTimeNs = 0;
  private timeNs = new Float64Array(INITIAL_CAPACITY);
  private rank = new Float64Array(INITIAL_CAPACITY);
  private payload = new Int32Array(INITIAL_CAPACITY);

  push(timeNs: number, priority: number, seq: number, payload: number): void {
    this.pushRanked(timeNs, EventHeap.rank(timeNs, priority, seq), payload);
  }

  /** Priority and sequence as one number, the order among events of one time. */
  static rank(timeNs: number, priority: number, seq: number): number {
    if (!(seq >= 0 && seq < SEQUENCES && priority > -PRIORITIES && priority < PRIORITIES && timeNs < Infinity)) {
      throw new Error(`event queue: time ${timeNs} ns, priority ${priority} or sequence ${seq} is out of range`);
    }
    return priority * SEQUENCES + seq;
  }

  /** The rank of the first event, of which there is one. */
  firstRank(): number {
    return this.rank[0]!;
  }

  /** As `push`, of an event whose rank is known. */
  pushRanked(timeNs: number, rank: number, payload: number): void {
    if (this.size === this.payload.length) this.grow();
    const times = this.timeNs;
    const ranks = this.rank;
    const payloads = this.payload;
    let row = this.size++;
    while (row > 0) {
      const parent = (row - 1) >> 2;
      const parentTime = times[parent]!;
      if (parentTime < timeNs || (parentTime === timeNs && ranks[parent]! < rank)) break;
      times[row] = parentTime;
      ranks[row] = ranks[parent]!;
      payloads[row] = payloads[parent]!;
      row = parent;
    }
    times[row] = timeNs;
    ranks[row] = rank;
    payloads[row] = payload;
  }

  pop(): number {
    if (this.size === 0) return -1;
    this.poppedTimeNs = this.timeNs[0]!;
    const payload = this.payload[0]!;
    this.size--;
    if (this.size > 0) this.sinkLastRow();
    return payload;
  }

  peekTime(): number {
    return this.size === 0 ? Infinity : this.timeNs[0]!;
  }

  clear(): void {
    this.size = 0;
  }

  /** The first row is free and the row after the last has no place: walk the gap down to where that one belongs. */
  private sinkLastRow(): void {
    const times = this.timeNs;
    const ranks = this.rank;
    const payloads = this.payload;
    const size = this.size;
    const timeNs = times[size]!;
    const rank = ranks[size]!;
    const payload = payloads[size]!;
    let row = 0;
    for (let child = 1; child < size; child = 4 * row + 1) {
      let least = child;
      let leastTime = times[child]!;
      const end = child + 4 < size ? child + 4 : size;
      for (let sibling = child + 1; sibling < end; sibling++) {
        const time = times[sibling]!;
        if (time < leastTime || (time === leastTime && ranks[sibling]! < ranks[least]!)) {
          least = sibling;
          leastTime = time;
        }
      }
      if (timeNs < leastTime || (timeNs === leastTime && rank < ranks[least]!)) break;
      times[row] = leastTime;
      ranks[row] = ranks[least]!;
      payloads[row] = payloads[least]!;
      row = least;
    }
    times[row] = timeNs;
    ranks[row] = rank;
    payloads[row] = payload;
  }

  private grow(): void {
    const capacity = this.payload.length * 2;
    const times = new Float64Array(capacity);
    const ranks = new Float64Array(capacity);
    const payloads = new Int32Array(capacity);
    times.set(this.timeNs);
    ranks.set(this.rank);
    payloads.set(this.payload);
    this.timeNs = times;
    this.rank = ranks;
    this.payload = payloads;
  }
}
