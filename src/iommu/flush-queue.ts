// The flush queue of a lazy DMA-API domain (drivers/iommu/dma-iommu.c queue_iova, fq_flush_iotlb, fq_flush_timeout):
// unmapped IOVAs wait for a flush of the whole domain that started after they were queued. Until then devices may still
// reach the pages, which their owner believes to be its own again.
import { Cell } from '../engine/cell.ts';
import { mix } from '../engine/hash.ts';
import { SpinLock } from '../engine/lock.ts';
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { until } from '../engine/wait.ts';
import type { IommuDomain } from './domain.ts';
import { invalidateDomain } from './invalidate.ts';

const LOCK = step('queue_iova:lock', 'lock');
const APPEND = step('queue_iova:append', 'op');
const START = step('fq_flush_iotlb:start', 'op');
const FINISH = step('fq_flush_iotlb:finish', 'op');
const REAP = step('fq_ring_free', 'op');
const ARM = step('queue_iova:arm-timer', 'op');
const IDLE = step('fq_flush_timeout:idle', 'none');
const SLEEP = step('fq_flush_timeout:timer', 'none');
const FIRE = step('fq_flush_timeout', 'op');

/** Queue sizes and timeouts: one ring per CPU, or one shared ring where each flush is dear. */
const PER_CPU = { entries: 256, timeoutNs: 10_000_000 } as const;
const SHARED = { entries: 32768, timeoutNs: 1_000_000_000 } as const;

/** An IOVA range that may not be used again yet. Immutable. */
class Waiting {
  readonly page: number;
  readonly pages: number;
  /** flush_start when it was queued: a flush with a greater number covers it. */
  readonly counter: number;
  readonly identity: number;

  constructor(page: number, pages: number, counter: number) {
    this.page = page;
    this.pages = pages;
    this.counter = counter;
    this.identity = mix(mix(page | 0, pages), counter);
  }
}

interface Ring {
  readonly lock: SpinLock;
  readonly entries: Cell<readonly Waiting[]>;
}

export class FlushQueue {
  readonly domain: IommuDomain;
  readonly shared: boolean;
  readonly flushStart: Cell<number>;
  readonly flushFinish: Cell<number>;
  readonly timerOn: Cell<boolean>;
  private readonly rings: readonly Ring[];
  private readonly freeIova: (page: number, pages: number) => Steps<void>;

  /** Made while the world is built: its timer is an actor. `freeIova` gives a range back to the allocator. */
  constructor(domain: IommuDomain, shared: boolean, freeIova: (page: number, pages: number) => Steps<void>) {
    const { sim, cpus } = domain.core;
    this.domain = domain;
    this.shared = shared;
    this.freeIova = freeIova;
    this.flushStart = new Cell(sim, `fq_flush_start_cnt of ${domain.name}`, 0);
    this.flushFinish = new Cell(sim, `fq_flush_finish_cnt of ${domain.name}`, 0);
    this.timerOn = new Cell(sim, `fq_timer_on of ${domain.name}`, false);
    const names = shared ? ['shared'] : cpus.map((cpu) => cpu.name);
    this.rings = names.map((name) => ({
      lock: new SpinLock(sim, `flush queue lock of ${domain.name} ${name}`),
      entries: new Cell<readonly Waiting[]>(sim, `flush queue of ${domain.name} ${name}`, []),
    }));
    sim.spawn(`fq-timer ${domain.name}`, () => this.timer(), { daemon: true });
  }

  /** IOVA pages that wait for a flush. Looks without a step. */
  get waiting(): number {
    return this.rings.reduce((sum, ring) => sum + ring.entries.peek().reduce((n, entry) => n + entry.pages, 0), 0);
  }

  /** queue_iova: the entries are cleared; the barrier before the counter is read is the order of these steps. */
  *queue(page: number, pages: number): Steps<void> {
    const { core } = this.domain;
    const ring = this.rings[this.shared ? 0 : core.current.cpu.number]!;
    yield ring.lock.lock(LOCK);
    yield* call(this.reap(ring));
    const { entries } = this.shared ? SHARED : PER_CPU;
    if (ring.entries.peek().length >= entries - 1) {
      yield* call(this.flush());
      yield* call(this.reap(ring));
    }
    this.flushStart.willRead(APPEND);
    ring.lock.willChange(APPEND);
    yield ring.entries.willUpdate(APPEND);
    ring.entries.value = [...ring.entries.value, new Waiting(page, pages, this.flushStart.value)];
    ring.lock.releaseNow();
    yield this.timerOn.willUpdate(ARM);
    if (!this.timerOn.value) this.timerOn.value = true;
  }

  /** fq_flush_iotlb: count the start, flush the whole domain, count the end. */
  private *flush(): Steps<void> {
    yield this.flushStart.willUpdate(START);
    this.flushStart.value += 1;
    yield* call(invalidateDomain(this.domain));
    yield this.flushFinish.willUpdate(FINISH);
    this.flushFinish.value += 1;
  }

  /** fq_ring_free_locked: what a finished flush has covered is free. */
  private *reap(ring: Ring): Steps<void> {
    this.flushFinish.willRead(REAP);
    yield ring.entries.willUpdate(REAP);
    const finished = this.flushFinish.value;
    const covered = ring.entries.value.filter((entry) => entry.counter < finished);
    if (covered.length === 0) return;
    ring.entries.value = ring.entries.value.filter((entry) => entry.counter >= finished);
    for (const { page, pages } of covered) yield* call(this.freeIova(page, pages));
  }

  /** fq_flush_timeout, armed by the first entry after each run. */
  private *timer(): Steps<void> {
    const { sim } = this.domain.core;
    const { timeoutNs } = this.shared ? SHARED : PER_CPU;
    for (;;) {
      yield until(sim, [this.timerOn], () => this.timerOn.peek(), IDLE);
      yield sim.sleep(timeoutNs, SLEEP);
      yield this.timerOn.willWrite(FIRE);
      this.timerOn.value = false;
      yield* call(this.flush());
      for (const ring of this.rings) {
        yield ring.lock.lock(LOCK);
        yield* call(this.reap(ring));
        yield ring.lock.unlock(LOCK);
      }
    }
  }
}
