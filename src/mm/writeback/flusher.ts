// The flusher threads of a machine (fs/fs-writeback.c wb_workfn): they wait until a file has dirty pages, let them grow
// old, and write them; or write at once when reclaim or a full machine wakes them. One thread for all devices.
import { Cell } from '../../engine/cell.ts';
import { call, type Process, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { until } from '../../engine/wait.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';
import { PG_DIRTY } from '../page-flags.ts';
import type { Task } from '../process/task.ts';
import { installPageout } from '../reclaim/pageout-hooks.ts';
import { writeAndWait } from './msync.ts';
import { cachedIndices, filemapFdatawait, pageoutFile, writeCachePages } from './writeback.ts';
import { installWriteAndWait } from './writeback-hooks.ts';

const WAIT = step('wb_workfn:wait', 'none');
const INTERVAL = step('wb_workfn:dirty_writeback_interval', 'none');
const THRESHOLD = step('wb_over_bg_thresh', 'op');
const EXPIRE = step('wb_check_old_data_flush', 'none');
const TAKE = step('writeback_single_inode', 'op');
const REQUEUE = step('requeue_inode', 'op');
const WAKE = step('wakeup_flusher_threads', 'op');

export interface FlusherParams {
  /** vm.dirty_writeback_centisecs: how long after the first dirtying it looks [ns]. */
  readonly intervalNs: number;
  /** vm.dirty_expire_centisecs: how old data gets before it is written [ns]. */
  readonly expireNs: number;
  /** vm.dirty_background_bytes: with this many dirty pages it does not wait for them to age. */
  readonly backgroundPages: number;
}

/** The kernel's defaults: 5 s, 30 s; 10 % of memory is for the caller to work out. */
export const FLUSHER_DEFAULTS: FlusherParams = {
  intervalNs: 5_000_000_000,
  expireNs: 30_000_000_000,
  backgroundPages: Number.POSITIVE_INFINITY,
};

export class Flusher {
  readonly core: CoreMm;
  readonly params: FlusherParams;
  /** Somebody wants everything written now. */
  private readonly woken: Cell<boolean>;

  constructor(core: CoreMm, params: Partial<FlusherParams> = {}) {
    this.core = core;
    this.params = { ...FLUSHER_DEFAULTS, ...params };
    this.woken = new Cell(core.sim, 'flusher wake-up', false);
  }

  /** Start the daemons as threads of the task `kernel`. At set-up, when every file is known. */
  start(kernel: Task): readonly Process[] {
    const { sim } = this.core;
    const daemons = [sim.spawn('flusher-woken', () => this.writeWoken(), { daemon: true })];
    // An interval of 0 switches periodic writeback off.
    if (this.params.intervalNs > 0) {
      daemons.unshift(sim.spawn('flusher', () => this.writeOld(), { daemon: true }));
    }
    for (const process of daemons) this.core.runAs(process, kernel);
    return daemons;
  }

  /** wakeup_flusher_threads: from reclaim that met dirty pages, from sync. */
  *wake(): Steps<void> {
    yield this.woken.willWrite(WAKE);
    this.woken.value = true;
  }

  private *writeOld(): Steps<void> {
    const { core, params } = this;
    for (;;) {
      const files = core.allInodes().filter((inode) => inode.kind === 'file');
      const dirty = files.map((inode) => inode.dirty);
      yield until(core.sim, dirty, () => dirty.some((cell) => cell.peek()), WAIT);
      yield core.sim.sleep(params.intervalNs, INTERVAL);
      const many = params.backgroundPages < Number.POSITIVE_INFINITY && (yield* call(this.overBackground(files)));
      if (!many) yield core.sim.sleep(Math.max(0, params.expireNs - params.intervalNs), EXPIRE);
      yield* call(this.writeAll(files));
    }
  }

  private *writeWoken(): Steps<void> {
    const { core } = this;
    for (;;) {
      yield until(core.sim, [this.woken], () => this.woken.peek(), WAIT, { update: true });
      this.woken.value = false;
      yield* call(this.writeAll(core.allInodes().filter((inode) => inode.kind === 'file')));
    }
  }

  /** wb_over_bg_thresh. */
  private *overBackground(files: readonly Inode[]): Steps<boolean> {
    const { folios, sim } = this.core;
    const heads = files.flatMap((inode) =>
      cachedIndices(inode, 0, inode.sizePages.peek()).map((index) => inode.pages.peek(index) - 1),
    );
    for (const head of heads) folios.flags.willRead(head, THRESHOLD);
    yield sim.local(THRESHOLD);
    return heads.filter((head) => (folios.flags.get(head) & PG_DIRTY) !== 0).length >= this.params.backgroundPages;
  }

  private *writeAll(files: readonly Inode[]): Steps<void> {
    for (const inode of files) {
      yield inode.dirty.willUpdate(TAKE);
      // Cleared before the pages are looked at: whoever dirties one after that sets it again.
      if (!inode.dirty.value) continue;
      inode.dirty.value = false;
      yield* call(this.writeInode(inode));
    }
  }

  /** Pages that were under writeback already were passed over: the inode stays on the list if they are dirty again. */
  private *writeInode(inode: Inode): Steps<void> {
    const { core } = this;
    const end = 2 ** 32;
    yield* call(writeCachePages(core, inode, { sync: 'none', from: 0, to: end }));
    const left = cachedIndices(inode, 0, end).map((index) => inode.pages.peek(index) - 1);
    for (const head of left) core.folios.flags.willRead(head, REQUEUE);
    yield inode.dirty.willUpdate(REQUEUE);
    if (!left.some((head) => (core.folios.flags.get(head) & PG_DIRTY) !== 0)) return;
    inode.dirty.value = true;
    yield* call(filemapFdatawait(core, inode, 0, end));
  }
}

/**
 * Let reclaim and hole punching call writeback. At set-up, in every world that has files; without a flusher reclaim's
 * wake-ups come to nothing.
 */
export function installWriteback(core: CoreMm, flusher: Flusher | null = null): void {
  installWriteAndWait(core, writeAndWait);
  installPageout(core, {
    pageoutFile,
    *wakeFlushers() {
      if (flusher !== null) yield* call(flusher.wake());
    },
  });
}
