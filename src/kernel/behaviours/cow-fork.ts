// Copy on write, AnonExclusive and fork. Kernel files: mm/memory.c, mm/huge_memory.c, mm/rmap.c.
import { subject } from '../behaviour.ts';

export const cowFork = subject({
  'cow.anon-exclusive': {
    summary: 'PG_anon_exclusive marks anonymous pages of one mm; a pinned exclusive page is never replaced by COW.',
    source: 'gup.md R2',
    evidence: 'source',
    in: { since: '5.19' },
  },
  'fork.early-copy-pinned': {
    summary: 'fork copies a page that may be pinned for the child at once and leaves the parent its page.',
    source: 'gup.md R4',
    evidence: 'source',
    in: { since: '5.9' },
  },
});
