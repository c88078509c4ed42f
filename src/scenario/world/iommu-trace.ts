// The tracepoints iommu:map and iommu:unmap, filtered by who calls (set_event_pid): an actor sees its own calls only, so
// that looking at them shares nothing with others.
import type { Process } from '../../engine/process.ts';
import type { Sim } from '../../engine/sim.ts';
import { IOMMU_CALL, type IommuCall } from '../../iommu/events.ts';

export class IommuTrace {
  private readonly calls = new Map<Process, IommuCall[]>();

  constructor(sim: Sim) {
    sim.onRewind(() => this.calls.clear());
    sim.on(IOMMU_CALL, (made) => {
      const caller = sim.current;
      if (caller === null) return;
      const before = this.calls.get(caller);
      if (before === undefined) this.calls.set(caller, [made]);
      else before.push(made);
    });
  }

  /** The calls that `process` has made since it last asked. */
  take(process: Process): readonly IommuCall[] {
    const calls = this.calls.get(process) ?? [];
    this.calls.delete(process);
    return calls;
  }
}

/** Sizes in bytes with how many calls in a row had each: `2x4096 1x8192`. */
export function sizesText(calls: readonly IommuCall[]): string {
  const runs: { size: number; times: number }[] = [];
  for (const { pages } of calls) {
    const last = runs[runs.length - 1];
    if (last?.size === pages * 4096) last.times++;
    else runs.push({ size: pages * 4096, times: 1 });
  }
  return runs.map(({ size, times }) => `${times}x${size}`).join(' ');
}
