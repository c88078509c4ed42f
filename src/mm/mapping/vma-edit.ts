// Changing the VMA tree (mm/vma.c, mm/mmap.c: __split_vma, vma_merge, vma_link, remove_vma). mmap_lock is held for
// write. Where a change moves the borders of what rmap walks see, the locks of the file and the anon_vma are held too.
import { call, type Steps } from '../../engine/process.ts';
import type { RwSem } from '../../engine/rwsem.ts';
import { type Step, step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';
import { iput } from '../file/iput.ts';
import type { Mm } from '../mm.ts';
import { pmdOf } from '../page-table.ts';
import type { AnonVma } from '../rmap/anon-vma.ts';
import { splitHugePmdAddress } from '../thp/huge-pmd.ts';
import type { UffdRegistration, Vma } from './vma.ts';

const SPLIT = step('__split_vma', 'op');
const MERGE = step('vma_merge', 'op');
const LINK = step('vma_link', 'op');
const LINK_FILE = step('vma_link_file', 'op');
const UNLINK = step('unlink_file_vma', 'op');
const UNLINK_ANON = step('unlink_anon_vmas', 'op');
const REPLACE = step('vma_flags_reset', 'op');
const LOOK = step('vma_find', 'none');

/** sysctl_max_map_count */
export const MAX_MAP_COUNT = 65530;

/** The VMAs that overlap [from, to), as one step under mmap_lock. */
export function* findVmas(mm: Mm, from: number, to: number): Steps<readonly Vma[]> {
  yield mm.vmas.willRead(LOOK);
  return mm.vmasIn(from, to);
}

/** The VMA over `vpn`, without a step: the caller holds mmap_lock for write, or for read and wants no anon_vma. */
export function lookVma(mm: Mm, vpn: number): Vma | undefined {
  return mm.sim.unwatched(() => mm.vmaAt(vpn));
}

/** The VMAs that overlap [from, to), without a step: see `lookVma`. */
export function lookVmas(mm: Mm, from: number, to: number): readonly Vma[] {
  return mm.sim.unwatched(() => mm.vmasIn(from, to));
}

/** The locks of the trees that hold this VMA for reverse mapping: i_mmap_rwsem first, as mm/rmap.c orders them. */
export function rmapLocksOf(vma: Vma): readonly RwSem[] {
  const { file, anonVma } = vma.fields;
  return [...(file === null ? [] : [file.iMmapLock]), ...(anonVma === null ? [] : [anonVma.lock])];
}

/** Change the VMA table under rmap locks held for write; the change is merged with the first unlock. */
export function* editVmas(mm: Mm, locks: readonly RwSem[], at: Step, edit: () => void): Steps<void> {
  for (const lock of locks) yield* call(lock.write());
  const [first, ...rest] = locks;
  const announced = mm.vmas.willUpdate(at);
  yield first === undefined ? announced : first.up(at);
  edit();
  for (const lock of rest) yield lock.up();
}

/** vm_ops->may_split of a border at `at`: hugetlb between its pages only, special mappings nowhere. */
export function maySplit({ kernel }: CoreMm, vma: Vma, at: number): boolean {
  if (at <= vma.start || at >= vma.end) return true;
  if (vma.hugetlb) return at % 2 ** vma.fields.file!.hugeOrder === 0;
  return !vma.special || !kernel.has('mmap.special-mapping-stays-whole');
}

/** __split_vma: the VMA over `at` becomes two. Nothing happens when `at` is a border already. */
export function* splitVma(core: CoreMm, mm: Mm, at: number): Steps<void> {
  const vma = lookVma(mm, at);
  if (vma === undefined || vma.start === at) return;
  yield* call(vmaAdjustTransHuge(core, mm, vma, at));
  yield* call(
    editVmas(mm, rmapLocksOf(vma), SPLIT, () => {
      // A fault may have given it its anon_vma before mmap_lock was taken for write; never since.
      mm.vmas.set(vma.start, vma.slice(vma.start, at));
      mm.vmas.set(at, vma.slice(at, vma.end));
    }),
  );
}

/**
 * vma_adjust_trans_huge: no entry may map across the border that is about to be. Since 6.3 with the rmap locks held
 * already, which nobody can tell who comes for them: the memory is the same, mapped by pages.
 */
function* vmaAdjustTransHuge(core: CoreMm, mm: Mm, vma: Vma, at: number): Steps<void> {
  const row = pmdOf(at);
  const first = row * PMD_PAGES;
  if (vma.hugetlb || at === first || vma.start > first || vma.end < first + PMD_PAGES) return;
  yield* call(splitHugePmdAddress(core, mm, vma, row));
}

/** Replace the VMA that starts at `vma.start` by one with the same borders and other flags. */
export function* replaceVma(mm: Mm, vma: Vma): Steps<void> {
  yield mm.vmas.willUpdate(REPLACE);
  mm.vmas.set(vma.start, vma);
}

/** Merge neighbours over [from, to] that have become alike (vma_merge). Looks at every border in the closed range. */
export function* mergeVmas(mm: Mm, from: number, to: number): Steps<void> {
  for (;;) {
    const pair = alike(mm, from, to);
    if (pair === null) return;
    const [left, right] = pair;
    const whole = left.with({
      end: right.end,
      anonVma: left.fields.anonVma ?? right.fields.anonVma,
      // VM_SOFTDIRTY keeps nothing apart; a mapping that grew is dirty as a whole.
      softDirtyEnabled: left.fields.softDirtyEnabled && right.fields.softDirtyEnabled,
    });
    yield* call(
      editVmas(mm, rmapLocksOf(whole), MERGE, () => {
        mm.vmas.delete(right.start);
        mm.vmas.set(left.start, whole);
      }),
    );
  }
}

function alike(mm: Mm, from: number, to: number): readonly [Vma, Vma] | null {
  const vmas = lookVmas(mm, Math.max(0, from - 1), to + 1);
  for (let i = 1; i < vmas.length; i++) if (mergeable(vmas[i - 1]!, vmas[i]!)) return [vmas[i - 1]!, vmas[i]!];
  return null;
}

/** can_vma_merge_after: adjacent, equal in everything, offsets that continue, at most one anon_vma. */
function mergeable(left: Vma, right: Vma): boolean {
  const a = left.fields;
  const b = right.fields;
  if (a.end !== b.start || a.pgoff + left.pages !== b.pgoff) return false;
  // VM_SPECIAL: VM_IO, VM_PFNMAP, and VM_DONTEXPAND, which hugetlb has too.
  if (left.dontExpand || right.dontExpand || a.io || b.io) return false;
  if (a.anonVma !== b.anonVma && a.anonVma !== null && b.anonVma !== null) return false;
  return (
    a.read === b.read &&
    a.write === b.write &&
    a.exec === b.exec &&
    a.mayRead === b.mayRead &&
    a.mayWrite === b.mayWrite &&
    a.shared === b.shared &&
    a.file === b.file &&
    a.vmFile === b.vmFile &&
    a.locked === b.locked &&
    a.lockOnFault === b.lockOnFault &&
    a.dontFork === b.dontFork &&
    a.wipeOnFork === b.wipeOnFork &&
    a.mergeable === b.mergeable &&
    a.hugepage === b.hugepage &&
    sameUffd(a.uffd, b.uffd) &&
    a.noReserve === b.noReserve &&
    a.bindNode === b.bindNode &&
    a.name === b.name
  );
}

/** is_mergeable_vm_userfaultfd_ctx */
export function sameUffd(a: UffdRegistration | null, b: UffdRegistration | null): boolean {
  if (a === null || b === null) return a === b;
  return a.context === b.context && a.modes === b.modes && a.fill === b.fill;
}

/** vma_link: a new VMA appears in the tree, and in the trees of what it maps. */
export function* linkVma(mm: Mm, vma: Vma): Steps<void> {
  yield mm.vmas.willUpdate(LINK);
  mm.vmas.set(vma.start, vma);
  const { file, anonVma } = vma.fields;
  if (file !== null) yield* call(joinFamily(file, file.iMmapLock, mm, LINK_FILE));
  if (anonVma !== null) yield* call(joinFamily(anonVma, anonVma.lock, mm, LINK_FILE));
}

/** The mm becomes one of those that rmap walks of this inode or anon_vma visit. */
export function* joinFamily(family: Inode | AnonVma, lock: RwSem, mm: Mm, at: Step): Steps<void> {
  // Only VMAs of this very mm put it in or out of the list, and its mmap_lock is held for write.
  if (family.mms.peek().includes(mm)) return;
  yield* call(lock.write());
  family.mms.willUpdate(at);
  yield lock.up(at);
  family.mms.value = [...family.mms.value, mm];
}

/** unlink_file_vma and unlink_anon_vmas of VMAs that are gone: the last of a family takes the mm off its walks. */
export function* unlinkVmas(core: CoreMm, mm: Mm, gone: readonly Vma[]): Steps<void> {
  const files = new Set<Inode>();
  const anons = new Set<AnonVma>();
  for (const { fields } of gone) {
    if (fields.file !== null) files.add(fields.file);
    if (fields.anonVma !== null) anons.add(fields.anonVma);
  }
  const rest = core.sim.unwatched(() => mm.vmas.entries().map(([, vma]) => vma.fields));
  for (const file of files) {
    if (rest.some((f) => f.file === file)) continue;
    yield* call(leaveFamily(file, file.iMmapLock, mm, UNLINK));
    yield* call(iput(core, file));
  }
  for (const anon of anons) {
    if (!rest.some((f) => f.anonVma === anon)) yield* call(leaveFamily(anon, anon.lock, mm, UNLINK_ANON));
  }
}

function* leaveFamily(family: Inode | AnonVma, lock: RwSem, mm: Mm, at: Step): Steps<void> {
  yield* call(lock.write());
  family.mms.willUpdate(at);
  yield lock.up(at);
  family.mms.value = family.mms.value.filter((other) => other !== mm);
}
