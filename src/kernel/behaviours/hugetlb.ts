// hugetlb: shared PMD tables, punch hole. Kernel file: mm/hugetlb.c.
import { subject } from '../behaviour.ts';

export const hugetlb = subject({
  'hugetlb.pmd-sharing': {
    summary: 'Processes that map the same 1 GiB aligned range of a hugetlb file share its page table.',
    source: 'reclaim-migration-writeback.md 2.12',
    evidence: 'source',
    in: 'always',
    arch: ['x86_64', 'arm64'],
    config: 'HUGETLBFS',
  },
  'hugetlb.pmd-unshare-flushes': {
    summary: 'Leaving a shared page table flushes the TLB before the locks are dropped.',
    commit: 'a4a118f2eead',
    source: 'mmu-notifier.md N9',
    evidence: 'changelog',
    in: { since: '5.16, 5.15.5' },
  },
  'hugetlb.pmd-unshare-sync': {
    summary: 'How leaving a shared page table waits for GUP-fast walkers inside it.',
    source: 'gup.md R9',
    evidence: 'changelog',
    ways: {
      none: { summary: 'It does not: the table can be reused under a walker.' },
      each: {
        summary: 'By an IPI to all CPUs for each table left.',
        commit: '1013af4f585f',
        in: { since: '6.16, 5.10.239, 5.15.186, 6.1.142, 6.6.95, 6.12.35, 6.15.4', until: '7.0, 6.1.167, 6.12.74' },
      },
      batched: {
        summary: 'By one IPI for all tables of a gather.',
        in: { since: '7.0, 6.1.167, 6.12.74' },
      },
    },
    note: 'the mainline release of the batched way is from memory',
  },
  'hugetlb.pmd-share-count': {
    summary: 'A shared page table has a count of its sharers; a speculative reference is not mistaken for one.',
    commit: '59d9094df3d7',
    source: 'reclaim-migration-writeback.md B19',
    evidence: 'changelog',
    in: { since: '6.13, 6.1.142, 6.6.72, 6.12.9' },
    note: '6.1.192 has it; the level of 6.1.y is taken from the fix that needs it',
  },
  'hugetlb.zap-restores-reservation': {
    summary: 'What the owner of a private mapping zaps and nobody else maps is reserved for it again.',
    commit: 'df7a6d1f6405',
    source: 'reclaim-migration-writeback.md 2.12',
    evidence: 'source',
    in: { since: '6.9' },
    note: '6.1.192 does not have it and 6.12.117 has; at first it also did so while a child still mapped the page',
  },
  'hugetlb.punch-hole-locks-folio': {
    summary: 'Punching a hole locks the folio before it looks whether it is mapped.',
    commit: '7b7387650dcf',
    source: 'reclaim-migration-writeback.md B40',
    evidence: 'changelog',
    in: { since: '6.17, 5.4.300, 5.10.245, 5.15.194, 6.1.155, 6.6.109, 6.12.50, 6.16.10' },
  },
});
