// Page migration and its entries, device memory migration. Kernel files: mm/migrate.c, mm/migrate_device.c.
import { subject } from '../behaviour.ts';

export const migration = subject({
  'migration.copy-before-freeze': {
    summary: 'Data is copied before the reference count is frozen, not after.',
    source: 'reclaim-migration-writeback.md 2.9',
    evidence: 'source',
    in: { since: '6.11' },
    note: 'read in 6.1.192 and 6.12.117; the release between is from memory',
  },
  'migration.batched-unmap': {
    summary: 'Folios are unmapped in batches with one flush, and stay unmapped over the passes that follow.',
    commit: '5dfab109d519',
    source: 'reclaim-migration-writeback.md 2.9',
    evidence: 'source',
    in: { since: '6.3' },
    note: 'the commit is from memory, the release from the published figures',
  },
  'migration.passes': {
    summary: 'How often a synchronous migration tries a folio that is in use.',
    source: 'reclaim-migration-writeback.md 2.9',
    evidence: 'source',
    ways: {
      ten: { summary: 'Ten passes, each a full unmap, move and restore.' },
      'three-then-seven': { summary: 'Three asynchronous batched passes, then seven by folio.', in: { since: '6.3' } },
    },
    note: 'read in 6.1.192 and 6.12.117; the release between is from memory',
  },
  'migration.entry-wait-without-ref': {
    summary: 'Who waits for a migration entry takes no reference of the page.',
    commit: 'ffa65753c431',
    source: 'reclaim-migration-writeback.md B32',
    evidence: 'source',
    in: { since: '5.17' },
  },
  'migration.refuses-inaccessible': {
    summary: 'Folios of an inaccessible mapping (guest_memfd) are refused with EOPNOTSUPP.',
    source: 'reclaim-migration-writeback.md R39',
    evidence: 'source',
    in: { since: '6.8' },
    note: 'the mainline release is from memory',
  },
  'migration.shmem-swap-cache-slots': {
    summary: 'Moving a shmem folio in the swap cache updates one slot per page.',
    commit: '60cf233b585c',
    source: 'reclaim-migration-writeback.md B42',
    evidence: 'changelog',
    in: [{ until: '6.7, 6.1.71, 6.6.10' }, { since: '6.14, 6.1.132, 6.6.85, 6.12.21, 6.13.9' }],
  },
  'migration.device-flush-under-lock': {
    summary: 'Migration to device memory flushes before it drops the page-table lock.',
    commit: '60bae7370896',
    source: 'reclaim-migration-writeback.md B43',
    evidence: 'unverified',
    in: { since: '6.0' },
  },
  'migration.device-keeps-dirty': {
    summary: 'Migration to device memory carries the dirty bit of the entry over to the page.',
    commit: 'fd35ca3d12cc',
    source: 'reclaim-migration-writeback.md B43',
    evidence: 'unverified',
    in: { since: '6.0' },
  },
  'migration.move-pages-status': {
    summary:
      'move_pages returns the number of pages that could not be moved and leaves the status of that batch unwritten.',
    source: 'reality/README.md 11',
    evidence: 'observed',
    in: 'always',
  },
});
