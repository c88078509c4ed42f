// Virtual machines of a scenario and their first memslots.
import type { Steps } from '../engine/process.ts';
import { ScenarioError } from './diagnostic.ts';
import type { Vm } from './scenario.ts';
import type { World } from './world.ts';

export function* setUpVm(_world: World, vm: Vm): Steps<void> {
  throw new ScenarioError([{ where: vm.where, message: 'virtual machines are not modelled yet' }]);
}
