// Dirty tracking, writeback and truncation of file pages. Kernel files: mm/page-writeback.c, mm/truncate.c, fs/ext4/inode.c.
import { subject } from '../behaviour.ts';

export const writeback = subject({
  'writeback.ext4-dirty-without-buffers': {
    summary: 'What ext4 does with a dirty folio whose buffers were stripped.',
    commit: 'cc5095747edf',
    source: 'reclaim-migration-writeback.md B27',
    evidence: 'changelog',
    ways: {
      bug: { summary: 'It stops the kernel.' },
      'warn-and-drop': {
        summary: 'It warns and clears the dirty flag: the write is lost.',
        in: { since: '5.18, 5.4.189, 5.10.110, 5.15.33, 5.16.19, 5.17.2' },
      },
    },
  },
  'writeback.s390-uv-waits-with-ref': {
    summary: 'Making a page secure waits for writeback while it holds a reference of the folio.',
    commit: '3f29f6537f54',
    source: 'reclaim-migration-writeback.md B49',
    evidence: 'changelog',
    in: { since: '6.11, 6.1.103, 6.6.44, 6.10.3' },
    arch: ['s390x'],
  },
  'writeback.ext4-writepage': {
    summary: 'ext4 lets reclaim write one dirty page; without it such pages wait for the flusher.',
    commit: 'dae999602eeb',
    source: 'reclaim-migration-writeback.md 2.3 step 11',
    evidence: 'source',
    in: { until: '6.3' },
    note: '6.1.192 has the hook, 6.12.117 has not; the release by commit',
  },
  'drop-caches.drains-lru': {
    summary: 'drop_caches drains the per-CPU LRU batches first, so that their references keep no page.',
    commit: '8a144612eb8a',
    source: 'reclaim-migration-writeback.md R55',
    evidence: 'list',
    in: { since: '6.6' },
  },
  'tmpfs.direct-io': {
    summary: 'A tmpfs file can be opened with O_DIRECT, and then is read and written through the page cache as ever.',
    commit: 'e88e0d366f9c',
    source: 'reality/README.md, pins/dma_write_then_writeback/tmpfs_shared_rw',
    evidence: 'observed',
    in: { since: '6.6' },
  },
  'dio.pins-user-pages': {
    summary: 'Direct IO takes pins (FOLL_PIN) of user pages, not plain references.',
    commit: 'a7e689dd1c06',
    source: 'reclaim-migration-writeback.md 1.2 item 1',
    evidence: 'list',
    in: { since: '6.5' },
    requires: ['gup.foll-pin'],
  },
  'writeback.dirty-tracking-apart-from-writenotify': {
    summary: 'Whether a mapping needs dirty tracking is a question of its own, which long-term pins ask.',
    commit: '54cbbbf3faf6',
    source: 'gup.md R14',
    evidence: 'source',
    in: { since: '6.5' },
  },
  'truncate.unmaps-on-split-failure': {
    summary:
      'Truncation inside a large folio that cannot be split unmaps it, so that nothing beyond the end stays mapped.',
    commit: 'fa04f5b60fda',
    source: 'reclaim-migration-writeback.md B41',
    evidence: 'source',
    in: { since: '6.18, 6.1.192, 6.12.117' },
    note: 'first releases of 6.1.y and 6.12.y not known; 6.1.192 and 6.12.117 have it',
  },
  'pagemap.scan': {
    summary: 'PAGEMAP_SCAN reports and write-protects ranges of an address space.',
    commit: '52526ca7fdb9',
    source: 'mmu-notifier.md C23',
    evidence: 'changelog',
    in: { since: '6.7' },
  },
  'pagemap.scan-notifies-inside-lock': {
    summary: 'PAGEMAP_SCAN opens its notifier window while it holds mmap_lock.',
    commit: '4cccb6221cae',
    source: 'reclaim-migration-writeback.md B58',
    evidence: 'changelog',
    in: { since: '6.8, 6.7.3' },
    requires: ['pagemap.scan'],
  },
  'pagemap.kpageflags-ksm-on-anon': {
    summary: 'kpageflags reports KSM for every anonymous page (a reporting bug).',
    source: 'reality/README.md, reading the evidence',
    evidence: 'observed',
    in: { since: '6.12' },
    note: 'observed in 6.12.117 and not in 6.1.192; the releases of its beginning and end are not known',
  },
});
