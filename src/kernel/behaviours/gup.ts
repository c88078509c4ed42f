// get_user_pages and pin_user_pages: fast and slow walk, long-term rules. Kernel file: mm/gup.c.
import { subject } from '../behaviour.ts';

export const gup = subject({
  'gup.fast.longterm-file-check': {
    summary: 'GUP-fast refuses a writable long-term pin of a page that is neither anonymous, shmem nor hugetlb.',
    commit: 'a6e79df92e4a',
    source: 'gup.md R14',
    evidence: 'source',
    in: { since: '6.5' },
    requires: ['gup.slow.longterm-file-check'],
  },
  'gup.slow.longterm-file-check': {
    summary: 'A writable long-term pin of a shared mapping with dirty tracking fails with EFAULT.',
    commit: '8ac268436e6d',
    source: 'gup.md R14',
    evidence: 'observed',
    in: { since: '6.5' },
  },
  'gup.longterm.ro-breaks-cow': {
    summary: 'A read-only long-term pin in a COW mapping first breaks COW, so that later writes stay visible to it.',
    commit: '84209e87c696',
    source: 'gup.md R5',
    evidence: 'observed',
    in: { since: '6.2' },
    requires: ['cow.anon-exclusive'],
  },
  'gup.zeropage-not-pinned': {
    summary: 'FOLL_PIN of the 4 KiB zero page counts nothing, and its unpin is a no-op.',
    commit: 'c8070b787519',
    source: 'gup.md R6',
    evidence: 'changelog',
    in: { since: '6.5, 6.1.130' },
  },
  'gup.fast.recheck-pmd': {
    summary: 'GUP-fast reads the PMD again after taking its reference, so that a detached page table is noticed.',
    commit: '70cbc3cc78a9',
    source: 'gup.md R8',
    evidence: 'source',
    in: { since: '6.1' },
  },
  'gup.fast.write-protect-seq': {
    summary: 'GUP-fast with FOLL_PIN gives up when fork write-protects the page tables meanwhile.',
    commit: '57efa1fe5957',
    source: 'gup.md R3',
    evidence: 'changelog',
    in: { since: '5.11, 5.10.4' },
  },
  'gup.longterm.migrate-movable': {
    summary: 'A long-term pin migrates pages out of ZONE_MOVABLE, not only out of CMA.',
    commit: 'd1e153fea2a8',
    source: 'gup.md 4.1',
    evidence: 'list',
    in: { since: '5.13' },
  },
  'gup.longterm.nothing-isolated': {
    summary: 'What a long-term pin does when a page that it must migrate cannot be isolated.',
    source: 'gup.md R15',
    evidence: 'changelog',
    ways: {
      retry: { summary: 'Unpins everything and starts again, without bound.' },
      succeed: {
        summary: 'Returns success with the page pinned in MOVABLE or CMA (wrong fix, reverted).',
        commit: '1aaf8c122918',
        in: [{ since: '6.14', until: '6.16, 6.15.4' }, { during: '6.1.129-6.1.154, 6.12.14-6.12.35' }],
      },
    },
  },
  'gup.longterm.drain-by-refcount': {
    summary:
      'Before a long-term migration, per-CPU LRU batches are drained when the reference count is not as expected.',
    commit: '98c6d259319e',
    source: 'gup.md R16',
    evidence: 'changelog',
    in: { since: '6.17, 6.1.155, 6.12.49' },
  },
  'gup.hugetlb.longterm-migrates': {
    summary: 'A long-term pin of a hugetlb page in MOVABLE or CMA migrates it instead of failing with ENOMEM.',
    source: 'gup.md S9',
    evidence: 'observed',
    in: { since: '6.6' },
  },
});
