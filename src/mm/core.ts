// The one shared memory model: everything core mm knows, by reference. Kernel functions are module-level functions that
// take it first; it has no behaviour of its own beyond look-ups.
import { Cell, Tally } from '../engine/cell.ts';
import { Mutex } from '../engine/lock.ts';
import type { Process } from '../engine/process.ts';
import type { Sim } from '../engine/sim.ts';
import { Cpu } from '../hw/cpu.ts';
import { Frames } from '../hw/frames.ts';
import { type Machine, PMD_ORDER, type Zone } from '../hw/machine.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { FreeRuns } from './alloc/free-runs.ts';
import { PerCpu } from './alloc/per-cpu.ts';
import type { Inode } from './file/inode.ts';
import { Folios } from './folio.ts';
import type { Mm } from './mm.ts';
import { PG_ANON, PG_RESERVED } from './page-flags.ts';
import { Vmstat } from './proc/vmstat.ts';
import { type Task, Thread } from './process/task.ts';
import type { AnonVma } from './rmap/anon-vma.ts';
import { Swap } from './swap/swap.ts';

/** Free memory of a zone beyond the per-CPU lists. */
export class ZoneState {
  readonly zone: Zone;
  /** In the order in which they will be handed out. */
  readonly freeRuns: FreeRuns;
  readonly freePages: Tally;
  /** Watermarks [pages]. */
  readonly minPages: number;
  readonly lowPages: number;
  readonly highPages: number;
  /** MIGRATE_ISOLATE pageblocks (first pfn): being offlined or claimed by CMA. */
  readonly isolated: Cell<readonly number[]>;
  /** Runs [first, pages] that were taken offline: no struct page is online for them. */
  readonly offline: Cell<readonly (readonly [number, number])[]>;

  constructor(sim: Sim, zone: Zone) {
    this.zone = zone;
    this.freeRuns = new FreeRuns(sim, `free lists of ${zone.name}`, zone.firstPfn, zone.pages);
    this.freePages = new Tally(sim, `free pages of ${zone.name}`, zone.pages);
    // mm/page_alloc.c: min_free_kbytes = sqrt(16 * lowmem_kB), low = min + δ, high = low + δ, δ = max(min/4, 0.1 %).
    const minKb = Math.floor(Math.sqrt(16 * zone.pages * 4));
    this.minPages = Math.min(Math.floor(minKb / 4), zone.pages >> 4);
    const delta = Math.max(this.minPages >> 2, Math.floor(zone.pages / 1000));
    this.lowPages = this.minPages + delta;
    this.highPages = this.lowPages + delta;
    this.isolated = new Cell<readonly number[]>(sim, `isolated pageblocks of ${zone.name}`, []);
    this.offline = new Cell<readonly (readonly [number, number])[]>(sim, `offline memory of ${zone.name}`, []);
  }

  /** pfn_to_online_page fails: the frame is in a memory block that is offline. Looks without a step. */
  isOffline(pfn: number): boolean {
    return this.offline.peek().some(([first, pages]) => pfn >= first && pfn < first + pages);
  }
}

export interface CoreMmParams {
  /** How many pages one step of a bulk operation covers. Part of the digest. */
  readonly stepPages: number;
  /** NR_MAX_MIGRATE_PAGES_RETRY: how often a migration tries a page again. 10 in every kernel; searches take fewer. */
  readonly migratePasses: number;
  /** May an allocation get a page that another CPU freed: never, or as a choice. */
  readonly reuse: 'own' | 'choose';
  /** /sys/kernel/mm/transparent_hugepage/enabled */
  readonly thp: 'always' | 'madvise' | 'never';
  /** PTEs around a read fault on the page cache that are mapped with it (fault_around_bytes / 4096). */
  readonly faultAroundPages: number;
  readonly swapSlots: number;
  readonly swapStableWrites: boolean;
  /** zram: SWP_SYNCHRONOUS_IO. */
  readonly swapSynchronousIo: boolean;
  /** hugetlb pool [pages of that order]: by order 9 and 18. */
  readonly hugePages: Readonly<Record<number, number>>;
  /** Can anybody defer unmap flushes (reclaim, migration)? When not, checking for them is no step. */
  readonly defersFlushes: boolean;
  /** Where ordinary user memory is allocated first: zone kinds in order of preference. */
  readonly userZones: readonly Zone['kind'][];
}

export const DEFAULT_PARAMS: CoreMmParams = {
  stepPages: 1,
  migratePasses: 10,
  reuse: 'own',
  thp: 'always',
  faultAroundPages: 16,
  swapSlots: 0,
  swapStableWrites: false,
  swapSynchronousIo: true,
  hugePages: {},
  defersFlushes: true,
  // ZONELIST order for GFP_HIGHUSER_MOVABLE: the highest zone first.
  userZones: ['MOVABLE', 'CMA', 'NORMAL', 'DMA32'],
};

export class CoreMm {
  readonly sim: Sim;
  readonly kernel: Kernel;
  readonly machine: Machine;
  readonly frames: Frames;
  readonly folios: Folios;
  readonly cpus: readonly Cpu[];
  readonly perCpu: readonly PerCpu[];
  readonly zones: readonly ZoneState[];
  readonly swap: Swap;
  readonly vmstat: Vmstat;
  readonly params: CoreMmParams;
  /** Numbers of CPUs on which nobody runs until fork puts a child there. Set while the world is built. */
  readonly laterCpus = new Set<number>();
  /** tasklist_lock: children that fork has made; who walks all processes reads it. */
  readonly tasklist: Tally;
  /**
   * How many folios are on LRU lists; scanners read it, whoever adds or isolates adds to it. Also who takes a hugetlb page
   * into use, without changing it.
   */
  readonly lru: Tally;
  /** ZERO_PAGE(0), and the huge zero folio's head (allotted at boot). */
  readonly zeroPfn: number;
  readonly hugeZeroPfn: number;
  /** Free hugetlb pages by order: a list of heads, under hugetlb_lock. */
  readonly hugePool: ReadonlyMap<number, Cell<readonly number[]>>;
  /** resv_huge_pages by order: how many of the free ones are promised. Guarded by the pool: announced with it. */
  readonly hugeReserved: ReadonlyMap<number, Cell<number>>;
  /** mm_all_locks_mutex */
  readonly allLocks: Mutex;
  /** mf_mutex: one memory failure at a time. */
  readonly memoryFailureMutex: Mutex;
  // Weak: actors of past executions go with their processes.
  private readonly threads = new WeakMap<Process, Thread>();
  // Ids are hashes of names that do not depend on the interleaving, so entries left by other executions are right too.
  private readonly anonVmas = new Map<number, AnonVma>();
  private readonly inodes = new Map<number, Inode>();

  constructor(sim: Sim, kernel: Kernel, machine: Machine, cpus: number, params: Partial<CoreMmParams> = {}) {
    this.sim = sim;
    this.kernel = kernel;
    this.machine = machine;
    this.params = { ...DEFAULT_PARAMS, ...params };
    this.frames = new Frames(sim, machine);
    this.folios = new Folios(sim, this.frames);
    this.cpus = Array.from({ length: cpus }, (_, number) => new Cpu(sim, number));
    this.perCpu = this.cpus.map((cpu) => new PerCpu(sim, cpu));
    this.zones = machine.zones.map((zone) => new ZoneState(sim, zone));
    this.vmstat = new Vmstat(sim, kernel);
    this.tasklist = new Tally(sim, 'children forked');
    this.allLocks = new Mutex(sim, 'mm_all_locks_mutex');
    this.memoryFailureMutex = new Mutex(sim, 'mf_mutex');
    this.lru = new Tally(sim, 'folios on LRU lists');
    this.swap = new Swap(sim, this.params.swapSlots, {
      stableWrites: this.params.swapStableWrites,
      synchronousIo: this.params.swapSynchronousIo,
    });
    const boot = bootAllocations(this);
    this.zeroPfn = boot.zeroPfn;
    this.hugeZeroPfn = boot.hugeZeroPfn;
    this.hugePool = boot.hugePool;
    this.hugeReserved = new Map(
      [...boot.hugePool].map(([order, pool]) => [
        order,
        new Cell(sim, `reserved hugetlb pages of order ${order}`, 0, pool),
      ]),
    );
  }

  /** The thread that runs the current step. */
  get current(): Thread {
    const process = this.sim.current;
    const thread = process === null ? undefined : this.threads.get(process);
    if (thread === undefined) throw new Error(`${process?.name ?? 'set-up'} runs no thread`);
    return thread;
  }

  /**
   * Make `process` run as a thread of `task` (fork, clone, world building); `device`: beside it, as a device does or work
   * of the kernel's own.
   */
  runAs(process: Process, task: Task, device = false): Thread {
    const cpu = this.cpus[process.cpu % this.cpus.length]!;
    const thread = new Thread(process, task, cpu, device);
    this.threads.set(process, thread);
    const mm = task.mm.peek();
    if (mm !== null) this.join(mm, process.cpu);
    return thread;
  }

  /**
   * switch_mm: a CPU is in the mask of an address space before anybody else can see that: while the world is built, or fork
   * has not filled the child's. Flushes find the mask as it stays, whenever they look; before the CPU runs there, in vain.
   */
  join(mm: Mm, cpuNumber: number): void {
    const cpu = this.cpus[cpuNumber % this.cpus.length]!;
    this.sim.unwatched(() => {
      if (!mm.cpumask.value.includes(cpu)) mm.cpumask.value = [...mm.cpumask.value, cpu];
    });
  }

  threadOf(process: Process): Thread | undefined {
    return this.threads.get(process);
  }

  /** Make an anon_vma known to reverse mapping by its id. */
  addAnonVma(anonVma: AnonVma): AnonVma {
    this.anonVmas.set(anonVma.id, anonVma);
    return anonVma;
  }

  /** Make an inode known to reverse mapping by its id. */
  addInode(inode: Inode): Inode {
    this.inodes.set(inode.id, inode);
    return inode;
  }

  /** Every inode that was ever added, in order. */
  allInodes(): readonly Inode[] {
    return [...this.inodes.values()];
  }

  /** folio_anon_vma. Looks without a step: `mapping` of a mapped or locked folio does not change. */
  rmapAnon(head: number): AnonVma | undefined {
    return this.folios.has(head, PG_ANON) ? this.anonVmas.get(this.folios.mapping.peek(head)) : undefined;
  }

  /** folio_mapping of a file folio; undefined when truncated. */
  rmapInode(head: number): Inode | undefined {
    return this.folios.has(head, PG_ANON) ? undefined : this.inodes.get(this.folios.mapping.peek(head));
  }

  /** Per-CPU data of the running thread. */
  get local(): PerCpu {
    return this.perCpu[this.current.cpu.number]!;
  }
}

/** Frames taken at boot: zero page, huge zero folio, hugetlb pool. The boot node's last non-movable zone gives them. */
function bootAllocations(core: CoreMm): {
  zeroPfn: number;
  hugeZeroPfn: number;
  hugePool: ReadonlyMap<number, Cell<readonly number[]>>;
} {
  const { sim, folios, zones } = core;
  const host = zones.find((z) => z.zone.kind === 'NORMAL') ?? zones.find((z) => z.zone.kind === 'DMA32') ?? zones[0];
  if (host === undefined) throw new Error('a machine needs at least one zone with memory');
  const takeBlocks = (state: ZoneState, pages: number): number | undefined => {
    const run = state.freeRuns.value.find(([first, count]) => first % Math.min(pages, 512) === 0 && count >= pages);
    if (run === undefined) return undefined;
    state.freeRuns.cut(run[0], pages);
    state.freePages.add(-pages);
    return run[0];
  };
  // One block for both zero pages: the huge zero folio is allotted lazily by the kernel; here it always exists.
  const zeroBlock = takeBlocks(host, 512);
  const hugeZero = takeBlocks(host, 512);
  if (zeroBlock === undefined) throw new Error(`${host.zone.name} is too small: at least 4 MiB are needed`);
  const zeroPfn = zeroBlock;
  folios.refcount.set(zeroPfn, 1);
  folios.flags.set(zeroPfn, PG_RESERVED);
  const hugeZeroPfn = hugeZero ?? 0;
  if (hugeZeroPfn !== 0) {
    folios.order.set(hugeZeroPfn, 9);
    folios.refcount.set(hugeZeroPfn, 1);
  }
  const hugePool = new Map<number, Cell<readonly number[]>>();
  for (const [orderText, count] of Object.entries(core.params.hugePages)) {
    const order = Number(orderText);
    const heads: number[] = [];
    // htlb_alloc_mask: huge pages that can migrate are movable memory; gigantic ones come from where memblock has them.
    const kinds = order > PMD_ORDER ? ['NORMAL', 'DMA32', 'MOVABLE'] : ['MOVABLE', 'NORMAL', 'DMA32'];
    const donors = kinds.flatMap((kind) => zones.filter(({ zone }) => zone.kind === kind));
    const nodes = [...new Set(donors.map((z) => z.zone.node))];
    for (let i = 0; i < count; i++) {
      let head: number | undefined;
      // hstate_next_node_to_alloc: node after node, as long as each has some.
      const turn = nodes[i % nodes.length];
      for (const donor of donors)
        if (head === undefined && donor.zone.node === turn) head = takeBlocks(donor, 2 ** order);
      for (const donor of donors) if (head === undefined) head = takeBlocks(donor, 2 ** order);
      // hugetlb_hstate_alloc_pages: as many as there is memory for.
      if (head === undefined) break;
      folios.order.set(head, order);
      heads.push(head);
    }
    hugePool.set(order, new Cell<readonly number[]>(sim, `free hugetlb pages of order ${order}`, heads));
  }
  return { zeroPfn, hugeZeroPfn, hugePool };
}
