// Behaviours that are recorded and that no part of the model asks about yet: switching one changes nothing, so that
// nobody may. test/kernel/unasked.test.ts keeps the list true.

import { BEHAVIOURS, findBehaviour } from './catalogue.ts';
import { isSet } from './config.ts';
import { KernelError } from './error.ts';
import { Kernel, type KernelChanges } from './kernel.ts';
import { resolveProfile } from './profile.ts';

const UNASKED: ReadonlySet<string> = new Set([
  'accounting.pinned-vm-apart',
  'accounting.type1-charges-each-mapping',
  'accounting.user-locked-vm',
  'cow.ro-gup-enforces-cow',
  'fork.pte-batching',
  'gmem.invalidates-shared',
  'gmem.mmap',
  'gmem.reserved-slots-have-no-attributes',
  'gpc.offset-follows-move',
  'gup.bad-range-errno',
  'gup.fast.cont-pte-head-flag',
  'gup.fast.folded-tables',
  'gup.fast.secretmem-test',
  'gup.follow-pfnmap-rechecks-leaf',
  'gup.hugetlb-core-lock',
  'gup.interruptible',
  'gup.longterm.large-folio-steps',
  'gup.longterm.migrates-device-coherent',
  'gup.longterm.zeropage-pinnable',
  'gup.no-stack-growth',
  'gup.p2pdma-flag',
  'gup.refcount-overflow-check',
  'gup.uffd-release-ends-retry',
  'gup.unpin-skips-null',
  'hugetlb.pmd-share-count',
  'hugetlb.pmd-unshare-flushes',
  'hugetlb.pmd-unshare-sync',
  'iommu.amd-domain-flush-unsplit',
  'iommu.amd-flush-before-list-removal',
  'iommu.amd-large-page-at-zero',
  'iommu.amd-level-seqcount',
  'iommu.amd-sequence-in-queue-order',
  'iommu.direct-map-of-frame-zero',
  'iommu.fault-queue-frees-partial',
  'iommu.flush-queue-teardown-waits',
  'iommu.generic-gather-covers-leaf',
  'iommu.generic-page-table',
  'iommu.map-progress-or-error',
  'iommu.page-size-overflow-check',
  'iommu.partial-fault-waits-for-last',
  'iommu.smmu-ats-count-balanced',
  'iommu.smmu-concatenated-root',
  'iommu.smmu-ste-update-ordered',
  'iommu.smmu-sva-flushes-all-when-large',
  'iommu.sva-handle-complete-before-visible',
  'iommu.sva-holds-mm',
  'iommu.sva-unbind-drains-faults',
  'iommu.sva-x86',
  'iommu.sync-map-may-fail',
  'iommu.vtd-ats-timeout-gives-up',
  'iommu.vtd-dirty-needs-coherent-walk',
  'iommu.vtd-nested-flush-keeps-range',
  'iommu.vtd-parent-flushes-children',
  'iommu.vtd-pasid-replace-atomic',
  'iommu.vtd-superpage-switch-aligned',
  'iommu.vtd-untags-before-ats-off',
  'iouring.huge-page-charged-whole',
  'ksm.refuses-extra-refs',
  'kvm.apic-page-under-lock',
  'kvm.arm64-pfnmap-not-sized-by-area',
  'kvm.arm64-seq-inside-mmap-lock',
  'kvm.change-pte',
  'kvm.dirty-ring',
  'kvm.dirty-ring-checks-offset',
  'kvm.flush-range-of-dead-table',
  'kvm.interruptible-gup',
  'kvm.memslot-update-not-starved',
  'kvm.mmio-cache-active-slots',
  'kvm.mmio-entry-drops-present',
  'kvm.mmu-rwlock',
  'kvm.s390-aif-charges-owner',
  'kvm.s390-aif-rejects-second-enable',
  'kvm.s390-generic-notifiers',
  'kvm.s390-make-secure-holds-folio',
  'kvm.s390-vsie-owner-before-visible',
  'kvm.sev-flushes-caches',
  'kvm.sev-region-pin',
  'kvm.shadow-recycle-under-write-lock',
  'kvm.vfio-group-lock-order',
  'lru.flag-cleared-in-batch',
  'lru.mlock-batch',
  'migration.device-flush-under-lock',
  'migration.device-keeps-dirty',
  'migration.entry-wait-without-ref',
  'migration.move-pages-status',
  'migration.refuses-inaccessible',
  'migration.shmem-swap-cache-slots',
  'notifier.arm64-range-start',
  'notifier.change-pte',
  'notifier.device-exclusive-takes-ref',
  'notifier.failed-start-balances-intervals',
  'notifier.interval-remove-locked',
  'notifier.two-pass-intervals',
  'oom.gather-per-area',
  'oom.nonblocking-notifier',
  'pagemap.scan',
  'pagemap.scan-notifies-inside-lock',
  'proposal.foll-exclusive',
  'proposal.foll-exclusive-v1-bugs',
  'proposal.gmem-in-place-conversion',
  'proposal.strict-follow-pfn',
  'proposal.type1-locked-vm-cache',
  'proposal.type1-parallel-pin',
  'proposal.type1-zap-tracking',
  'reclaim.lazyfree-batch-restores-write-bits',
  'secretmem.map-restored-before-free',
  'swap.zswap-writeback-rechecks-slot',
  'thp.collapse.anon-vma-recheck',
  'thp.collapse.table-locks',
  'thp.collapse.writes-dirty-file',
  'thp.collapse.young-address',
  'thp.deferred-split.locking',
  'thp.deferred-split.queued-before-visible',
  'thp.split.atomic-mapcount',
  'thp.split.gup-fast-transient',
  'thp.split.migration-entry',
  'thp.touch-keeps-clean',
  'tlb.flush-means',
  'tlb.gather-frees-pages',
  'tlb.nested-gather-forces-flush',
  'tlb.page-tables-freed',
  'tlb.switching-cpu-flushed',
  'truncate.unmaps-on-split-failure',
  'type1.device-registered-once',
  'type1.dirty-bitmap-unwind',
  'type1.dma-entry-limit',
  'type1.external-pin-drops-on-error',
  'type1.foll-pin',
  'type1.large-folio-batching',
  'type1.locked-vm-per-dma',
  'type1.zero-pages-pinned-is-error',
  'uffd.move',
  'uffd.move-checks-pin-first',
  'uffd.move-rechecks-swap-cache',
  'writeback.dirty-tracking-apart-from-writenotify',
  'writeback.s390-uv-waits-with-ref',
]);

/** Does any part of the model ask about the behaviour? */
export function isAsked(id: string): boolean {
  return !UNASKED.has(id);
}

/**
 * Throws KernelError when one of the changes switches what nobody asks about, unless another change could not be without
 * it: then it is part of a kernel that makes sense.
 */
export function checkAsked(profile: string, changes: KernelChanges): void {
  const on = changes.with ?? [];
  const off = changes.without ?? [];
  for (const argument of [...on, ...off]) {
    const id = argument.split('=')[0]!;
    if (isAsked(id) || findBehaviour(id) === undefined) continue;
    const rest = { with: on.filter((one) => one !== argument), without: off.filter((one) => one !== argument) };
    if (!canBe(profile, { ...changes, ...rest })) continue;
    const what = `the model does not ask about \`${id}\` yet`;
    throw new KernelError('unasked', argument, what, 'switching it would change nothing');
  }
  const usual = resolveProfile(profile).config;
  for (const [option, value] of Object.entries(changes.config ?? {})) {
    if (isSet({ [option]: value }, option) === isSet(usual, option) || decides(option)) continue;
    const what = `the model does not ask about CONFIG_${option} yet`;
    throw new KernelError('unasked', option, what, 'setting it would change nothing');
  }
}

/** Does a behaviour that the model asks about depend on the option? */
function decides(option: string): boolean {
  return BEHAVIOURS.some(({ id, config }) => config === option && isAsked(id));
}

function canBe(profile: string, changes: KernelChanges): boolean {
  try {
    new Kernel(profile, changes);
    return true;
  } catch (error) {
    if (error instanceof KernelError) return false;
    throw error;
  }
}

/** For the test that compares it with the sources. */
export function unaskedBehaviours(): readonly string[] {
  return [...UNASKED];
}
