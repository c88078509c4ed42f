// Reverse mapping of anonymous memory (mm/rmap.c). One AnonVma stands for a whole anon_vma family: the mms that may map
// its folios. The walk visits their VMAs and looks at the PTEs, as rmap_walk_anon does.
import { Cell } from '../../engine/cell.ts';
import { hashText, mix } from '../../engine/hash.ts';
import { RwSem } from '../../engine/rwsem.ts';
import type { Sim } from '../../engine/sim.ts';
import type { Mm } from '../mm.ts';

export class AnonVma {
  readonly id: number;
  readonly name: string;
  readonly identity: number;
  /** anon_vma->rwsem */
  readonly lock: RwSem;
  /** The mms with VMAs of this family. */
  readonly mms: Cell<readonly Mm[]>;

  /** `name` must not depend on the interleaving; it gives the id by which folios point here. */
  constructor(sim: Sim, name: string) {
    this.name = name;
    this.identity = mix(hashText(name), 0x61766d61);
    this.id = (this.identity & 0x7ffffffe) + 1;
    this.lock = new RwSem(sim, `anon_vma lock of ${name}`);
    this.mms = new Cell<readonly Mm[]>(sim, `anon_vma of ${name}`, []);
  }
}
