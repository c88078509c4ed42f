// Tasks (processes) and threads: credentials, limits, signals, open files, and which address space they use.
import { Cell } from '../../engine/cell.ts';
import { hashText, mix } from '../../engine/hash.ts';
import type { Process, Steps } from '../../engine/process.ts';
import type { Sim } from '../../engine/sim.ts';
import type { Cpu } from '../../hw/cpu.ts';
import type { Mm } from '../mm.ts';

export type Capability =
  | 'CAP_IPC_LOCK'
  | 'CAP_KILL'
  | 'CAP_SYS_ADMIN'
  | 'CAP_SYS_NICE'
  | 'CAP_SYS_PTRACE'
  | 'CAP_SYS_RAWIO'
  | 'CAP_SYS_RESOURCE';

/** user_struct: accounting that all processes of a uid share. */
export class User {
  readonly uid: number;
  readonly identity: number;
  /** user->locked_vm [pages] */
  readonly lockedVm: Cell<number>;

  constructor(sim: Sim, uid: number) {
    this.uid = uid;
    this.identity = mix(uid, 0x75736572);
    this.lockedVm = new Cell(sim, `locked_vm of uid ${uid}`, 0);
  }
}

/** An open file description: the last close runs `release`. */
export class OpenFile {
  readonly name: string;
  readonly identity: number;
  /** Descriptors (and mappings) that refer to it. */
  readonly references: Cell<number>;
  /** What it is: 'vfio-container', 'vfio-group', 'vfio-device', 'memfd', 'kvm-vm', 'io_uring'... */
  readonly kind: string;
  /** The object behind it. */
  readonly object: unknown;
  readonly release: (() => Steps<void>) | null;

  constructor(
    sim: Sim,
    fields: {
      readonly name: string;
      readonly kind: string;
      readonly object: unknown;
      readonly release?: () => Steps<void>;
    },
  ) {
    this.name = fields.name;
    this.kind = fields.kind;
    this.object = fields.object;
    this.release = fields.release ?? null;
    this.identity = hashText(fields.name);
    this.references = new Cell(sim, `references of ${fields.name}`, 1);
  }
}

export interface TaskFields {
  readonly name: string;
  readonly user: User;
  readonly capabilities: readonly Capability[];
  /** RLIMIT_MEMLOCK [bytes]; Infinity for unlimited. */
  readonly memlockBytes: number;
  /** Its hard limit; default: the same. */
  readonly memlockHardBytes?: number;
  /** PF_KTHREAD */
  readonly kernelThread?: boolean;
  /** Who may wait for its end. */
  readonly parent?: Task;
  /** oom_score_adj; default 0. */
  readonly oomScoreAdj?: number;
  /** The node of the CPUs that it runs on; default 0. */
  readonly homeNode?: number;
}

/** A thread group. */
export class Task {
  readonly sim: Sim;
  readonly name: string;
  readonly identity: number;
  /** cred->user */
  readonly credentials: Cell<User>;
  readonly capabilities: Cell<readonly Capability[]>;
  readonly memlockBytes: Cell<number>;
  readonly memlockHardBytes: Cell<number>;
  readonly kernelThread: boolean;
  readonly parent: Task | null;
  /** numa_node_id(): where its memory comes from first. */
  readonly homeNode: number;
  /** signal->oom_score_adj, -1000 to 1000 */
  readonly oomScoreAdj: Cell<number>;
  /** task->mm; null after exit_mm. exec replaces it. */
  readonly mm: Cell<Mm | null>;
  /** Open files by descriptor name. */
  readonly files: Cell<readonly OpenFile[]>;
  /** A fatal signal is pending: for every thread, or for all but the one that execs. */
  readonly killed: Cell<boolean>;
  /** signal->group_exec_task: one thread waits in exec for the others to end; they have; or it was killed meanwhile. */
  readonly execing: Cell<'no' | 'waiting' | 'alone' | 'killed'>;
  /** SIGBUS for a memory error (BUS_MCEERR_AR) waits for the next return to user mode. */
  readonly pendingSigbus: Cell<boolean>;
  readonly exited: Cell<boolean>;
  /** Its parent has waited for it. */
  readonly reaped: Cell<boolean>;

  constructor(sim: Sim, mm: Mm, fields: TaskFields) {
    this.sim = sim;
    this.name = fields.name;
    this.identity = mix(hashText(fields.name), 0x7461736b);
    this.credentials = new Cell(sim, `user of ${fields.name}`, fields.user);
    this.capabilities = new Cell<readonly Capability[]>(sim, `capabilities of ${fields.name}`, fields.capabilities);
    this.memlockBytes = new Cell(sim, `RLIMIT_MEMLOCK of ${fields.name}`, fields.memlockBytes);
    const hard = fields.memlockHardBytes ?? fields.memlockBytes;
    this.memlockHardBytes = new Cell(sim, `hard RLIMIT_MEMLOCK of ${fields.name}`, hard);
    this.kernelThread = fields.kernelThread ?? false;
    this.parent = fields.parent ?? null;
    this.homeNode = fields.homeNode ?? 0;
    this.oomScoreAdj = new Cell(sim, `oom_score_adj of ${fields.name}`, fields.oomScoreAdj ?? 0);
    this.mm = new Cell<Mm | null>(sim, `mm of ${fields.name}`, mm);
    this.files = new Cell<readonly OpenFile[]>(sim, `files of ${fields.name}`, []);
    this.killed = new Cell(sim, `fatal signal of ${fields.name}`, false);
    this.execing = new Cell<'no' | 'waiting' | 'alone' | 'killed'>(sim, `exec by a thread of ${fields.name}`, 'no');
    this.pendingSigbus = new Cell(sim, `SIGBUS of ${fields.name}`, false);
    this.reaped = new Cell(sim, `zombie of ${fields.name} reaped`, false);
    this.exited = new Cell(sim, `exit of ${fields.name}`, false);
  }

  /** RLIMIT_MEMLOCK in pages, as `rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT`; in a step that announced `memlockBytes`. */
  get memlockPages(): number {
    return Math.floor(this.memlockBytes.value / 4096);
  }
}

/** An actor of the simulation running as a thread of a task on a CPU. */
export class Thread {
  readonly process: Process;
  readonly task: Task;
  readonly cpu: Cpu;
  /** It performs a device beside its driver: no user code, no signals. */
  readonly device: boolean;
  // current->cred: a thread's own, so that only it looks at them, and without a step. It takes over what another has set
  // for all threads (setuid of the C library sends each a signal) on its way back to user mode.
  private ownUser: User;
  private ownCapabilities: readonly Capability[];

  constructor(process: Process, task: Task, cpu: Cpu, device: boolean) {
    this.process = process;
    this.task = task;
    this.cpu = cpu;
    this.device = device;
    this.ownUser = task.credentials.peek();
    this.ownCapabilities = task.capabilities.peek();
  }

  /** current_user() */
  get user(): User {
    return this.ownUser;
  }

  get capabilities(): readonly Capability[] {
    return this.ownCapabilities;
  }

  /** capable() */
  capable(capability: Capability): boolean {
    return this.ownCapabilities.includes(capability);
  }

  /** Credentials of the task are this thread's from now on, in a step that announced reading them. */
  takeCredentials(): void {
    this.ownUser = this.task.credentials.value;
    this.ownCapabilities = this.task.capabilities.value;
  }
}
