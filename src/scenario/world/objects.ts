// Objects behind names of operations that any actor may be the first to ask for: they are there before the actors start.
import { GfnToPfnCache } from '../../kvm/gpc.ts';
import { UmrQueue } from '../../rdma/odp.ts';
import type { Declared, Ref } from '../file/reference.ts';
import type { Actor } from '../file/scenario.ts';
import { operationsIn } from '../file/wait-targets.ts';
import type { World } from './world.ts';

const QUEUE = 'umr-queue';

/** Make what the operations of the scenario will ask for. */
export function addObjects(world: World): void {
  for (const actor of world.scenario.actors) {
    for (const { operation, args } of operationsIn(actor.script)) {
      if (operation.name === 'odp.reg' && !world.named.has(QUEUE)) world.named.set(QUEUE, new UmrQueue(world.core));
      if (operation.name === 'gpc.activate')
        addCache(world, actor, args as { readonly as: Declared; readonly vm?: Ref });
    }
  }
}

/** One RDMA device, and so one queue, for all regions of a world. */
export function umrQueue(world: World): UmrQueue {
  return world.named.get(QUEUE) as UmrQueue;
}

/** The caches of a VM are there with it, inactive. Those of a VM that a script makes come with their activation. */
function addCache(world: World, actor: Actor, args: { readonly as: Declared; readonly vm?: Ref }): void {
  const key = `cache:${args.as.name}`;
  const { vms } = world.scenario;
  const own = vms.find(({ name, spec }) => name === actor.subject || spec.process.name === actor.subject);
  const vm = world.vms.get(args.vm?.name ?? own?.name ?? '');
  if (vm === undefined || world.named.has(key)) return;
  world.named.set(key, new GfnToPfnCache(world.sim, `cache ${args.as.name} of ${vm.name}`));
}
