// An emulated device (mediated device: GVT-g, vfio-ap, vfio-ccw) as far as its pins go: it pins a page of guest memory when
// the guest names it, keeps it in a table, and lets go when VFIO tells it that the mapping goes. Table and pins change
// under the driver's own lock, as in the drivers of the kernel.
import { Cell } from '../engine/cell.ts';
import { hashText, mix } from '../engine/hash.ts';
import { Mutex } from '../engine/lock.ts';
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { until } from '../engine/wait.ts';
import { IO_READ, IO_WRITE } from '../hw/io-entry.ts';
import type { CoreMm } from '../mm/core.ts';
import type { Errno } from '../mm/errno.ts';
import { vfioPinPage, vfioUnpinPage } from './external.ts';
import type { UnmapListener, VfioIommu } from './iommu.ts';

const LOCK = step('mdev:lock', 'lock');
const UNLOCK = step('mdev:unlock', 'lock');
const GONE = step('mdev:wait-unpinned', 'none');
const FORGET = step('mdev:dma_unmap', 'op');

export class EmulatedDevice implements UnmapListener {
  readonly name: string;
  readonly identity: number;
  private readonly lock: Mutex;
  /** IOVA pages that it has pinned, ascending; under the lock. */
  private readonly pinned: Cell<readonly number[]>;
  private readonly core: CoreMm;

  constructor(core: CoreMm, name: string) {
    this.core = core;
    this.name = name;
    this.identity = mix(hashText(name), 0x6d646576);
    this.lock = new Mutex(core.sim, `lock of ${name}`);
    this.pinned = new Cell<readonly number[]>(core.sim, `pins of ${name}`, []);
  }

  /** Pin the page, unless it is pinned; with `again`, wait then until it is not and pin it anew. */
  *pin(iommu: VfioIommu, iova: number, again: boolean): Steps<'ok' | Errno> {
    if (again) {
      const gone = () => !this.pinned.peek().includes(iova);
      yield until(this.core.sim, [this.pinned], gone, GONE, { name: `unpinning of IOVA page ${iova} by ${this.name}` });
    }
    this.pinned.willUpdate(LOCK);
    yield this.lock.lock(LOCK);
    const known = this.pinned.value.includes(iova);
    const result = known ? 'ok' : yield* call(vfioPinPage(iommu, iova, IO_READ | IO_WRITE));
    this.pinned.willUpdate(UNLOCK);
    yield this.lock.willChange(UNLOCK);
    if (!known && typeof result === 'object') this.pinned.value = [...this.pinned.value, iova].sort((a, b) => a - b);
    this.lock.releaseNow();
    return typeof result === 'string' ? result : 'ok';
  }

  *unpin(iommu: VfioIommu, iova: number): Steps<void> {
    yield* call(this.dmaUnmap(iommu, iova, 1));
  }

  *dmaUnmap(iommu: VfioIommu, iova: number, pages: number): Steps<void> {
    yield this.lock.lock(FORGET);
    for (const page of this.pinned.peek().filter((pin) => pin >= iova && pin < iova + pages)) {
      yield* call(vfioUnpinPage(iommu, page));
    }
    this.pinned.willUpdate(UNLOCK);
    yield this.lock.willChange(UNLOCK);
    this.pinned.value = this.pinned.value.filter((pin) => pin < iova || pin >= iova + pages);
    this.lock.releaseNow();
  }
}
