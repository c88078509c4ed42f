// io_uring registered buffers, which are long-term pins. Kernel file: io_uring/rsrc.c.
import { subject } from '../behaviour.ts';

export const iouring = subject({
  'iouring.buffer-file-rule': {
    summary: 'Which mappings can be registered as a fixed buffer.',
    source: 'gup.md 7.2; reality/README.md 2',
    evidence: 'observed',
    ways: {
      'shmem-and-hugetlb-only': {
        summary: 'Any mapping of a file that is neither shmem nor hugetlbfs is EOPNOTSUPP, private ones too.',
      },
      'gup-rules': { summary: 'What a writable long-term pin accepts.', in: { since: '6.5' } },
    },
    note: 'observed in 6.1.192 and 6.12.117; the release between is from memory',
  },
  'iouring.buffer-same-file': {
    summary: 'A fixed buffer that spans areas of different files is EINVAL.',
    source: 'gup.md 7.2',
    evidence: 'source',
    in: { until: '6.5' },
    requires: ['iouring.buffer-file-rule=shmem-and-hugetlb-only'],
    note: 'read in 6.1.192 and absent in 6.12.117; the release between is from memory',
  },
  'iouring.buffer-pins-fast': {
    summary:
      'Fixed buffers are pinned by GUP-fast first, so that they can differ from what type1 gets for the same memory.',
    source: 'reality/README.md 4',
    evidence: 'observed',
    in: { since: '6.12' },
    note: 'read in 6.1.192 and 6.12.117; the release between is not known',
  },
  'iouring.buffer-coalesces': {
    summary: 'A fixed buffer inside huge pages keeps one entry per huge page.',
    source: 'gup.md 7.2',
    evidence: 'source',
    in: { since: '6.12' },
    note: 'absent in 6.1.192, present in 6.12.117; a form for one huge page is older',
  },
  'iouring.huge-page-charged-whole': {
    summary: 'A fixed buffer charges a whole huge page for a part of it, once per ring.',
    source: 'reality/README.md 6',
    evidence: 'observed',
    in: 'always',
  },
});
