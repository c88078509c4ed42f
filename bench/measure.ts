// What all benchmarks share: contenders take turns and each is given its best round, because noise only ever adds.

export interface Bench {
  readonly name: string;
  readonly about: string;
  /** Prints its lines; false when a target was missed. */
  run(print: (line: string) => void): boolean;
}

/** One contender: `run` does its work once and returns the nanoseconds of one operation. */
export interface Contender {
  readonly name: string;
  run(): number;
}

/** Nanoseconds per operation of `work`, which does `operations` of them. */
export function nsPer(operations: number, work: () => void): number {
  const from = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - from) / operations;
}

/** Nanoseconds of processor time per operation: a search is long enough to be interrupted, and its speed is per core. */
export function cpuNsPer(operations: number, work: () => void): number {
  const from = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(from);
  return ((user + system) * 1000) / operations;
}

/** Best of `rounds` for each contender, who take turns; the first round only warms up. */
export function race(contenders: readonly Contender[], rounds = 5): number[] {
  const best = contenders.map(() => Infinity);
  for (let round = 0; round <= rounds; round++) {
    contenders.forEach((contender, i) => {
      globalThis.gc?.();
      const ns = contender.run();
      if (round > 0) best[i] = Math.min(best[i]!, ns);
    });
  }
  return best;
}

/** `name  123.4 ns  2.34 x`, with a verdict when there is a target to reach. */
export function row(name: string, ns: number, ratio: number, target?: number): string {
  const verdict = target === undefined ? '' : `   ${ratio >= target ? 'reached' : 'MISSED'}: at least ${target} x`;
  return `${name.padEnd(38)} ${ns.toFixed(1).padStart(9)} ns ${ratio.toFixed(2).padStart(7)} x${verdict}`;
}

/** Delays [ns], exponentially distributed around 1,000, in a table: drawing them must not be what is measured. */
export function delays(): Int32Array {
  const table = new Int32Array(4096);
  let state = 123456789;
  for (let i = 0; i < table.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    table[i] = Math.round(-1000 * Math.log(((state >>> 0) + 1) / 4294967297));
  }
  return table;
}
