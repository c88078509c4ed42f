// FOLL_LONGTERM: what it refuses, what it migrates, how it retries. Kernel file: mm/gup.c.
import { subject } from '../behaviour.ts';

export const gupLongterm = subject({
  'gup.slow.longterm-file-check': {
    summary: 'A writable long-term pin of a shared mapping with dirty tracking fails with EFAULT.',
    commit: '8ac268436e6d',
    source: 'gup.md R14',
    evidence: 'observed',
    in: { since: '6.5' },
    requires: ['gup.foll-pin'],
  },
  'gup.fast.longterm-file-check': {
    summary: 'GUP-fast refuses a writable long-term pin of a page that is neither anonymous, shmem nor hugetlb.',
    commit: 'a6e79df92e4a',
    source: 'gup.md R14',
    evidence: 'source',
    in: { since: '6.5' },
    requires: ['gup.foll-pin'],
  },
  'gup.longterm.ro-breaks-cow': {
    summary: 'A read-only long-term pin in a COW mapping first breaks COW, so that later writes stay visible to it.',
    commit: '84209e87c696',
    source: 'gup.md R5',
    evidence: 'observed',
    in: { since: '6.2' },
    requires: ['cow.unshare-fault'],
  },
  'gup.longterm.migrate-movable': {
    summary: 'A long-term pin migrates pages out of ZONE_MOVABLE, not only out of CMA.',
    commit: 'd1e153fea2a8',
    source: 'gup.md 4.1',
    evidence: 'observed',
    in: { since: '5.13' },
    note: 'parts are in 5.10.38',
  },
  'gup.longterm.migration-failure-is-error': {
    summary: 'A long-term pin whose page cannot be migrated fails with ENOMEM instead of pinning it where it is.',
    source: 'gup.md 4.1',
    evidence: 'list',
    in: { since: '5.13' },
    note: 'the mainline release is from memory',
  },
  'gup.longterm.allocates-pinnable': {
    summary: 'Faults inside a long-term pin allocate from memory that may be pinned (PF_MEMALLOC_PIN).',
    commit: '1a08ae36cf8b',
    source: 'gup.md L1',
    evidence: 'source',
    in: { since: '5.13' },
    note: 'the mainline release is from memory',
  },
  'gup.longterm.zeropage-pinnable': {
    summary: 'The zero page counts as pinnable wherever it lies and is not migrated.',
    commit: '9afaf30f7a1a',
    source: 'gup.md 4.1',
    evidence: 'list',
    in: { since: '5.13' },
    note: 'the mainline release is from memory',
  },
  'gup.longterm.migrates-device-coherent': {
    summary: 'A long-term pin migrates device-coherent memory to RAM.',
    source: 'gup.md 4.1',
    evidence: 'unverified',
    in: { since: '6.0' },
  },
  'gup.longterm.nothing-isolated': {
    summary: 'What a long-term pin does when none of the pages that it must migrate can be isolated.',
    source: 'gup.md R15',
    evidence: 'changelog',
    ways: {
      retry: { summary: 'Unpins everything and starts again, without bound.' },
      succeed: {
        summary: 'Returns success with the page pinned in MOVABLE or CMA (wrong fix, reverted).',
        commit: '1aaf8c122918',
        in: [{ since: '6.14', until: '6.16, 6.15.5' }, { during: '6.1.129-6.1.154, 6.12.14-6.12.35, 6.13.3-6.13.12' }],
      },
    },
    note: '6.1.y and 6.12.y from changelogs; 6.13 to 6.15 from memory; whether 6.6.y had it is not known',
  },
  'gup.longterm.lru-drain': {
    summary: 'When a long-term pin drains the per-CPU LRU batches before it isolates a small page.',
    source: 'gup.md R16',
    evidence: 'changelog',
    ways: {
      'lru-flag': { summary: 'Once, when the page is not on the LRU; a stray batch reference can fail the migration.' },
      'refcount-plus-one': {
        summary: 'When the count is not as expected plus one, which a pin of 1024 never is: both drains always run.',
        commit: '98c6d259319e',
        in: { since: '6.17, 6.1.155, 6.12.49, 6.16.9', until: '6.12.111' },
      },
      'refcount-own-pin': {
        summary: 'When the count is not as expected plus the own pin.',
        in: { since: '6.12.111' },
      },
    },
    note: 'read in 6.1.192 and 6.12.117; the mainline release of the last way is not known',
  },
  'gup.longterm.large-folio-steps': {
    summary: 'The long-term check steps over a large folio at once instead of page by page.',
    commit: 'a03db236aebf',
    source: 'gup.md 4.1',
    evidence: 'changelog',
    in: { since: '6.16, 6.12.49' },
  },
  'gup.hugetlb.longterm-migrates': {
    summary: 'A long-term pin of a hugetlb page in MOVABLE or CMA migrates it instead of failing with ENOMEM.',
    source: 'gup.md S9',
    evidence: 'observed',
    in: [{ until: '5.13' }, { since: '6.6' }],
    note: 'observed in 6.1.192 and 6.12.117; the ends of the gap are from memory',
  },
});
