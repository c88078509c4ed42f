// The kernel's own threads and the parts of core mm that plug into others, started while the world is built.
import { madviseCollapse } from '../mm/collapse.ts';
import { Flusher, installWriteback } from '../mm/flusher.ts';
import { startReclaim } from '../mm/kswapd.ts';
import { installMadvise } from '../mm/madvise-hooks.ts';
import { reclaimPages } from '../mm/reclaim.ts';
import type { World } from './world.ts';

/** kswapd per node, the flusher where there are files, and what madvise hands on. */
export function startKernel(world: World): void {
  const { core } = world;
  const own = core.cpus.length - 1;
  startReclaim(core, { cpuOfNode: core.machine.zones.map(() => own) });
  installMadvise(core, { reclaimPages: (c, heads) => reclaimPages(c, heads), collapse: madviseCollapse });
  if (!core.allInodes().some((inode) => inode.kind === 'file')) return;
  const flusher = new Flusher(core);
  flusher.start(world.kernelTask());
  installWriteback(core, flusher);
}
