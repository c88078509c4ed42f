// Locked and pinned memory: limits and who is charged. Kernel files: mm/util.c, include/uapi/linux/resource.h.
import { subject } from '../behaviour.ts';

export const accounting = subject({
  'accounting.default-memlock': {
    summary: 'RLIMIT_MEMLOCK of a process whose limits nobody set.',
    source: 'vfio-type1.md 1.4',
    evidence: 'source',
    ways: {
      '64KiB': { summary: '64 KiB.' },
      '8MiB': { summary: '8 MiB.', commit: '9dcc38e2813e', in: { since: '5.16' } },
    },
    note: 'read in 6.12.117; release and commit of the change are from memory',
  },
  'accounting.pinned-vm-apart': {
    summary: 'io_uring, RDMA and iommufd count their pins in pinned_vm, apart from locked_vm of mlock and type1.',
    source: 'reality/README.md 6',
    evidence: 'observed',
    in: 'always',
  },
  'accounting.user-locked-vm': {
    summary: 'io_uring and iommufd charge the limit to the user, over all processes of a uid.',
    source: 'reality/README.md 6',
    evidence: 'observed',
    in: 'always',
  },
  'accounting.type1-charges-each-mapping': {
    summary: 'type1 charges every mapping of the same page again.',
    source: 'reality/README.md 6',
    evidence: 'observed',
    in: 'always',
  },
});
