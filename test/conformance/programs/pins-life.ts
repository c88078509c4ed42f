// pins.c life and wb: userfaultfd and memory errors under pins, owners that exit, and when DMA data reaches the disk.
import { call, type Steps } from '../../../src/engine/process.ts';
import { MEM_BOOT } from '../mem.ts';
import { type Observed, Pinned, pinPrograms } from '../pinned.ts';
import type { Program } from '../program.ts';
import { type Session, word } from '../session.ts';
import { snap } from '../snap.ts';
import { byteOf, IOVA0, must, PG, vfMap } from '../vf.ts';

const MB = 256n * PG;

/** do_uffdwp */
function* writeProtected(p: Pinned): Steps<void> {
  const { s, observed, mem } = p;
  const result = yield* call(s.op('uffd.writeprotect', { memory: mem.memory }));
  yield* call(p.dmaWrite('D'));
  observed.cpu_sees_dma_write = (yield* call(p.cpu())) === byteOf('D');
  // A message would come with a fault, and the entry would have lost its mark to it.
  const { shows } = yield* call(s.op('pagemap', { memory: mem.memory, length: PG }));
  observed.uffd_event_raised = shows.uffd_wp !== true;
  observed.same_pfn = shows.pfn === p.f0;
  yield* call(s.op('uffd.writeprotect', { memory: mem.memory, protect: false }));
  yield* call(p.cpuWrite('w'));
  observed.same_pfn_after_unprotect_and_write = (yield* call(p.pfn())) === p.f0;
  yield* call(p.finish(result));
}

/** do_exit: the owner of the memory exits, a child of it keeps the descriptors. */
function* ownerExits(s: Session, type: string): Steps<void> {
  let done = false;
  yield* call(
    s.fork('owner', function* (owner) {
      const p = new Pinned(owner, 'owner_exits_child_keeps_fds', type, true);
      if (!(yield* call(p.begin()))) return;
      const before = yield* call(p.cpu());
      yield* call(
        owner.fork('heir', function* (heir) {
          for (let i = 0; i < 5; i++) yield* call(must(heir, 'settle', {}));
          const q = new Pinned(heir, 'owner_exits_child_keeps_fds', type, true);
          q.f0 = p.f0;
          const { observed } = q;
          observed.old_page_flags = (yield* call(p.kpage(p.f0))).flags;
          observed.dma_reads_old_content = (yield* call(q.dmaRead())) === before;
          yield* call(q.dmaWrite('D'));
          observed.dma_write_works = (yield* call(q.dmaRead())) === byteOf('D');
          yield* call(must(heir, 'mmap', { name: 'own', size: PG }));
          observed.child_map_own = word(yield* call(vfMap(heir, 'own', 0n, IOVA0 + 64n * MB, PG)));
          const unmap = yield* call(heir.op('vfio.unmap', { device: 'edu', iova: IOVA0, size: p.mem.bytes }));
          observed.child_unmap_of_dead_owner = word(unmap);
          observed.unmapped_bytes = Number(unmap.shows.unmapped);
          const { flags } = yield* call(q.kpage(p.f0));
          observed.page_freed = !flags.split('|').some((flag) => ['LRU', 'ANON', 'SWAPBACKED'].includes(flag));
          heir.emit(p.name, 'ok', p.args, observed);
          done = true;
        }),
      );
    }),
  );
  yield* call(must(s, 'waitpid', { process: 'owner' }));
  while (!done) yield* call(must(s, 'settle', {}));
}

/** do_exit_rel */
function* exitReleases(s: Session, type: string): Steps<void> {
  const before = yield* call(snap(s, null));
  yield* call(
    s.fork('owner', function* (owner) {
      yield* call(new Pinned(owner, 'process_exit_releases_pins', type, true).begin());
    }),
  );
  yield* call(must(s, 'waitpid', { process: 'owner' }));
  yield* call(must(s, 'settle', {}));
  const after = yield* call(snap(s, null));
  const observed: Observed = {
    foll_pin_acquired: after.acquired - before.acquired,
    foll_pin_released: after.released - before.released,
  };
  s.emit(`pins/process_exit_releases_pins/${type}`, 'ok', { type }, observed);
}

/** odirect_byte: what an O_DIRECT read of the file gives, or -EINVAL where the filesystem has none. */
function* odirect(p: Pinned): Steps<number> {
  const { s } = p;
  yield* call(must(s, 'cpu.write', { memory: 'buffer', value: 'zero' }));
  const read = yield* call(s.op('dio.read', { file: p.mem.memory, memory: 'buffer' }));
  if (read.errno === 'EINVAL') return -22;
  return byteOf((yield* call(must(s, 'cpu.read', { memory: 'buffer' }))).shows.value);
}

function* isDirty(p: Pinned): Steps<boolean> {
  return (yield* call(p.kpage(p.f0))).flags.split('|').includes('DIRTY');
}

function* fileByte(p: Pinned): Steps<number> {
  return byteOf((yield* call(must(p.s, 'file.read', { memory: p.mem.memory }))).shows.value);
}

function* dropCaches(p: Pinned): Steps<void> {
  yield* call(must(p.s, 'drop_caches', {}));
  yield* call(must(p.s, 'settle', {}));
}

/** do_wb */
function* writeback(p: Pinned): Steps<void> {
  const { s, observed, mem } = p;
  const { memory } = mem;
  yield* call(must(s, 'mmap', { name: 'buffer', size: PG }));
  yield* call(p.cpuWrite('C'));
  observed.msync_cpu_data = word(yield* call(s.op('msync', { memory })));
  observed.page_dirty_after_msync = yield* call(isDirty(p));
  observed.disk_after_cpu_msync = yield* call(odirect(p));
  yield* call(p.dmaWrite('D'));
  observed.cpu_sees_dma_write = (yield* call(p.cpu())) === byteOf('D');
  observed.page_dirty_after_dma = yield* call(isDirty(p));
  observed.msync_after_dma = word(yield* call(s.op('msync', { memory })));
  const result = yield* call(s.op('fsync', { memory }));
  observed.fsync_after_dma = word(result);
  const pinned = yield* call(odirect(p));
  observed.disk_after_dma_msync_fsync = pinned;
  observed.dma_data_on_disk_while_pinned = pinned === byteOf('D');
  observed.page_cache_has_dma_data = (yield* call(fileByte(p))) === byteOf('D');
  yield* call(dropCaches(p));
  observed.pinned_page_survives_drop_caches = (yield* call(p.pfn())) === p.f0;
  observed.unmap = word(yield* call(s.op('vfio.unmap', { device: 'edu', iova: IOVA0, size: mem.bytes })));
  observed.page_dirty_after_unmap = yield* call(isDirty(p));
  yield* call(s.op('fsync', { memory }));
  const after = yield* call(odirect(p));
  observed.disk_after_unmap_fsync = after;
  observed.dma_data_on_disk_after_unmap_fsync = after === byteOf('D');
  s.emit(p.name, result, p.args, observed);
}

/** do_wb_lost */
function* unmappedAndDropped(p: Pinned): Steps<void> {
  const { s, observed, mem } = p;
  yield* call(p.cpuWrite('C'));
  yield* call(s.op('msync', { memory: mem.memory }));
  yield* call(p.dmaWrite('D'));
  yield* call(must(s, 'munmap', { memory: mem.memory }));
  yield* call(must(s, 'sync', {}));
  yield* call(dropCaches(p));
  observed.file_read_while_pinned = yield* call(fileByte(p));
  yield* call(s.op('vfio.unmap', { device: 'edu', iova: IOVA0, size: mem.bytes }));
  yield* call(must(s, 'sync', {}));
  yield* call(dropCaches(p));
  const last = yield* call(fileByte(p));
  observed.file_read_after_unmap = last;
  observed.dma_data_lost = last !== byteOf('D');
  s.emit(p.name, 'ok', p.args, observed);
}

/** do_freeze: FIFREEZE, whatever its name says. */
function* frozen(p: Pinned): Steps<void> {
  const { s, observed, mem } = p;
  const { memory } = mem;
  yield* call(p.cpuWrite('C'));
  yield* call(s.op('msync', { memory }));
  yield* call(s.op('mprotect', { memory, prot: 'r' }));
  const result = yield* call(s.op('fsfreeze', { memory }));
  observed.fsfreeze = word(result);
  yield* call(p.dmaWrite('D'));
  observed.dma_changes_page_cache_of_frozen_fs = (yield* call(p.cpu())) === byteOf('D');
  yield* call(s.op('fsthaw', { memory }));
  yield* call(p.finish(result));
}

const PINNED = [true];
const OWNED = ['anon_rw_touched', 'memfd_shared_rw_touched'];
const EXT4 = 'ext4_shared_rw_touched';

export const pinsLife: readonly Program[] = [
  ...pinPrograms('uffd_wp_bypassed_by_dma', ['uffd_wp'], PINNED, writeProtected),
  ...OWNED.map((type) => ({
    name: `pins/owner_exits_child_keeps_fds/${type}`,
    boot: MEM_BOOT,
    run: (s: Session) => ownerExits(s, type),
  })),
  ...['anon_rw_touched', 'anon_thp'].map((type) => ({
    name: `pins/process_exit_releases_pins/${type}`,
    boot: MEM_BOOT,
    run: (s: Session) => exitReleases(s, type),
  })),
  ...pinPrograms('dma_write_then_writeback', [EXT4, 'tmpfs_shared_rw'], PINNED, writeback),
  ...pinPrograms('dma_write_munmap_dropcaches', [EXT4], PINNED, unmappedAndDropped),
  ...pinPrograms('remount_ro_then_dma', [EXT4], PINNED, frozen),
];
