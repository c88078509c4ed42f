// Devices of a scenario and how they are attached at the start.
import type { Steps } from '../engine/process.ts';
import { ScenarioError } from './diagnostic.ts';
import type { Device } from './scenario.ts';
import type { World } from './world.ts';

export function* setUpDevice(_world: World, device: Device): Steps<void> {
  throw new ScenarioError([{ where: device.where, message: 'devices are not modelled yet' }]);
}
