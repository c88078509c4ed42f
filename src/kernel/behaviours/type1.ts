// VFIO type1. Kernel file: drivers/vfio/vfio_iommu_type1.c.
import { subject } from '../behaviour.ts';

export const type1 = subject({
  'type1.batched-pin': {
    summary: 'Pages are pinned in batches of up to one page of struct page pointers (512) instead of one by one.',
    source: 'vfio-type1.md',
    evidence: 'source',
    in: { since: '5.12' },
  },
});
