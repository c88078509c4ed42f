// Counting translations: every cached translation of a frame counts on the head of the folio that holds it, so that the
// step which frees the folio sees whether anything still leads there.
import type { Frames } from './frames.ts';
import { PMD_PAGES } from './machine.ts';

/** Which folio a frame belongs to; translations are counted on its head. */
export interface FolioHeads {
  headOf(pfn: number): number;
  pagesOf(head: number): number;
}

/** Add `by` per page to `translations` of the folio heads of a run. */
export function countTranslations(frames: Frames, heads: FolioHeads, pfn: number, pages: number, by: 1 | -1): void {
  const { translations } = frames;
  const end = pfn + pages;
  for (let at = pfn; at < end; ) {
    const head = heads.headOf(at);
    const size = heads.pagesOf(head);
    if (size > 1) {
      const upTo = Math.min(end, head + size);
      translations.add(head, by * (upTo - at));
      at = upTo;
      continue;
    }
    // A 2 MiB block holds one large folio or small pages only.
    const upTo = Math.min(end, at - (at % PMD_PAGES) + PMD_PAGES);
    if (translations.bulk) translations.addRange(at, upTo - 1, by);
    else for (let row = at; row < upTo; row++) translations.add(row, by);
    at = upTo;
  }
}
