// MMU notifiers: events, windows, secondary TLBs. Kernel files: mm/mmu_notifier.c and its callers.
import { subject } from '../behaviour.ts';

export const notifier = subject({
  'notifier.secondary-tlb': {
    summary: 'When devices that walk the CPU page tables are told to flush.',
    commit: '6bbd42e2df8f',
    source: 'mmu-notifier.md 1; reclaim-migration-writeback.md B50',
    evidence: 'source',
    ways: {
      'at-end': { summary: 'When a window ends, and in some page-table primitives; permission upgrades are missed.' },
      'with-cpu-flush': { summary: 'Whenever the CPU TLB is flushed.', in: { since: '6.6' } },
    },
  },
  'notifier.change-pte': {
    summary: 'KSM, COW and uprobes announce the new entry by change_pte inside the window.',
    source: 'mmu-notifier.md 2.12',
    evidence: 'source',
    in: { until: '6.10' },
  },
  'notifier.failed-start-gets-end': {
    summary: 'When one notifier refuses a non-blocking start, the others get the end of the window.',
    commit: 'c2655835fd8c',
    source: 'mmu-notifier.md N4',
    evidence: 'changelog',
    in: { since: '5.12, 5.10.27' },
  },
  'notifier.failed-start-balances-intervals': {
    summary: 'When a list notifier refuses a start, the count of open interval windows is dropped again.',
    source: 'mmu-notifier.md N19',
    evidence: 'source',
    in: 'never',
    note: 'read in 6.12.117: the count leaks; whether it can be reached there is not known',
  },
  'notifier.interval-remove-locked': {
    summary: 'Removal of an interval notifier waits on a sequence that it reads under the lock.',
    source: 'mmu-notifier.md N5',
    evidence: 'changelog',
    in: { since: '5.18, 5.17.5' },
  },
  'notifier.two-pass-intervals': {
    summary: 'Interval notifiers may start an invalidation first and wait for it after all others were started.',
    commit: '7aba71dbc416',
    source: 'mmu-notifier.md 1',
    evidence: 'list',
    in: { since: '7.1' },
  },
  'notifier.mprotect-window': {
    summary: 'How large a window mprotect and NUMA hinting open at a time.',
    source: 'mmu-notifier.md C10',
    evidence: 'source',
    ways: {
      pmd: { summary: 'From the first populated PMD to the end of the PUD entry.' },
      pud: { summary: 'From the first populated PUD entry to the end of the P4D entry.', in: { since: '6.12' } },
    },
    note: 'read in 6.1.192 and 6.12.117; the release between is not known',
  },
  'notifier.device-exclusive-takes-ref': {
    summary: 'Restoring a device-exclusive entry holds a reference of the folio.',
    source: 'mmu-notifier.md N13',
    evidence: 'changelog',
    in: { since: '6.3, 6.1.24' },
    note: 'the mainline release is from memory',
  },
  'notifier.arm64-range-start': {
    summary: 'An arm64 range flush tells secondary TLBs the range that it began with.',
    source: 'mmu-notifier.md N8',
    evidence: 'changelog',
    in: [{ until: '6.6' }, { since: '6.14, 6.12.20' }],
    arch: ['arm64'],
    note: 'the mainline release is from memory',
  },
  'notifier.odp-revoke-under-mutex': {
    summary:
      'The key of an on-demand-paging region is revoked under its mutex, and invalidations pass the region over then.',
    commit: 'abb604a1a9c8',
    source: 'bugs.json odp-invalidate-vs-dereg',
    evidence: 'changelog',
    in: { since: '6.14' },
  },
});
