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
  'proposal.foll-exclusive-v1-bugs': {
    summary:
      'Exclusive pins as first posted: no exclusive bit in large folios, leaked references, a bias added per reclaim.',
    source: 'gup.md 2.21',
    evidence: 'list',
    in: 'never',
    proposal: true,
    requires: ['proposal.foll-exclusive'],
  },
  'proposal.gmem-in-place-conversion': {
    summary: 'guest_memfd converts between shared and private in place; any extra reference makes it EAGAIN.',
    source: 'kvm.md 2.15',
    evidence: 'list',
    in: 'never',
    proposal: true,
    requires: ['gmem.mmap'],
  },
  'proposal.strict-follow-pfn': {
    summary: 'Users of raw frames without a notifier are refused (CONFIG_STRICT_FOLLOW_PFN).',
    source: 'gup.md 2.18',
    evidence: 'list',
    in: 'never',
    proposal: true,
    excludes: ['proposal.type1-zap-tracking'],
  },
  'proposal.type1-zap-tracking': {
    summary: 'type1 learns of zapped vfio-pci areas and removes their mappings from the IOMMU.',
    source: 'threads.md 2020-10',
    evidence: 'list',
    in: 'never',
    proposal: true,
  },
  'proposal.type1-parallel-pin': {
    summary: 'type1 pins a large mapping with several threads, each with its own batches (padata).',
    source: 'vfio-type1.md 5',
    evidence: 'list',
    in: 'never',
    proposal: true,
    requires: ['type1.batched-pin'],
  },
  'proposal.type1-locked-vm-cache': {
    summary: 'Each pinning thread charges locked_vm in chunks of 65536 pages ahead of need.',
    source: 'vfio-type1.md 5',
    evidence: 'list',
    in: 'never',
    proposal: true,
    requires: ['proposal.type1-parallel-pin'],
  },
});
