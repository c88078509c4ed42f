// What the hardware knows of each frame: its contents, its generation (advanced whenever it is freed or changes owner),
// and how many cached translations (TLB, stage-2, IO page table, IOTLB) lead to it.
import { Column } from '../engine/column.ts';
import { eventType } from '../engine/event.ts';
import type { Sim } from '../engine/sim.ts';
import type { Announced, Step } from '../engine/step.ts';
import { type Machine, PMD_PAGES } from './machine.ts';
import { Tokens, ZERO_TOKEN } from './token.ts';

/** How an access reached a frame. */
export type TranslationKind = 'pte' | 'tlb' | 'stage2' | 'guest-tlb' | 'io-pte' | 'iotlb' | 'pin' | 'kernel';

/** A CPU, guest or device read or wrote a frame through some translation. Checkers judge it. */
export interface FrameAccess {
  readonly pfn: number;
  readonly write: boolean;
  /** Generation the translation was made for. */
  readonly madeFor: number;
  /** Generation of the frame now. */
  readonly generation: number;
  readonly through: TranslationKind;
  /** Whose translation: mm, VM or IOMMU domain. */
  readonly holder: string;
  /** Address in the holder's terms, in pages. */
  readonly page: number;
  /** Whose address space `page` is in, when it is not the holder's own: the IOMMU domain of a device. */
  readonly space?: string;
  /** Name of the page table walked, when it is not the holder's. */
  readonly table?: string;
  readonly token: number;
  /** It is not the content that is read or written, but the page's dirty flag that is set. */
  readonly marksDirty?: true;
}
export const FRAME_ACCESS = eventType<FrameAccess>('frame-access');

/** What holds translations to frames: the page table of a VM or of an IOMMU, or the kernel's mapping of one page. */
export interface TranslatingTable {
  readonly name: string;
  /** Whose it is, as accesses through it name their holder. */
  readonly owner: string;
  readonly addresses: 'IOVA' | 'gfn';
  /** The frame that `page` leads to now; anything else when it leads nowhere. Looks without a step. */
  leadsTo(page: number): number;
}

/** Pages from `page` on of a table lead to frames from `pfn` on, from now on. */
export interface TranslationMade {
  readonly table: TranslatingTable;
  readonly page: number;
  readonly pfn: number;
  readonly pages: number;
}
export const TRANSLATION_MADE = eventType<TranslationMade>('translation-made');

/** A frame went back to the allocator, or changed owner. */
export interface FrameReleased {
  readonly pfn: number;
  readonly pages: number;
  /** Translations that still lead to it (to the first of them that has any). */
  readonly translations: number;
  readonly why: string;
}
export const FRAME_RELEASED = eventType<FrameReleased>('frame-released');

export class Frames {
  readonly sim: Sim;
  readonly machine: Machine;
  /** Token of the frame's contents. */
  readonly content: Column;
  /** What the tokens of this world stand for, in frames, files and swap alike. */
  readonly tokens = new Tokens();
  /** Cached translations per folio head: commuting adds; the step that frees a frame reads it. */
  readonly translations: Column;
  private readonly generation: Column;
  private readonly blockGeneration: Column;

  constructor(sim: Sim, machine: Machine) {
    this.sim = sim;
    this.machine = machine;
    const rows = machine.frames;
    const named = (what: string) => ({ rows, rowName: (pfn: number) => `${what} of pfn ${pfn}` });
    this.content = new Column(sim, 'frame.content', {
      ...named('content'),
      width: 'f64',
      valueText: (token) => this.tokens.text(token),
    });
    this.translations = new Column(sim, 'frame.translations', named('translations'));
    this.generation = new Column(sim, 'frame.generation', named('generation'));
    this.blockGeneration = new Column(sim, 'frame.block-generation', { rows: Math.ceil(rows / PMD_PAGES) });
  }

  /** Generation of a frame: the advances of the frame alone plus those of its 2 MiB block. */
  generationOf(pfn: number): number {
    return this.generation.get(pfn) + this.blockGeneration.peek(Math.floor(pfn / PMD_PAGES));
  }

  peekGeneration(pfn: number): number {
    return this.generation.peek(pfn) + this.blockGeneration.peek(Math.floor(pfn / PMD_PAGES));
  }

  /** The last frame of first..last up to which all have the generation of `first`. Looks without a step. */
  endOfGeneration(first: number, last: number): number {
    const block = Math.floor(first / PMD_PAGES);
    const end = Math.min(last, (block + 1) * PMD_PAGES - 1);
    return this.generation.endOfRun(first, end);
  }

  /** Announce reading the generation (an access through a translation). */
  willCheck(pfn: number, at: Step): Announced {
    return this.generation.willRead(pfn, at);
  }

  /** Announce that 2^order frames from `pfn` will be freed or change owner. */
  willRelease(pfn: number, order: number, at: Step): Announced {
    const last = pfn + 2 ** order - 1;
    this.translations.willPerhapsRange(pfn, last, at);
    return this.generation.willPerhapsRange(pfn, last, at);
  }

  /** Advance the generation of 2^order frames, in a step announced by `willRelease`. */
  release(pfn: number, order: number, why: string): void {
    const sim = this.sim;
    if (sim.watching) {
      sim.noteWrite(this.generation.base + pfn);
      sim.noteRead(this.translations.base + pfn);
    }
    if (order >= 9) {
      // One write covers the block: every frame of it is announced through the range.
      for (let block = pfn / PMD_PAGES; block < (pfn + 2 ** order) / PMD_PAGES; block++) {
        sim.unwatched(() => this.blockGeneration.set(block, this.blockGeneration.peek(block) + 1));
      }
    } else {
      const last = pfn + 2 ** order - 1;
      for (let row = pfn; row <= last; row++) this.generation.set(row, this.generation.peek(row) + 1);
    }
    if (sim.hears(FRAME_RELEASED)) {
      sim.emit(FRAME_RELEASED, { pfn, pages: 2 ** order, translations: this.translations.peek(pfn), why });
    }
  }

  /** As `willRelease`, for a run of single frames. */
  willReleaseRange(first: number, pages: number, at: Step): Announced {
    this.translations.willReadRange(first, first + pages - 1, at);
    return this.generation.willUpdateRange(first, first + pages - 1, at);
  }

  /** Advance the generations of a run of single frames. */
  releaseRun(first: number, pages: number, why: string): void {
    this.generation.addRange(first, first + pages - 1, 1);
    if (!this.sim.hears(FRAME_RELEASED)) return;
    let translations = 0;
    for (let pfn = first; pfn < first + pages && translations === 0; pfn++) translations = this.translations.peek(pfn);
    this.sim.emit(FRAME_RELEASED, { pfn: first, pages, translations, why });
  }

  /** Zero the contents of a run of frames (clear_page). */
  clear(pfn: number, pages: number): void {
    this.content.fill(pfn, pfn + pages - 1, ZERO_TOKEN);
  }

  /** Copy contents frame by frame (copy_page). */
  copy(from: number, to: number, pages: number): void {
    for (let i = 0; i < pages; i++) this.content.set(to + i, this.content.get(from + i));
  }
}
