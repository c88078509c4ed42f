// Memory laid out by hand while a world is built: areas, anonymous and shared pages, huge pages, pins. For tests that
// look at one mechanism without the faults and pins that would lead there.
import { PMD_PAGES } from '../../src/hw/machine.ts';
import { takeRun } from '../../src/mm/alloc/free-runs.ts';
import type { CoreMm } from '../../src/mm/core.ts';
import { addNewAnonNow } from '../../src/mm/fault/anon-page.ts';
import { Inode, type InodeOptions } from '../../src/mm/file/inode.ts';
import { Vma, type VmaFields } from '../../src/mm/mapping/vma.ts';
import type { Mm } from '../../src/mm/mm.ts';
import {
  PG_ANON,
  PG_DIRTY,
  PG_HUGETLB,
  PG_LRU,
  PG_PRIVATE,
  PG_SWAPBACKED,
  PG_UPTODATE,
} from '../../src/mm/page-flags.ts';
import { pmdOf } from '../../src/mm/page-table.ts';
import type { Task } from '../../src/mm/process/task.ts';
import { PMD_LEAF, PMD_TABLE, PTE_DIRTY, PTE_PRESENT, PTE_WRITE, PTE_YOUNG } from '../../src/mm/pte.ts';
import { AnonVma } from '../../src/mm/rmap/anon-vma.ts';
import { tokenOf } from './tokens.ts';
import type { TestWorld } from './world.ts';

export function mmOf(task: Task): Mm {
  const mm = task.mm.peek();
  if (mm === null) throw new Error(`${task.name} has no address space`);
  return mm;
}

/** A private anonymous area with its anon_vma. */
export function anonArea(
  world: TestWorld,
  task: Task,
  start: number,
  pages: number,
  fields: Partial<VmaFields> = {},
): Vma {
  const mm = mmOf(task);
  const name = fields.name ?? `anon@${start}`;
  const anonVma = world.core.addAnonVma(new AnonVma(world.sim, `${mm.name}/${name}`));
  anonVma.mms.value = [mm];
  const vma = new Vma({ start, end: start + pages, pgoff: start, anonVma, ...fields, name });
  mm.vmas.set(start, vma);
  return vma;
}

export function makeInode(world: TestWorld, options: Partial<InodeOptions> & Pick<InodeOptions, 'kind'>): Inode {
  return world.core.addInode(new Inode(world.sim, { name: options.kind, sizePages: 64, ...options }));
}

/** A shared mapping of an inode. */
export function sharedArea(
  task: Task,
  inode: Inode,
  start: number,
  pages: number,
  fields: Partial<VmaFields> = {},
): Vma {
  const mm = mmOf(task);
  const vma = new Vma({ start, end: start + pages, pgoff: 0, shared: true, file: inode, name: inode.name, ...fields });
  mm.vmas.set(start, vma);
  if (!inode.mms.value.includes(mm)) inode.mms.value = [...inode.mms.value, mm];
  return vma;
}

export interface PageOptions {
  /** Index of the zone; default the first. */
  readonly zone?: number;
  readonly content?: string;
  readonly young?: boolean;
  readonly dirty?: boolean;
  /** Further page flags. */
  readonly flags?: number;
}

function takeFrames(core: CoreMm, zone: number, pages: number): number {
  const run = takeRun(core.zones[zone]!, pages, pages);
  if (run === undefined) throw new Error(`no ${pages} free frames in zone ${zone}`);
  return run[0];
}

function onList(core: CoreMm, head: number, flags: number): void {
  core.folios.change(head, PG_LRU | PG_UPTODATE | flags);
  core.lru.add(1);
}

function entryBits(options: PageOptions): number {
  return PTE_PRESENT | (options.young === true ? PTE_YOUNG : 0) | (options.dirty === false ? 0 : PTE_DIRTY);
}

function table(mm: Mm, vpn: number): void {
  const row = pmdOf(vpn);
  if (mm.pageTable.peekPmd(row).bits === 0) mm.pageTable.setPmd(row, 1, PMD_TABLE, 0);
}

/** A page of an anonymous area, exclusive and mapped writable. Returns its frame. */
export function anonPage(world: TestWorld, task: Task, vma: Vma, vpn: number, options: PageOptions = {}): number {
  const { core } = world;
  const { folios, frames } = core;
  const mm = mmOf(task);
  const pfn = takeFrames(core, options.zone ?? 0, 1);
  folios.refcount.set(pfn, 1);
  addNewAnonNow(core, vma, vpn, pfn);
  onList(core, pfn, options.flags ?? 0);
  if (options.content !== undefined) frames.content.set(pfn, tokenOf(options.content));
  table(mm, vpn);
  mm.pageTable.setPte(vpn, pfn, entryBits(options) | (vma.fields.write ? PTE_WRITE : 0), frames.peekGeneration(pfn));
  return pfn;
}

/** A 2 MiB page of an anonymous area, mapped by its PMD. */
export function hugePage(world: TestWorld, task: Task, vma: Vma, vpn: number, options: PageOptions = {}): number {
  const { core } = world;
  const { folios, frames } = core;
  const mm = mmOf(task);
  const head = takeFrames(core, options.zone ?? 0, PMD_PAGES);
  folios.order.set(head, 9);
  folios.refcount.set(head, 1);
  folios.mapping.set(head, vma.fields.anonVma!.id);
  folios.index.set(head, vma.indexOf(vpn));
  folios.anonExclusive.set(head, core.kernel.has('cow.anon-exclusive') ? 1 : 0);
  folios.addPmdMapping(head, 1);
  onList(core, head, PG_ANON | PG_SWAPBACKED | (options.flags ?? 0));
  if (options.content !== undefined) frames.content.fill(head, head + PMD_PAGES - 1, tokenOf(options.content));
  mm.pageTable.setPmd(pmdOf(vpn), head, PMD_LEAF | PTE_WRITE | entryBits(options), frames.peekGeneration(head));
  return head;
}

/** A page of an inode in its page cache, mapped at `vpn` of every given task. */
export function cachedPage(
  world: TestWorld,
  inode: Inode,
  index: number,
  mappings: readonly (readonly [Task, number])[],
  options: PageOptions = {},
): number {
  const { core } = world;
  const { folios, frames } = core;
  const pfn = takeFrames(core, options.zone ?? 0, 1);
  const priv = inode.kind === 'file' ? PG_PRIVATE : 0;
  folios.refcount.set(pfn, 1 + (priv !== 0 ? 1 : 0) + mappings.length);
  folios.mapping.set(pfn, inode.id);
  folios.index.set(pfn, index);
  inode.pages.set(index, pfn + 1);
  onList(core, pfn, priv | (inode.swapBacked ? PG_SWAPBACKED : 0) | (options.flags ?? 0));
  if (options.content !== undefined) frames.content.set(pfn, tokenOf(options.content));
  for (const [task, vpn] of mappings) {
    const mm = mmOf(task);
    table(mm, vpn);
    folios.addPteMapping(pfn, pfn);
    // A filesystem with dirty tracking maps a clean page read-only.
    const write = inode.dirtyTracking && options.dirty === false ? 0 : PTE_WRITE;
    mm.pageTable.setPte(vpn, pfn, entryBits(options) | write, frames.peekGeneration(pfn));
  }
  return pfn;
}

/** FOLL_PIN by hand. */
export function pinByHand(core: CoreMm, pfn: number): void {
  const { folios } = core;
  const head = folios.headOf(pfn);
  const large = folios.isLarge(head);
  folios.refcount.set(head, folios.refcount.peek(head) + (large ? 1 : 1024));
  if (large) folios.pincount.set(head, folios.pincount.peek(head) + 1);
}

/** FOLL_GET by hand. */
export function getByHand(core: CoreMm, pfn: number): void {
  const head = core.folios.headOf(pfn);
  core.folios.refcount.set(head, core.folios.refcount.peek(head) + 1);
}

export { PG_DIRTY, PG_HUGETLB };
