// Designs that were posted but never merged; off unless a run asks for them.
import { subject } from '../behaviour.ts';

export const proposals = subject({
  'proposal.foll-exclusive': {
    summary: 'Exclusive pins: ordinary pins of a page fail with EBUSY while an exclusive pin is held (FOLL_EXCLUSIVE).',
    source: 'gup.md 2.21',
    evidence: 'list',
    in: 'never',
    proposal: true,
    requires: ['cow.anon-exclusive'],
  },
});
