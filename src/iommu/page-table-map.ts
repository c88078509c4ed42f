// map_pages of the IOMMU drivers: writing leaves, and what each driver does where something lives already
// (intel/iommu.c __domain_mapping, amd/io_pgtable.c, io-pgtable-arm.c). Table pages that a large leaf replaces are
// freed at once: nothing in the model caches pointers to them. AMD: a map over part of a repeated leaf drops all of it.
import { call, type Steps } from '../engine/process.ts';
import { type Step, step } from '../engine/step.ts';
import { type IoLeaf, ioLevelOf, ioSpan } from '../hw/io-entry.ts';
import type { Errno } from '../mm/errno.ts';
import type { IommuDomain } from './domain.ts';
import { IOMMU_WARNING } from './events.ts';
import { invalidateTags } from './invalidate.ts';

const MAP = step('iommu_map:write-entries', 'iommu-map');

/** Levels of tables; the highest entries are at level 3. */
const TOP = 3;
const TABLE_PAGES = 512;

export interface MapPages {
  readonly page: number;
  readonly pfn: number;
  readonly order: number;
  /** Leaves of 2^order pages. */
  readonly count: number;
  /** IO_READ | IO_WRITE as asked for. */
  readonly prot: number;
  /** Generation of the frames when they were looked up, where nothing has kept them since. */
  readonly generation: number | undefined;
}

export interface Mapped {
  readonly pages: number;
  readonly errno: Errno | null;
}

/** ops->map_pages. What was mapped counts also on error. */
export function* mapPages(domain: IommuDomain, request: MapPages): Steps<Mapped> {
  const { core, driver } = domain;
  const { order } = request;
  const size = 2 ** order;
  const prot = driver.protection(request.prot);
  if (typeof prot === 'string') return { pages: 0, errno: prot };
  if (request.page + request.count * size > domain.endPage) return { pages: 0, errno: driver.beyondWidth };
  const perStep = Math.max(1, Math.floor(core.params.stepPages / size));
  const end = request.page + request.count * size;
  for (let page = request.page; page < end; ) {
    const leaves = Math.min(perStep, (end - page) / size);
    const pfn = request.pfn + (page - request.page);
    willMap(domain, page, pfn, leaves * size, MAP);
    yield core.sim.local(MAP, leaves);
    const done = writeLeaves(domain, { ...request, page, pfn, count: leaves, prot });
    page += done.pages;
    if (done.flush) yield* call(invalidateTags(domain, page - done.pages, page));
    if (done.errno !== null) return { pages: page - request.page, errno: done.errno };
  }
  return { pages: end - request.page, errno: null };
}

function willMap(domain: IommuDomain, page: number, pfn: number, pages: number, at: Step): void {
  const { table } = domain;
  table.willChange(page, pages, at);
  if (domain.tablePages !== Number.POSITIVE_INFINITY) table.tables.willRead(at);
  table.willCount(pfn, pages, at);
  // What lives there already may be overwritten.
  for (const leaf of table.peekLeaves(page, pages)) {
    table.willCount(leaf.pfn, leaf.pages, at);
    if (domain.driver.belowLargeLeaf === 'walks-data') table.frames.content.willWrite(leaf.pfn, at);
  }
}

interface Written extends Mapped {
  /** The driver flushes the range before it goes on. */
  readonly flush: boolean;
}

function writeLeaves(domain: IommuDomain, request: MapPages): Written {
  const { table } = domain;
  const size = 2 ** request.order;
  const end = request.page + request.count * size;
  let flush = false;
  for (let page = request.page; page < end; ) {
    const pfn = request.pfn + (page - request.page);
    const errno = makeTables(domain, page, ioLevelOf(request.order));
    if (errno === 'walked') {
      page += size;
      continue;
    }
    if (errno !== null) return { pages: page - request.page, errno, flush };
    if (request.order === 0) {
      const pages = Math.min(end - page, TABLE_PAGES - (page % TABLE_PAGES));
      if (table.emptyBelow(page, pages)) {
        table.setSmallRun(page, pages, pfn, request.prot, request.generation);
        page += pages;
        continue;
      }
    }
    const taken = makeRoom(domain, page, request.order);
    if (taken.errno !== null) return { pages: page - request.page, errno: taken.errno, flush };
    flush ||= taken.flush;
    if (taken.free) table.setLeaf(page, request.order, pfn, request.prot, request.generation);
    page += size;
  }
  return { pages: end - request.page, errno: null, flush };
}

/** Allocate the tables above `level` for `page`. `walked`: the driver took a data page for a table. */
function makeTables(domain: IommuDomain, page: number, level: number): Errno | 'walked' | null {
  const { table, driver } = domain;
  for (let above = TOP; above > level; above--) {
    const entry = table.entry(page, above);
    if (entry.kind === 'table') continue;
    if (entry.kind === 'leaf') {
      warn(domain, page, `maps a small page below the leaf of ${entry.leaf.pages} pages at pfn ${entry.leaf.pfn}`);
      if (driver.belowLargeLeaf === 'walks-data') {
        walkData(domain, entry.leaf);
        return 'walked';
      }
      if (driver.belowLargeLeaf !== 'replaces-leaf') return driver.belowLargeLeaf;
      table.clearLeaf(entry.leaf);
    }
    if (domain.tablePages !== Number.POSITIVE_INFINITY && table.tables.value >= domain.tablePages) return 'ENOMEM';
    table.setTable(page, above);
  }
  return null;
}

/** Deal with what lives where a leaf of 2^order pages is to go. */
function makeRoom(
  domain: IommuDomain,
  page: number,
  order: number,
): { readonly free: boolean; readonly flush: boolean; readonly errno: Errno | null } {
  const { table, driver } = domain;
  const level = ioLevelOf(order);
  let flush = false;
  for (let at = page; at < page + 2 ** order; at += ioSpan(level)) {
    const entry = table.entry(at, level);
    if (entry.kind === 'none') continue;
    if (entry.kind === 'table') {
      if (driver.overTable === 'if-empty' && table.peekLeaves(at, ioSpan(level)).next().done !== true) {
        return { free: false, flush, errno: 'EADDRINUSE' };
      }
      dropSubtree(domain, at, level);
      flush = true;
      continue;
    }
    if (driver.warns) warn(domain, at, `maps over the live leaf of pfn ${entry.leaf.pfn}`);
    if (driver.overLeaf === 'keep-old') return { free: false, flush, errno: null };
    if (driver.overLeaf !== 'overwrite') return { free: false, flush, errno: driver.overLeaf };
    table.clearLeaf(entry.leaf);
  }
  return { free: true, flush, errno: null };
}

/**
 * Take away the table below the entry of `level` with everything under it; in a step that announced the range. `pfn`:
 * the frame behind `page`, when the whole span is small leaves over consecutive frames.
 */
export function dropSubtree(domain: IommuDomain, page: number, level: number, pfn?: number): void {
  const { table } = domain;
  if (level === 1) table.clearTable(page, pfn);
  else {
    const below = ioSpan(level - 1);
    for (let at = page; at < page + ioSpan(level); at += below) {
      const entry = table.entry(at, level - 1);
      if (entry.kind === 'table') dropSubtree(domain, at, level - 1);
      else if (entry.kind === 'leaf') table.clearLeaf(entry.leaf);
    }
  }
  table.dropTable(page, level);
}

/**
 * The driver descends into a large leaf as if its first frame were a table: whatever in that page looks like an entry
 * is overwritten. Derived from the source (no guard in pfn_to_dma_pte and dma_pte_clear_level); nobody reported it.
 */
export function walkData(domain: IommuDomain, leaf: IoLeaf): void {
  const { frames } = domain.table;
  frames.content.set(leaf.pfn, frames.tokens.of('IO page-table entries'));
}

export function warn(domain: IommuDomain, page: number, what: string): void {
  const { sim } = domain.core;
  if (sim.hears(IOMMU_WARNING)) sim.emit(IOMMU_WARNING, { domain: domain.name, page, what });
}
