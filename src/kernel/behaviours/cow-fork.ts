// Copy on write, AnonExclusive, fork, NUMA hinting of shared pages.
// Kernel files: mm/memory.c, mm/huge_memory.c, mm/mprotect.c, include/linux/rmap.h.
import { subject } from '../behaviour.ts';

export const cowFork = subject({
  'cow.reuse-rule': {
    summary: 'When a write fault may keep the page instead of copying it.',
    source: 'gup.md 2.9 W3, W4; R1, R2',
    evidence: 'source',
    ways: {
      mapcount: { summary: 'When it is mapped once; references of others do not matter.' },
      'refcount-one': {
        summary: 'When nobody else holds a reference; a pinned page that became read-only is copied.',
        commit: '09854ba94c6a',
        in: { since: '5.9', until: '5.19' },
      },
      exclusive: {
        summary: 'When it is marked exclusive, or else nobody else holds a reference.',
        commit: '6c287605fd56',
        in: { since: '5.19' },
      },
    },
    note: 'read in 6.1.192 and 6.12.117; older releases from the commit archive',
  },
  'cow.anon-exclusive': {
    summary: 'PG_anon_exclusive marks anonymous pages of one mm; a pinned exclusive page is never replaced by COW.',
    commit: '6c287605fd56',
    source: 'gup.md R2',
    evidence: 'source',
    in: { since: '5.19' },
    requires: ['cow.reuse-rule=exclusive', 'fork.early-copy-pinned'],
  },
  'cow.unshare-fault': {
    summary: 'A read-only pin of a possibly shared anonymous page first gives the process its own page.',
    commit: 'a7f226604170',
    source: 'gup.md S8',
    evidence: 'source',
    in: { since: '5.19' },
    requires: ['cow.anon-exclusive'],
  },
  'cow.share-barriers': {
    summary:
      'Clearing the exclusive flag is ordered after clearing the entry and before the pin test by full barriers.',
    commit: '088b8aa537c2',
    source: 'gup.md R7',
    evidence: 'source',
    in: { since: '6.1' },
    requires: ['cow.anon-exclusive'],
  },
  'cow.large-folio-reuse': {
    summary: 'When a write fault may keep a page of a large folio that is not marked exclusive.',
    source: 'gup.md 2.9 W4',
    evidence: 'source',
    ways: {
      'single-ref': { summary: 'When the one mapping holds the only reference of the folio.' },
      never: { summary: 'Never; it is copied.', in: { since: '6.8', until: '6.15' } },
      'one-mm': { summary: 'When all references are mappings of this mm.', in: { since: '6.15' } },
    },
    note: 'read in 6.1.192, 6.12.117 and 7.2.12; the releases between are from memory',
  },
  'cow.ro-gup-enforces-cow': {
    summary: 'A read-only GUP of a COW mapping is turned into a write fault.',
    commit: '17839856fd58',
    source: 'gup.md R1',
    evidence: 'list',
    in: { since: '5.8', until: '5.9' },
    requires: ['cow.reuse-rule=mapcount'],
  },
  'cow.swap-exclusive-bit': {
    summary: 'A swap entry remembers that its page was exclusive, so that swap-in maps it writable without a copy.',
    source: 'reclaim-migration-writeback.md 2.8',
    evidence: 'source',
    in: { since: '5.19' },
    requires: ['cow.anon-exclusive'],
  },
  'cow.softdirty-skips-pinned': {
    summary: 'Clearing soft-dirty bits leaves a pinned page of a COW mapping writable.',
    commit: '9348b73c2e1b',
    source: 'reclaim-migration-writeback.md B6',
    evidence: 'observed',
    in: { since: '5.11' },
  },
  'cow.numa-skips-shared': {
    summary: 'NUMA hinting leaves pages of a COW mapping alone when somebody else uses them.',
    commit: '80d47f5de5e3',
    source: 'gup.md R25',
    evidence: 'changelog',
    in: { since: '5.17, 5.10.102, 5.15.25, 5.16.11' },
    config: 'NUMA_BALANCING',
  },
  'cow.numa-other-use-test': {
    summary: 'How NUMA hinting finds that somebody else uses a page of a COW mapping.',
    source: 'gup.md 2.16',
    evidence: 'source',
    ways: {
      'page-count': { summary: 'Its reference count is not one.' },
      'pinned-or-shared': { summary: 'It may be pinned, or is likely mapped by others.', in: { since: '6.10' } },
    },
    note: 'read in 6.1.192 and 6.12.117; the release between is from memory',
  },
  'fork.early-copy-pinned': {
    summary: 'fork copies a page that may be pinned for the child at once and leaves the parent its page.',
    commit: '70e806e4e645',
    source: 'gup.md R4',
    evidence: 'source',
    in: { since: '5.9' },
    requires: ['gup.foll-pin'],
  },
  'fork.early-copy-hugetlb': {
    summary: 'fork copies a pinned hugetlb page for the child at once.',
    commit: '4eae4efa2c29',
    source: 'reclaim-migration-writeback.md B35',
    evidence: 'list',
    in: { since: '5.13' },
    requires: ['fork.early-copy-pinned'],
  },
  'fork.pte-batching': {
    summary: 'fork shares several PTEs of one large folio in one step.',
    source: 'gup.md 2.13',
    evidence: 'source',
    in: { since: '6.9' },
    note: 'absent in 6.1.192, present in 6.12.117; the release is from memory',
  },
});
