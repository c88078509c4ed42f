// A task with a mapped ext4 file, a pin taken by hand and a device that writes through it: for tests of writeback.
import { call, type Steps } from '../../src/engine/process.ts';
import { step } from '../../src/engine/step.ts';
import { FRAME_ACCESS } from '../../src/hw/frames.ts';
import { cpuAccess } from '../../src/mm/fault/access.ts';
import { Inode, type InodeOptions } from '../../src/mm/file/inode.ts';
import { SuperBlock } from '../../src/mm/file/super-block.ts';
import { GUP_PIN_COUNTING_BIAS } from '../../src/mm/folio.ts';
import { unpinUserPages } from '../../src/mm/gup/unpin.ts';
import type { Vma, VmaFields } from '../../src/mm/mapping/vma.ts';
import type { Mm } from '../../src/mm/mm.ts';
import { flagNames } from '../../src/mm/page-flags.ts';
import type { Task } from '../../src/mm/process/task.ts';
import { placeVma } from './memory.ts';
import { makeTask, makeWorld, run, type TestWorld, type WorldOptions } from './world.ts';

const PIN = step('test:pin', 'op');
const DMA_WRITE = step('device:write', 'dma');

export const BASE = 0x1000;

export interface FileBench extends TestWorld {
  readonly task: Task;
  readonly mm: Mm;
  /** The filesystem that the file is on. */
  readonly superBlock: SuperBlock;
  readonly file: Inode;
  readonly vma: Vma;
}

/** A file of `pages` pages (ext4 unless told), mapped shared and writable at BASE. */
export function fileBench(
  options: WorldOptions & { file?: Partial<InodeOptions>; vma?: Partial<VmaFields>; pages?: number } = {},
): FileBench {
  const world = makeWorld(options);
  const task = makeTask(world, 'vmm');
  const mm = task.mm.peek()!;
  const pages = options.pages ?? 4;
  const superBlock = new SuperBlock(world.sim, 'filesystem');
  const file = world.core.addInode(
    new Inode(world.sim, { kind: 'file', fs: 'ext4', name: 'f', sizePages: pages, superBlock, ...options.file }),
  );
  const vma = placeVma(mm, BASE, pages, { file, shared: true, pgoff: 0, hugepage: 'never', ...options.vma });
  file.mms.value = [mm];
  return { ...world, task, mm, superBlock, file, vma };
}

export function touch(b: FileBench, page: number, write: number | null): number | string {
  const result = run(b, b.task, () => cpuAccess(b.core, BASE + page, write === null ? null : { token: write }));
  return 'token' in result ? result.token : result.signal;
}

/** The frame behind page `page` of the mapping, or 0. */
export function frameOf(b: FileBench, page = 0): number {
  return b.mm.pageTable.peekFrame(BASE + page);
}

/** The frame that caches page `index` of the file, or -1. */
export function cachedFrame(b: FileBench, index = 0): number {
  return b.file.pages.peek(index) - 1;
}

export function flagsOf(b: FileBench, pfn: number): string[] {
  return flagNames(b.core.folios.flags.peek(pfn));
}

/** What a FOLL_PIN leaves of a small folio. */
export function* pinByHand(b: FileBench, pfn: number): Steps<void> {
  const { refcount } = b.core.folios;
  yield refcount.willUpdate(pfn, PIN);
  refcount.set(pfn, refcount.get(pfn) + GUP_PIN_COUNTING_BIAS);
}

export function* unpin(b: FileBench, pfn: number, dirty: boolean): Steps<void> {
  yield* call(unpinUserPages(b.core, [{ pfn, pages: 1 }], { owner: 'device', dirty }));
}

/** The device writes a page: no page table, no flag, no fault. */
export function* dmaWrite(b: FileBench, pfn: number, token: number): Steps<void> {
  const { frames } = b.core;
  frames.willCheck(pfn, DMA_WRITE);
  yield frames.content.willWrite(pfn, DMA_WRITE);
  frames.content.set(pfn, token);
  const generation = frames.generationOf(pfn);
  if (!b.sim.hears(FRAME_ACCESS)) return;
  b.sim.emit(FRAME_ACCESS, {
    pfn,
    write: true,
    madeFor: generation,
    generation,
    through: 'iotlb',
    holder: 'device',
    page: 0,
    token,
  });
}
