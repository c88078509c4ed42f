// On-demand-paging regions of an RDMA device (drivers/infiniband/hw/mlx5 mr.c, odp.c, umr.c; core/umem_odp.c) as far as their
// end goes: no page is pinned, an interval notifier tells of invalidations. Changes of the device's own table are requests
// that name the region's key, on one queue for all regions; a request with a revoked key stops that queue for good. Which
// frames the device's table holds is not modelled, nor DMA through it.
import { Cell } from '../engine/cell.ts';
import { Mutex } from '../engine/lock.ts';
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import type { CoreMm } from '../mm/core.ts';
import type { Mm } from '../mm/mm.ts';
import { IntervalNotifier } from '../mm/notifier.ts';
import { registerNotifier } from '../mm/notifier-register.ts';

const MAP_LOCK = step('ib_umem_odp_map_dma_and_lock:umem_mutex', 'lock');
const RETRY = step('ib_umem_odp_map_dma_and_lock:mmu_interval_read_retry', 'op');
const MAPPED = step('pagefault_real_mr:unlock', 'lock');
const INVALIDATE = step('mlx5_ib_invalidate_range:umem_mutex', 'lock');
const LOOK = step('mlx5_ib_invalidate_range:npages', 'op');
const POST = step('mlx5r_umr_update_xlt', 'op');
const INVALIDATED = step('mlx5_ib_invalidate_range:unlock', 'lock');
const REVOKE_LOCK = step('mlx5_revoke_mr:umem_mutex', 'lock');
const REVOKE = step('mlx5r_umr_revoke_mr', 'op');
const FORGET = step('mlx5_revoke_mr:unlock', 'lock');
const RELEASE = step('ib_umem_odp_release:umem_mutex', 'lock');

/** The queue on which all regions of the device change their translations. */
export class UmrQueue {
  readonly failed: Cell<boolean>;

  constructor(core: CoreMm) {
    this.failed = new Cell(core.sim, 'UMR queue in error state', false);
  }
}

export class OdpRegion {
  readonly name: string;
  private readonly core: CoreMm;
  private readonly mm: Mm;
  private readonly queue: UmrQueue;
  private readonly umemMutex: Mutex;
  private readonly interval: IntervalNotifier;
  /** The key is known to the hardware. */
  private readonly keyValid: Cell<boolean>;
  /** umem_odp->npages and ->private: pages in the device's table, and whether callbacks still find the region. */
  private readonly mapped: Cell<number>;
  private readonly known: Cell<boolean>;

  constructor(core: CoreMm, mm: Mm, queue: UmrQueue, name: string, vpn: number, pages: number) {
    const { sim } = core;
    this.core = core;
    this.mm = mm;
    this.queue = queue;
    this.name = name;
    this.umemMutex = new Mutex(sim, `umem_mutex of ${name}`);
    this.keyValid = new Cell(sim, `key of ${name}`, true);
    this.mapped = new Cell(sim, `npages of ${name}`, 0);
    this.known = new Cell(sim, `region behind ${name}`, true, this.mapped);
    const placement = { name, start: vpn, end: vpn + pages };
    this.interval = new IntervalNotifier(sim, placement, (_range, seq) => this.invalidate(seq));
  }

  /** mlx5_ib_reg_user_mr, and a prefetch of the whole range, whose pages are there. */
  *register(): Steps<void> {
    const { core, interval, mm, umemMutex, mapped } = this;
    // mmu_interval_notifier_insert
    if (!mm.notifiers.hasIntervals) yield* call(registerNotifier(core, mm, null));
    yield* call(mm.notifiers.insert(interval));
    for (;;) {
      const seq = yield* call(mm.notifiers.readBegin(interval));
      yield umemMutex.lock(MAP_LOCK);
      yield interval.seq.willRead(RETRY);
      const again = interval.seq.value !== seq;
      mapped.willUpdate(MAPPED);
      yield umemMutex.willChange(MAPPED);
      if (!again) mapped.value = interval.end - interval.start;
      umemMutex.releaseNow();
      if (!again) return;
    }
  }

  /** mlx5_ib_invalidate_range */
  private *invalidate(seq: number): Steps<boolean> {
    const { umemMutex, mapped, interval } = this;
    yield umemMutex.lock(INVALIDATE);
    yield* call(interval.setSeq(seq));
    yield mapped.willRead(LOOK);
    const ours = mapped.value > 0 && this.known.value;
    if (ours) yield* call(this.postUmr());
    mapped.willUpdate(INVALIDATED);
    yield umemMutex.willChange(INVALIDATED);
    if (ours) mapped.value = 0;
    umemMutex.releaseNow();
    return true;
  }

  /** mlx5r_umr_update_xlt: takes translations out of the device's table, by the region's key. */
  private *postUmr(): Steps<void> {
    const { keyValid, queue, core } = this;
    keyValid.willRead(POST);
    yield queue.failed.willUpdate(POST);
    if (keyValid.value) return;
    queue.failed.value = true;
    core.sim.report({
      kind: 'use-after-free',
      message: `${core.current.process.name} asks the device to change ${this.name} by a key that has been revoked: the queue of all regions stops`,
      reasons: ['the region is being deregistered: its key is gone from the hardware, and invalidations still find it'],
      actors: [core.current.process.name],
      objects: [keyValid.name],
      steps: [],
      details: {},
      identity: 'use-after-free|mlx5r_umr_update_xlt|revoked key',
    });
  }

  /** mlx5_ib_dereg_mr: revoke the key, then release the region and its notifier. */
  *deregister(): Steps<void> {
    const { umemMutex, mapped, keyValid } = this;
    const locked = this.core.kernel.has('notifier.odp-revoke-under-mutex');
    if (locked) yield umemMutex.lock(REVOKE_LOCK);
    yield keyValid.willWrite(REVOKE);
    keyValid.value = false;
    if (locked) {
      mapped.willUpdate(FORGET);
      yield umemMutex.willChange(FORGET);
      this.known.value = false;
      umemMutex.releaseNow();
    }
    mapped.willUpdate(RELEASE);
    yield umemMutex.lock(RELEASE);
    mapped.value = 0;
    umemMutex.releaseNow();
    yield* call(this.mm.notifiers.remove(this.interval));
  }
}
