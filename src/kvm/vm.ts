// A virtual machine (struct kvm): its address space, memslots, TDP roots, the state that keeps page faults and MMU
// notifiers apart, and its locks. Kernel files: virt/kvm/kvm_main.c, arch/x86/kvm/mmu. x86 with two-dimensional paging.
import { Cell } from '../engine/cell.ts';
import { Column } from '../engine/column.ts';
import { hashText, mix } from '../engine/hash.ts';
import { Mutex } from '../engine/lock.ts';
import { Rcu } from '../engine/rcu.ts';
import { RwLock } from '../engine/rwlock.ts';
import type { CoreMm } from '../mm/core.ts';
import type { Mm } from '../mm/mm.ts';
import type { NotifierOps } from '../mm/notifier.ts';
import type { GfnToPfnCache } from './gpc.ts';
import { AddressSpace } from './memslot.ts';
import { MAX_GFNS, type TdpRoot } from './tdp-root.ts';
import { Vcpu } from './vcpu.ts';
import type { HostMap } from './vcpu-map.ts';
import type { KvmVfioDevice } from './vfio-device.ts';

/** Address spaces of a default VM on x86: ordinary, and system management mode. */
const ADDRESS_SPACES = 2;

/** The invalidation range while it is empty (INVALID_GPA). */
export const NO_RANGE = -1;

export interface VmOptions {
  readonly name: string;
  /** KVM_X86_SW_PROTECTED_VM: guest memory can be private. Default: an ordinary VM. */
  readonly privateMemory?: boolean;
  /** KVM_X86_QUIRK_SLOT_ZAP_ALL: deleting a slot drops all roots. Default: on; only some kernels can switch it off. */
  readonly slotZapAll?: boolean;
  /** A zap may drop mmu_lock between entries (preemptible kernel, contended lock): every opportunity is a choice. */
  readonly yields?: boolean;
  /** KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: reading the log clears nothing. */
  readonly manualProtect?: boolean;
  /** The CPU logs dirty frames (Intel PML): dirty logging clears dirty bits instead of write permission. Default: no. */
  readonly pml?: boolean;
  /** The guest takes asynchronous page faults (MSR_KVM_ASYNC_PF_EN). Default: no. */
  readonly asyncPf?: boolean;
  /** Map 2 MiB at once where the host does. Default: yes. */
  readonly largePages?: boolean;
}

export class Vm {
  readonly core: CoreMm;
  readonly mm: Mm;
  readonly name: string;
  readonly identity: number;
  /** kvm_arch_has_private_mem */
  readonly privateMemory: boolean;
  readonly slotZapAll: boolean;
  readonly yields: boolean;
  readonly manualProtect: boolean;
  readonly pml: boolean;
  readonly asyncPf: boolean;
  readonly largePages: boolean;

  readonly mmuLock: RwLock;
  readonly slotsLock: Mutex;
  readonly slotsArchLock: Mutex;
  /** kvm->srcu: held by vCPUs outside the guest; memslot sets and gpc lists are read in it. */
  readonly srcu: Rcu;

  /** mmu_invalidate_seq: grows at the end of every window that hits a slot. */
  readonly seq: Cell<number>;
  /** mmu_invalidate_in_progress, with the one bounding interval of all open windows (gfns, or host pages: retry unit). */
  readonly inProgress: Cell<number>;
  readonly rangeStart: Cell<number>;
  readonly rangeEnd: Cell<number>;
  /** mn_active_invalidate_count: windows open, hit or not. Under mn_invalidate_lock, each use of which is one step. */
  readonly mnActive: Cell<number>;

  readonly spaces: readonly AddressSpace[];
  /** tdp_mmu_roots, valid or not. */
  readonly roots: Cell<readonly TdpRoot[]>;
  readonly vcpus: Cell<readonly Vcpu[]>;
  /** gpc_list, under gpc_lock. */
  readonly caches: Cell<readonly GfnToPfnCache[]>;
  /** Pages that KVM maps for itself (kvm_vcpu_map). */
  readonly hostMaps: Cell<readonly HostMap[]>;
  /** The one KVM-VFIO device. */
  readonly vfioDevice: Cell<KvmVfioDevice | null>;
  /** users_count: the VM's own file, and each guest_memfd made for it. */
  readonly users: Cell<number>;
  /** mem_attr_array: 1 where a guest frame is private. Written under slots_lock. */
  readonly attributes: Column;
  /** First and last but one frame of a change of attributes under way, or nothing. Under mmu_lock. */
  readonly changingAttributes: Cell<readonly number[]>;
  /** kvm_destroy_vm has begun: no ioctl works any more. */
  readonly dead: Cell<boolean>;
  /** struct kvm is freed. */
  readonly gone: Cell<boolean>;
  /** What is registered with mm.notifiers. */
  notifierOps: NotifierOps | null = null;

  constructor(core: CoreMm, mm: Mm, options: VmOptions) {
    const { sim } = core;
    const { name } = options;
    this.core = core;
    this.mm = mm;
    this.name = name;
    this.identity = mix(hashText(name), 0x6b766d00);
    this.privateMemory = options.privateMemory ?? false;
    this.slotZapAll = (options.slotZapAll ?? true) || !core.kernel.has('kvm.slot-zap-all-quirk');
    this.yields = options.yields ?? false;
    this.manualProtect = options.manualProtect ?? false;
    this.pml = options.pml ?? false;
    this.asyncPf = options.asyncPf ?? false;
    this.largePages = options.largePages ?? true;
    this.mmuLock = new RwLock(sim, `mmu_lock of ${name}`);
    this.slotsLock = new Mutex(sim, `slots_lock of ${name}`);
    this.slotsArchLock = new Mutex(sim, `slots_arch_lock of ${name}`);
    this.srcu = new Rcu(sim, `SRCU of ${name}`);
    this.seq = new Cell(sim, `mmu_invalidate_seq of ${name}`, 0);
    this.inProgress = new Cell(sim, `mmu_invalidate_in_progress of ${name}`, 0);
    this.rangeStart = new Cell(sim, `mmu_invalidate_range_start of ${name}`, NO_RANGE, this.inProgress);
    this.rangeEnd = new Cell(sim, `mmu_invalidate_range_end of ${name}`, NO_RANGE, this.inProgress);
    this.mnActive = new Cell(sim, `mn_active_invalidate_count of ${name}`, 0);
    this.spaces = Array.from({ length: ADDRESS_SPACES }, (_, asId) => new AddressSpace(sim, name, asId));
    this.roots = new Cell<readonly TdpRoot[]>(sim, `TDP roots of ${name}`, []);
    this.vcpus = new Cell<readonly Vcpu[]>(sim, `vCPUs of ${name}`, []);
    this.caches = new Cell<readonly GfnToPfnCache[]>(sim, `pfn caches of ${name}`, []);
    this.hostMaps = new Cell<readonly HostMap[]>(sim, `host maps of ${name}`, []);
    this.vfioDevice = new Cell<KvmVfioDevice | null>(sim, `KVM-VFIO device of ${name}`, null);
    this.users = new Cell(sim, `users_count of ${name}`, 1);
    const rows = {
      rows: MAX_GFNS,
      sparse: true,
      width: 'u8',
      rowName: (gfn: number) => `attributes of gfn ${gfn}`,
    } as const;
    this.attributes = new Column(sim, `memory attributes of ${name}`, rows);
    this.changingAttributes = new Cell<readonly number[]>(sim, `attribute change of ${name}`, []);
    this.gone = new Cell(sim, `end of ${name}`, false);
    this.dead = new Cell(sim, `vm_dead of ${name}`, false);
  }

  nameOf(): string {
    return this.name;
  }

  /** The root that vCPUs of an address space use, if any is valid. Looks without a step. */
  peekValidRoot(asId: number): TdpRoot | undefined {
    return this.roots.peek().find((root) => root.asId === asId && !root.nested && !root.invalid.peek());
  }

  /** KVM_CREATE_VCPU before anybody else knows of the VM: no step. Later: `createVcpu`. */
  addVcpuNow(): Vcpu {
    const { sim } = this.core;
    const vcpu = new Vcpu(sim, this.name, this.vcpus.peek().length);
    sim.unwatched(() => {
      this.vcpus.value = [...this.vcpus.value, vcpu];
    });
    return vcpu;
  }
}
