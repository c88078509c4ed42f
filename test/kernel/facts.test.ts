// What is known of released kernels, mostly recorded on running ones or read in their sources.
import { describe, expect, it } from 'vitest';
import type { BehaviourId } from '../../src/kernel/catalogue.ts';
import { type Answer, Kernel } from '../../src/kernel/kernel.ts';

const FACTS: readonly (readonly [string, BehaviourId, Answer])[] = [
  // A writable long-term pin of an ext4 MAP_SHARED page: 6.1 accepts, 6.12 EFAULT (recorded).
  ['v6.1.192', 'gup.slow.longterm-file-check', false],
  ['v6.1.192', 'gup.fast.longterm-file-check', false],
  ['v6.12.117', 'gup.slow.longterm-file-check', true],
  ['v6.12.117', 'gup.fast.longterm-file-check', true],
  ['v6.4', 'gup.slow.longterm-file-check', false],
  // A READ map of untouched memory: the zero page in 6.1, a fresh anonymous page in 6.12 (recorded).
  ['v6.1.192', 'gup.longterm.ro-breaks-cow', false],
  ['v6.2', 'gup.longterm.ro-breaks-cow', true],
  ['v6.12.117', 'gup.longterm.ro-breaks-cow', true],
  // Pins of the zero page are not counted since 6.1.130; the slow path of 6.1.130 to 6.1.134 failed.
  ['v6.1.129', 'gup.zeropage-not-pinned', false],
  ['v6.1.130', 'gup.zeropage-not-pinned', true],
  ['v6.1.130', 'gup.slow.zeropage-grab-succeeds', false],
  ['v6.1.135', 'gup.slow.zeropage-grab-succeeds', true],
  ['v6.12.117', 'gup.slow.zeropage-grab-succeeds', true],
  ['v6.4', 'gup.zeropage-not-pinned', false],
  ['v6.5', 'gup.zeropage-not-pinned', true],
  // type1 and the zero page.
  ['v5.19', 'type1.zero-page', 'leak'],
  ['v6.1.192', 'type1.zero-page', 'unpin'],
  ['v6.12.117', 'type1.zero-page', 'none'],
  // The wrong fix of the long-term retry loop was in some stable releases only.
  ['v6.1.128', 'gup.longterm.nothing-isolated', 'retry'],
  ['v6.1.129', 'gup.longterm.nothing-isolated', 'succeed'],
  ['v6.1.154', 'gup.longterm.nothing-isolated', 'succeed'],
  ['v6.1.155', 'gup.longterm.nothing-isolated', 'retry'],
  ['v6.12.14', 'gup.longterm.nothing-isolated', 'succeed'],
  ['v6.12.36', 'gup.longterm.nothing-isolated', 'retry'],
  ['v6.18', 'gup.longterm.nothing-isolated', 'retry'],
  // Which reference count makes a long-term pin drain the LRU batches (read in both sources).
  ['v6.1.192', 'gup.longterm.lru-drain', 'refcount-plus-one'],
  ['v6.12.117', 'gup.longterm.lru-drain', 'refcount-own-pin'],
  ['v6.12', 'gup.longterm.lru-drain', 'lru-flag'],
  // hugetlb in ZONE_MOVABLE: ENOMEM on 6.1, fine on 6.12 (recorded).
  ['v6.1.192', 'gup.hugetlb.longterm-migrates', false],
  ['v6.12.117', 'gup.hugetlb.longterm-migrates', true],
  // COW and fork through the years.
  ['v5.4', 'cow.reuse-rule', 'mapcount'],
  ['v5.10', 'cow.reuse-rule', 'refcount-one'],
  ['v5.17', 'cow.anon-exclusive', false],
  ['v5.19', 'cow.anon-exclusive', true],
  ['v5.19', 'cow.share-barriers', false],
  ['v6.1', 'cow.share-barriers', true],
  ['v5.4', 'fork.early-copy-pinned', false],
  ['v5.10', 'fork.early-copy-pinned', true],
  ['v5.10.3', 'gup.fast.write-protect-seq', false],
  ['v5.10.4', 'gup.fast.write-protect-seq', true],
  // khugepaged without notifiers.
  ['v6.0.12', 'thp.collapse.file-notifier', false],
  ['v6.0.13', 'thp.collapse.file-notifier', true],
  ['v6.1', 'thp.collapse.file-notifier', true],
  // A bug that one release brought and another removed.
  ['v6.1.192', 'gup.slow.grab-ignores-zone', true],
  ['v6.6', 'gup.slow.grab-ignores-zone', false],
  ['v6.6.47', 'gup.slow.grab-ignores-zone', true],
  ['v6.12', 'gup.slow.grab-ignores-zone', true],
  // A regression that came to stable series at their own levels.
  ['v6.12.15', 'tlb.switching-cpu-flushed', true],
  ['v6.12.16', 'tlb.switching-cpu-flushed', false],
  ['v6.12.29', 'tlb.switching-cpu-flushed', true],
  // Accounting of type1 across exec.
  ['v6.1.15', 'type1.accounted-mm', 'task-mm'],
  ['v6.1.16', 'type1.accounted-mm', 'dma-mm'],
  ['v6.12.117', 'type1.accounted-mm', 'dma-mm'],
  ['v5.10', 'type1.batched-pin', false],
  ['v5.15', 'type1.batched-pin', true],
  ['v6.12.117', 'type1.end-of-space', false],
  ['v6.18', 'type1.end-of-space', true],
  ['v6.1.192', 'type1.set-container-wrong-file', 'EINVAL'],
  ['v6.12.117', 'type1.set-container-wrong-file', 'EBADFD'],
  ['v5.19', 'type1.notify', 'chain'],
  ['v6.1', 'type1.notify', 'list'],
  // KVM.
  ['v5.10', 'kvm.retry-unit', 'any'],
  ['v6.1.192', 'kvm.retry-unit', 'hva'],
  ['v6.12.117', 'kvm.retry-unit', 'gfn'],
  ['v5.10', 'kvm.memslot-update-waits-for-windows', false],
  ['v6.1.192', 'kvm.change-pte', true],
  ['v6.12.117', 'kvm.change-pte', false],
  ['v5.15', 'kvm.zap-covers-invalid-roots', false],
  ['v6.12.79', 'kvm.mmio-entry-drops-present', false],
  ['v6.12.80', 'kvm.mmio-entry-drops-present', true],
  ['v6.1.192', 'gmem.present', false],
  ['v6.12.117', 'gmem.present', true],
  // Migration: the copy is before the freeze in 6.12 and after it in 6.1 (read in both sources).
  ['v6.1.192', 'migration.copy-before-freeze', false],
  ['v6.12.117', 'migration.copy-before-freeze', true],
  ['v6.1.192', 'migration.passes', 'ten'],
  ['v6.12.117', 'migration.passes', 'three-then-seven'],
  // Reclaim and truncation backports (read in both sources).
  ['v6.1', 'reclaim.pinned-keeps-private', false],
  ['v6.1.192', 'reclaim.pinned-keeps-private', true],
  ['v6.1.192', 'truncate.unmaps-on-split-failure', true],
  ['v6.1.192', 'lru.batch-size', 'fifteen'],
  ['v6.12.117', 'lru.batch-size', 'thirty-one'],
  ['v6.12.117', 'reclaim.multigen-lru', true],
  ['v6.1.192', 'reclaim.multigen-lru', false],
  ['v6.1.192', 'hwpoison.madvise-signals-at-once', false],
  ['v6.12.117', 'hwpoison.madvise-signals-at-once', true],
  // io_uring registered buffers (recorded).
  ['v6.1.192', 'iouring.buffer-file-rule', 'shmem-and-hugetlb-only'],
  ['v6.12.117', 'iouring.buffer-file-rule', 'gup-rules'],
  ['v6.12.117', 'iouring.buffer-pins-fast', true],
  // hugetlb page-table sharing.
  ['v6.12.34', 'hugetlb.pmd-unshare-sync', 'none'],
  ['v6.12.35', 'hugetlb.pmd-unshare-sync', 'each'],
  ['v6.12.117', 'hugetlb.pmd-unshare-sync', 'batched'],
  // Architectures.
  ['v6.12', 'tlb.flush-means', 'ipi'],
  ['v6.12+s390x', 'tlb.flush-means', 'broadcast'],
  ['v6.12+s390x', 'tlb.gather-frees-pages', 'inside-window'],
  ['v6.12+s390x', 'thp.pmd-migration', false],
  ['v6.12+s390x', 'gup.arch-accessible', true],
  ['v6.12', 'gup.arch-accessible', false],
  ['v6.12+s390x', 'hugetlb.pmd-sharing', false],
  // SVA on x86 was switched off in stable series.
  ['v6.12.117', 'iommu.sva-x86', 'disabled'],
  ['v6.12', 'iommu.sva-x86', 'no-flush'],
  ['v6.18.7', 'iommu.sva-x86', 'kernel-range-flush'],
  ['v6.19', 'iommu.sva-x86', 'kernel-range-flush'],
];

describe('released kernels', () => {
  it.each(FACTS)('%s: %s is %s', (name, id, answer) => {
    expect(new Kernel(name).answer(id)).toBe(answer);
  });

  it('have no proposal', () => {
    const kernel = new Kernel('v6.18');
    expect(kernel.has('proposal.foll-exclusive')).toBe(false);
    expect(kernel.has('proposal.gmem-in-place-conversion')).toBe(false);
  });
});
