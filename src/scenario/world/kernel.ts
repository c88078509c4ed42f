// The kernel's own threads and the parts of core mm that plug into others, started while the world is built.

import { takeKernelPages } from '../../mm/mapping/special-mapping.ts';
import { type Scanners, startCoreMm } from '../../mm/start.ts';
import { Flusher, installWriteback } from '../../mm/writeback/flusher.ts';
import { toPages } from './memory.ts';
import type { World } from './world.ts';

/** kswapd per node, KSM, memory failure, and the flusher where there are files. */
export function startKernel(world: World): Scanners {
  const { core } = world;
  takeDimms(world);
  const own = core.cpus.length - 1;
  const scanners = startCoreMm(core, {
    tasks: () => world.tasks.values(),
    cpuOfNode: Object.fromEntries(core.machine.zones.map(({ node }) => [node, own])),
  });
  if (core.allInodes().some((inode) => inode.kind === 'file')) {
    const intervalNs = world.one.host.dirty_writeback;
    const flusher = new Flusher(core, intervalNs === undefined ? {} : { intervalNs });
    flusher.start(world.kernelTask());
    installWriteback(core, flusher);
  }
  return scanners;
}

/** What the kernel has taken of DIMMs for its own data by now. */
function takeDimms(world: World): void {
  const { memory } = world.one.host;
  for (const [node, zones] of (Array.isArray(memory) ? memory : [memory]).entries()) {
    const bytes = zones?.dimm?.zone === 'normal' ? (zones.dimm.kernel ?? 0n) : 0n;
    if (bytes === 0n) continue;
    const dimm = world.core.zones.findLast(({ zone }) => zone.node === node && zone.kind === 'NORMAL')!;
    takeKernelPages(world.core, dimm, toPages(bytes));
  }
}
