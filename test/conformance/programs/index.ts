// Every program of the laboratory. A new program is added to this list, nowhere else.
import type { Program } from '../program.ts';
import { type1Map } from './type1-map.ts';
import { type1Mem } from './type1-mem.ts';

export const PROGRAMS: readonly Program[] = [type1Map, ...type1Mem];
