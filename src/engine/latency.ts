// What a step costs in simulated time: one integer quantile table per latency class, interpolation-free, so that no
// platform's floating point shows. A table of one entry is a constant.
import type { Process } from './process.ts';
import { type Access, latencyIndexOf } from './step.ts';

const OP = latencyIndexOf('op');

/** Equally likely durations [ns], ascending. */
export type QuantileTable = readonly number[];

export class LatencyModel {
  private readonly tables: (QuantileTable | undefined)[] = [];

  /** Tables by class name; a class without a table costs `op` if given, else nothing. */
  constructor(tables: Readonly<Record<string, QuantileTable | number>>) {
    for (const [name, table] of Object.entries(tables)) {
      this.tables[latencyIndexOf(name)] = typeof table === 'number' ? [table] : table;
    }
  }

  /** Duration of the announced step [ns]: one draw times the step's units, plus any sleep. */
  durationNs(process: Process, access: Access): number {
    const table = this.tables[access.step.latencyIndex] ?? this.tables[OP];
    if (table === undefined) return access.delayNs;
    const one = table.length === 1 ? table[0]! : table[process.drawLatency(table.length)]!;
    return one * access.times + access.delayNs;
  }
}
