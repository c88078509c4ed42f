// Starter scenarios by name.
import { BALLOON } from './balloon.ts';
import { MEMLOCK } from './memlock.ts';
import { RACE } from './race.ts';
import { VFIO_MAP } from './vfio-map.ts';

export interface Template {
  readonly name: string;
  readonly summary: string;
  /** A whole scenario file. */
  readonly text: string;
}

export const TEMPLATES: readonly Template[] = [VFIO_MAP, BALLOON, RACE, MEMLOCK];
