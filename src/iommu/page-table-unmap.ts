// unmap_pages of the IOMMU drivers: clearing leaves, and what each driver does about holes and parts of large leaves
// (intel/iommu.c intel_iommu_unmap, amd/io_pgtable.c iommu_v1_unmap_pages, io-pgtable-arm.c __arm_lpae_unmap).
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { type IoLeaf, ioLevelOf, ioSpan } from '../hw/io-entry.ts';
import type { IommuDomain } from './domain.ts';
import { dropSubtree, walkData, warn } from './page-table-map.ts';

const UNMAP = step('iommu_unmap:clear-entries', 'iommu-unmap');
const SPLIT = step('arm_lpae_split_blk_unmap', 'iommu-unmap');

const TOP = 3;

/** What an unmap call did. `from`..`from + pages` is what the driver reports; leaves may reach beyond it. */
export interface Unmapped {
  /** Pages that count as unmapped from the IOVA given. */
  readonly pages: number;
}

/** Something to clear: small leaves over consecutive frames, a large leaf, or a table with all that hangs below it. */
type Piece = { readonly page: number; readonly pages: number } & (
  | { readonly kind: 'run'; readonly pfn: number }
  | { readonly kind: 'leaf'; readonly leaf: IoLeaf }
  | { readonly kind: 'table'; readonly level: number }
);

/** ops->unmap_pages over [page, page + pages). */
export function* unmapPages(domain: IommuDomain, page: number, pages: number): Steps<Unmapped> {
  if (page >= domain.endPage) return { pages: 0 };
  const { driver } = domain;
  const first = domain.table.peekLeaf(page);
  if (first === undefined) {
    if (driver.hole === 'stops') return { pages: 0 };
    if (driver.hole === 'refuses') {
      warn(domain, page, 'unmaps where nothing is mapped');
      return { pages: 0 };
    }
    if (driver.hole === 'page' && tableMissing(domain, page)) return { pages: 0 };
  } else if (first.page < page) return yield* call(unmapMiddle(domain, first, page, pages));
  let length = pages;
  if (driver.hole === 'span') length = Math.max(pages, entrySpan(domain, page));
  if (first !== undefined && first.pages > length) {
    if (driver.leafHead === 'split') return yield* call(splitLeaf(domain, first, page, pages));
    length = first.pages;
  }
  return yield* call(clearRange(domain, page, length));
}

/** Is a table above the 4 KiB entry of `page` missing? */
function tableMissing(domain: IommuDomain, page: number): boolean {
  for (let level = TOP; level > 0; level--) if (domain.table.peekEntryKind(page, level) === 'none') return true;
  return false;
}

/** Pages that the entry at which a walk for `page` ends spans. */
function entrySpan(domain: IommuDomain, page: number): number {
  for (let level = TOP; level > 0; level--) {
    if (domain.table.peekEntryKind(page, level) !== 'table') return ioSpan(level);
  }
  return 1;
}

/** The range starts inside a large leaf. */
function* unmapMiddle(domain: IommuDomain, leaf: IoLeaf, page: number, pages: number): Steps<Unmapped> {
  const { driver, table } = domain;
  switch (driver.leafMiddle) {
    case 'refuses':
      return { pages: 0 };
    case 'split':
      return yield* call(splitLeaf(domain, leaf, page, pages));
    case 'whole': {
      yield* call(clearPieces(domain, [{ kind: 'leaf', page: leaf.page, pages: leaf.pages, leaf }]));
      const rest = leaf.page + leaf.pages - page;
      if (rest >= pages) return { pages: leaf.pages };
      const more = yield* call(unmapPages(domain, page + rest, pages - rest));
      return { pages: leaf.pages + more.pages };
    }
    case 'walks-data': {
      const end = leaf.page + leaf.pages;
      table.frames.content.willWrite(leaf.pfn, UNMAP);
      yield table.willChange(page, end - page, UNMAP);
      warn(
        domain,
        page,
        `unmaps part of the leaf of ${leaf.pages} pages at pfn ${leaf.pfn}: the page is walked as a table`,
      );
      walkData(domain, leaf);
      const length = Math.max(pages, leaf.pages);
      // The size counts from the IOVA given, so that what lies behind the leaf goes too.
      if (page + length > end) yield* call(clearRange(domain, end, page + length - end));
      return { pages: length };
    }
  }
}

/** Replace a leaf by a table of smaller ones, without the pages unmapped (GFP_ATOMIC: may fail, then 0). */
function* splitLeaf(domain: IommuDomain, leaf: IoLeaf, page: number, pages: number): Steps<Unmapped> {
  const { table, core } = domain;
  if (domain.driver.name === 'smmu' && !core.kernel.has('iommu.smmu-splits-blocks')) {
    warn(domain, page, 'unmaps part of a block mapping');
    return { pages: 0 };
  }
  const level = ioLevelOf(leaf.order);
  const gone = Math.min(pages, leaf.page + leaf.pages - page);
  table.willChange(leaf.page, leaf.pages, SPLIT);
  yield table.willCount(leaf.pfn, leaf.pages, SPLIT);
  const small = (level - 1) * 9;
  table.clearLeaf(leaf);
  table.setTable(leaf.page, level);
  for (let at = leaf.page; at < leaf.page + leaf.pages; at += 2 ** small) {
    if (at >= page && at < page + gone) continue;
    table.setLeaf(at, small, leaf.pfn + (at - leaf.page), leaf.prot);
  }
  return { pages: gone };
}

/** Clear everything in [page, page + pages), where no leaf reaches in from before. */
function* clearRange(domain: IommuDomain, page: number, pages: number): Steps<Unmapped> {
  const { hole, leafMiddle } = domain.driver;
  const { stepPages } = domain.core.params;
  let end = page + pages;
  for (let at = page; at < end; ) {
    const pieces: Piece[] = [];
    let covered = 0;
    while (at < end && covered < stepPages) {
      const piece = pieceAt(domain, at, end, stepPages - covered);
      if (piece === undefined) {
        if (hole === 'refuses' || hole === 'stops' || (hole === 'page' && tableMissing(domain, at))) end = at;
        else at += domain.table.peekRun(at, end - at).pages;
        continue;
      }
      if (piece.page + piece.pages > end && leafMiddle === 'walks-data') {
        yield* call(clearPieces(domain, pieces));
        yield* call(walkTail(domain, at));
        return { pages };
      }
      pieces.push(piece);
      covered += piece.pages;
      at = piece.page + piece.pages;
    }
    yield* call(clearPieces(domain, pieces));
    end = Math.max(end, at);
  }
  return { pages: end - page };
}

/** The range ends inside a large leaf, which VT-d walks as a table. */
function* walkTail(domain: IommuDomain, page: number): Steps<void> {
  const { table } = domain;
  const leaf = table.peekLeaf(page)!;
  table.frames.content.willWrite(leaf.pfn, UNMAP);
  yield table.willWalk(page, UNMAP);
  warn(domain, page, `unmaps part of the leaf of ${leaf.pages} pages: the page is walked as a table`);
  walkData(domain, leaf);
}

/** What one write can clear at `at`: the largest table that lies whole in [at, end), small leaves, or a large leaf. */
function pieceAt(domain: IommuDomain, at: number, end: number, most: number): Piece | undefined {
  const { table, driver } = domain;
  for (let level = TOP; level > 0; level--) {
    const kind = table.peekEntryKind(at, level);
    if (kind === 'none') return undefined;
    if (kind === 'leaf') break;
    const span = ioSpan(level);
    if (driver.dropsTables && at % span === 0 && at + span <= end)
      return { kind: 'table', page: at, pages: span, level };
  }
  const run = table.peekSmallRun(at, Math.min(most, end - at));
  if (run !== undefined) return { kind: 'run', page: at, ...run };
  const leaf = table.peekLeaf(at);
  return leaf === undefined ? undefined : { kind: 'leaf', page: leaf.page, pages: leaf.pages, leaf };
}

function* clearPieces(domain: IommuDomain, pieces: readonly Piece[]): Steps<void> {
  const first = pieces[0];
  if (first === undefined) return;
  const { table, core } = domain;
  const last = pieces[pieces.length - 1]!;
  const pages = last.page + last.pages - first.page;
  // type1 unmaps runs of consecutive frames: one look then serves all pieces.
  const whole = table.peekRun(first.page, pages);
  const consecutive = whole.pfn >= 0 && whole.pages === pages;
  if (consecutive) table.willCount(whole.pfn, pages, UNMAP);
  else table.willUncount(first.page, pages, UNMAP);
  table.willChange(first.page, pages, UNMAP);
  // One unit per entry that is written: a table goes with one.
  const entries = pieces.reduce((sum, piece) => sum + (piece.kind === 'run' ? piece.pages : 1), 0);
  yield core.sim.local(UNMAP, entries);
  for (const piece of pieces) {
    if (piece.kind === 'run') table.clearSmallRun(piece.page, piece.pages, piece.pfn);
    else if (piece.kind === 'leaf') table.clearLeaf(piece.leaf);
    else {
      const small = consecutive && piece.level === 1 && table.peekSmallRun(piece.page, 512)?.pages === 512;
      dropSubtree(domain, piece.page, piece.level, small ? whole.pfn + (piece.page - first.page) : undefined);
    }
  }
}
