// Every program of the laboratory. A new program is added to this list, nowhere else.
import type { Program } from '../program.ts';
import { type1Map } from './type1-map.ts';

export const PROGRAMS: readonly Program[] = [type1Map];
