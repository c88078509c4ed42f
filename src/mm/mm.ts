// mm_struct: one address space.
import { Cell, Tally } from '../engine/cell.ts';
import { hashText, mix } from '../engine/hash.ts';
import { OrderedTable } from '../engine/ordered.ts';
import { RwSem } from '../engine/rwsem.ts';
import type { Sim } from '../engine/sim.ts';
import type { Cpu } from '../hw/cpu.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Vma } from './mapping/vma.ts';
import { NotifierList } from './notifier.ts';
import { PageTable } from './page-table.ts';

export class Mm {
  readonly sim: Sim;
  readonly name: string;
  readonly identity: number;
  /** Address space number: the tag of its TLB entries. */
  readonly asid: number;
  readonly mmapLock: RwSem;
  /** VMAs by first page. Written under mmap_lock held for write (and the rmap locks of what they map). */
  readonly vmas: OrderedTable<Vma>;
  /** VMAs that munmap took out of `vmas` and has not unmapped yet: gone for faults, still there for rmap walks. */
  readonly detached: Cell<readonly Vma[]>;
  readonly pageTable: PageTable;
  /** MMF_HAS_PINNED: set before the first pin attempt, never cleared, not inherited by fork. */
  readonly hasPinned: Cell<boolean>;
  /** write_protect_seq: odd while fork copies a COW VMA. */
  readonly writeProtectSeq: Cell<number>;
  /** mm->locked_vm [pages]: mlock and VFIO type1. */
  readonly lockedVm: Cell<number>;
  /** mm->pinned_vm [pages]: io_uring, iommufd. */
  readonly pinnedVm: Cell<number>;
  /** mm_users: 0 once exit_mmap may run. */
  readonly users: Cell<number>;
  /** CPUs that may hold TLB entries of this mm (mm_cpumask). */
  readonly cpumask: Cell<readonly Cpu[]>;
  /** tlb_flush_pending: open mmu_gathers. */
  readonly tlbFlushPending: Tally;
  /** tlb_flush_batched: deferred unmap flushes begun and done (pending generation, flushed generation). */
  readonly tlbFlushBatched: Cell<readonly [number, number]>;
  /** MMF_UNSTABLE: the OOM reaper has been here. */
  readonly unstable: Cell<boolean>;
  /** MMF_OOM_SKIP: nothing more to gain from it, reaped or gone. */
  readonly oomSkip: Cell<boolean>;
  readonly notifiers: NotifierList;

  /** `kernel` decides how its notifiers behave. `name` must not depend on the interleaving. */
  constructor(sim: Sim, kernel: Kernel, name: string) {
    this.sim = sim;
    this.name = name;
    this.identity = mix(hashText(name), 0x6d6d6d6d);
    this.asid = this.identity & 0x7fffffff;
    this.mmapLock = new RwSem(sim, `mmap_lock of ${name}`);
    this.vmas = new OrderedTable<Vma>(sim, `VMAs of ${name}`);
    this.detached = new Cell<readonly Vma[]>(sim, `detached VMAs of ${name}`, [], this.vmas);
    this.pageTable = new PageTable(sim, name);
    this.hasPinned = new Cell(sim, `MMF_HAS_PINNED of ${name}`, false);
    this.writeProtectSeq = new Cell(sim, `write_protect_seq of ${name}`, 0);
    this.lockedVm = new Cell(sim, `locked_vm of ${name}`, 0);
    this.pinnedVm = new Cell(sim, `pinned_vm of ${name}`, 0);
    this.users = new Cell(sim, `mm_users of ${name}`, 1);
    this.cpumask = new Cell<readonly Cpu[]>(sim, `cpumask of ${name}`, []);
    this.tlbFlushPending = new Tally(sim, `tlb_flush_pending of ${name}`);
    this.tlbFlushBatched = new Cell<readonly [number, number]>(sim, `tlb_flush_batched of ${name}`, [0, 0]);
    this.unstable = new Cell(sim, `MMF_UNSTABLE of ${name}`, false);
    this.oomSkip = new Cell(sim, `MMF_OOM_SKIP of ${name}`, false);
    this.notifiers = new NotifierList(sim, this, kernel.has('notifier.failed-start-gets-end'));
  }

  /** vma_lookup / find_vma_intersection of one page, in a step that announced `vmas`. */
  vmaAt(vpn: number): Vma | undefined {
    const entry = this.vmas.floor(vpn);
    return entry?.[1].contains(vpn) === true ? entry[1] : undefined;
  }

  /** VMAs that overlap [from, to), ascending. */
  vmasIn(from: number, to: number): readonly Vma[] {
    const first = this.vmas.floor(from);
    const start = first !== undefined && first[1].end > from ? first[0] : from;
    return this.vmas.range(start, to).map(([, vma]) => vma);
  }
}
