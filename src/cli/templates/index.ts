// Starter scenarios by name.
import { BALLOON } from './balloon.ts';
import { MEMLOCK } from './memlock.ts';
import { RACE } from './race.ts';
import type { Template } from './template.ts';
import { VFIO_MAP } from './vfio-map.ts';

export type { Template } from './template.ts';

export const TEMPLATES: readonly Template[] = [VFIO_MAP, BALLOON, RACE, MEMLOCK];
