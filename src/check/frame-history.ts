// Who made the translations of frames, and who freed frames: what a finding about a stale one has to name, however long
// ago it was. Kept only where stories are told; the newest few ten thousand of each.
import type { Sim, Undoable } from '../engine/sim.ts';
import {
  FRAME_RELEASED,
  type Frames,
  TRANSLATION_MADE,
  type TranslatingTable,
  type TranslationMade,
} from '../hw/frames.ts';
import type { Moment, StepLog } from './step-log.ts';

const KEPT_MAKINGS = 1 << 16;
const KEPT_FREES = 1 << 14;

/** An entry of a second-stage or IO page table, or a kernel mapping: where it stands and how it came. */
export interface Making {
  readonly table: TranslatingTable;
  readonly page: number;
  readonly moment: Moment;
}

export interface Freeing {
  readonly why: string;
  readonly moment: Moment;
}

interface Note<T> {
  readonly pfn: number;
  readonly pages: number;
  readonly what: T;
}

/** The newest notes, oldest overwritten first. Rewound with the world. */
class Notes<T> implements Undoable {
  private readonly sim: Sim;
  private readonly kept: number;
  private readonly ring: Note<T>[] = [];
  private total = 0;

  constructor(sim: Sim, kept: number) {
    this.sim = sim;
    this.kept = kept;
  }

  add(pfn: number, pages: number, what: T): void {
    if (this.sim.journaled) this.sim.journal(this, 0, this.total);
    this.ring[this.total++ % this.kept] = { pfn, pages, what };
  }

  undo(_row: number, old: unknown): void {
    this.total = old as number;
  }

  /** Those about any of `pages` frames from `pfn`, newest first. */
  *about(pfn: number, pages: number): Generator<Note<T>> {
    for (let i = this.total - 1; i >= Math.max(0, this.total - this.kept); i--) {
      const note = this.ring[i % this.kept]!;
      if (note.pfn < pfn + pages && note.pfn + note.pages > pfn) yield note;
    }
  }
}

export class FrameHistory {
  private readonly frames: Frames;
  private readonly makings: Notes<TranslationMade & { readonly moment: Moment }>;
  private readonly frees: Notes<Freeing & { readonly generation: number }>;

  constructor(sim: Sim, frames: Frames, log: StepLog) {
    this.frames = frames;
    this.makings = new Notes(sim, KEPT_MAKINGS);
    this.frees = new Notes(sim, KEPT_FREES);
    sim.on(TRANSLATION_MADE, (made) => {
      this.makings.add(made.pfn, made.pages, { ...made, moment: log.moment(madeInWords(made)) });
    });
    sim.on(FRAME_RELEASED, ({ pfn, pages, why }) => {
      const moment = log.moment(`frees pfn ${pfn}${pages === 1 ? '' : ` and ${pages - 1} after it`}: ${why}`);
      this.frees.add(pfn, pages, { why, moment, generation: frames.peekGeneration(pfn) });
    });
  }

  /** The newest translation of `page` in that table that led to the frame. */
  making(pfn: number, table: string, page: number): Making | undefined {
    for (const { what } of this.makings.about(pfn, 1)) {
      const { table: made, page: first } = what;
      if (made.name !== table && made.owner !== table) continue;
      if (first + (pfn - what.pfn) === page) return { table: made, page, moment: what.moment };
    }
    return undefined;
  }

  /** Translations that still lead to any of the frames, newest first, at most `most`. */
  leading(pfn: number, pages: number, most: number): readonly Making[] {
    const found: Making[] = [];
    for (const { what } of this.makings.about(pfn, pages)) {
      if (found.length === most) break;
      const at = Math.max(pfn, what.pfn);
      const page = what.page + (at - what.pfn);
      const known = found.some((other) => other.table === what.table && other.page === page);
      if (!known && what.table.leadsTo(page) === at) found.push({ table: what.table, page, moment: what.moment });
    }
    return found;
  }

  /** Who ended generation `madeFor` of the frame. */
  freeing(pfn: number, madeFor: number): Freeing | undefined {
    let newest: Freeing | undefined;
    for (const { what, pfn: first } of this.frees.about(pfn, 1)) {
      newest ??= what;
      // A run is freed as a whole; its frames may have had different generations before.
      const generation = what.generation + this.frames.peekGeneration(pfn) - this.frames.peekGeneration(first);
      if (generation === madeFor + 1) return what;
    }
    return newest;
  }
}

function madeInWords({ table, page, pfn, pages }: TranslationMade): string {
  const to = pages === 1 ? `pfn ${pfn}` : `${pages} frames from pfn ${pfn}`;
  return `${table.name} maps ${addressIn(table, page)} to ${to}`;
}

/** `IOVA 0x1000`, `gfn 16`. */
export function addressIn(table: TranslatingTable, page: number): string {
  return table.addresses === 'gfn' ? `gfn ${page}` : `${table.addresses} 0x${(page * 4096).toString(16)}`;
}
