// CPU TLB flushes, mmu_gather, page-table freeing, mremap.
// Kernel files: mm/mmu_gather.c, mm/rmap.c, mm/mremap.c, arch/*/mm/tlb.c.
import { subject } from '../behaviour.ts';

export const tlb = subject({
  'tlb.flush-means': {
    summary: 'How a CPU makes the others drop their translations.',
    source: 'reclaim-migration-writeback.md 2.0; gup.md 2.19',
    evidence: 'source',
    ways: {
      ipi: { summary: 'By an interrupt, which a GUP-fast walker holds off: a flush waits for walkers.' },
      broadcast: {
        summary: 'By a hardware broadcast, which waits for nobody.',
        in: 'always',
        arch: ['s390x', 'arm64'],
      },
      invlpgb: {
        summary: 'By INVLPGB on AMD processors that have it, which waits for nobody.',
        in: 'never',
        arch: ['x86_64'],
      },
    },
    note: 'INVLPGB is used since 6.15 where the processor has it; choose it to model such a machine',
  },
  'tlb.page-tables-freed': {
    summary: 'When a page-table page may be freed against lockless walkers.',
    source: 'gup.md 2.19',
    evidence: 'source',
    ways: {
      rcu: { summary: 'After an RCU grace period, or a synchronous IPI when no batch page can be had.' },
      'flush-ipi': { summary: 'After the flush IPI (x86 without PARAVIRT).', in: 'never', arch: ['x86_64'] },
    },
  },
  'tlb.gather-frees-pages': {
    summary: 'When pages of an unmapped range are freed.',
    source: 'reclaim-migration-writeback.md 2.7, 2.13',
    evidence: 'source',
    ways: {
      'after-end': { summary: 'Gathered, and freed after the notifier window and the flush (full batches earlier).' },
      'inside-window': { summary: 'One by one inside the notifier window.', in: 'always', arch: ['s390x'] },
    },
  },
  'tlb.reclaim-defers-flush': {
    summary: 'Reclaim and migration collect flushes of unmapped pages and do them before the pages are reused.',
    source: 'reclaim-migration-writeback.md 2.5',
    evidence: 'source',
    in: 'always',
    arch: ['x86_64'],
  },
  'tlb.deferred-flush-pending-check': {
    summary: 'mprotect, munmap and madvise flush what reclaim deferred on the same mm before they rely on it.',
    commit: '3ea277194daa',
    source: 'reclaim-migration-writeback.md B12',
    evidence: 'source',
    in: 'always',
  },
  'tlb.deferred-flush-recheck-after-relock': {
    summary: 'madvise and zap look for deferred flushes again after they dropped the page-table lock.',
    commit: '383c4613c67c',
    source: 'reclaim-migration-writeback.md B12',
    evidence: 'source',
    in: { since: '6.16, 6.12.117' },
    requires: ['tlb.deferred-flush-pending-check'],
    note: 'first release of 6.12.y not known; 6.12.117 has it, 6.1.192 does not',
  },
  'tlb.delay-rmap': {
    summary: 'A dirty shared page stays mapped for rmap until the flush, so that writeback cannot miss a stale writer.',
    commit: '5df397dec7c4',
    source: 'reclaim-migration-writeback.md B13',
    evidence: 'source',
    in: { since: '6.2' },
    arch: ['x86_64', 'arm64'],
  },
  'tlb.pfnmap-forced-flush': {
    summary: 'Unmapping a PFNMAP area flushes before the area leaves the tree in which drivers look for it.',
    commit: 'b67fbebd4cf9',
    source: 'reclaim-migration-writeback.md B16',
    evidence: 'changelog',
    in: { since: '5.19' },
    note: 'stable backports not known',
  },
  'tlb.nested-gather-forces-flush': {
    summary: 'A gather that ends while another one is open on the mm flushes the whole mm.',
    source: 'reclaim-migration-writeback.md R95',
    evidence: 'source',
    in: 'always',
  },
  'tlb.switching-cpu-flushed': {
    summary: 'A CPU that is switching to an mm takes part in the flushes of that mm.',
    commit: 'fea4e317f9e7',
    source: 'reclaim-migration-writeback.md B51',
    evidence: 'changelog',
    in: [
      { until: '6.14, 5.15.179, 6.1.129, 6.6.79, 6.12.16, 6.13.4' },
      { since: '6.15, 5.15.183, 6.1.139, 6.6.91, 6.12.29, 6.14.7' },
    ],
    arch: ['x86_64'],
  },
  'mremap.flush-before-unlock': {
    summary: 'mremap flushes the old address before it drops the page-table locks.',
    commit: 'eb66ae030829',
    source: 'reclaim-migration-writeback.md B14',
    evidence: 'source',
    in: 'always',
  },
  'mremap.rmap-locks-for-tables': {
    summary: 'mremap holds the rmap locks for write while it moves whole page tables.',
    commit: '97113eb39fa7',
    source: 'reclaim-migration-writeback.md B15',
    evidence: 'changelog',
    in: { since: '5.14' },
    note: 'stable backports not known',
  },
});
