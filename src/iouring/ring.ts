// An io_uring instance as far as memory goes (io_uring/io_uring.c): whom it charges, and its table of registered
// buffers. Rings and requests themselves are not modelled.
import { Cell } from '../engine/cell.ts';
import { hashText, mix } from '../engine/hash.ts';
import { Mutex } from '../engine/lock.ts';
import type { Sim } from '../engine/sim.ts';
import type { FrameRun } from '../mm/ledger.ts';
import type { Mm } from '../mm/mm.ts';
import type { Thread, User } from '../mm/process/task.ts';

/** io_mapped_ubuf: one registered buffer. Immutable. */
export class MappedBuffer {
  readonly identity: number;
  /** First byte, and length. */
  readonly base: bigint;
  readonly bytes: number;
  /** The frames behind the pages of the buffer, in order. */
  readonly runs: readonly FrameRun[];
  /** What is still pinned: `runs`, or the first page of each folio when the buffer was coalesced. */
  readonly held: readonly FrameRun[];
  /** imu->acct_pages */
  readonly chargedPages: number;
  /** Generation of each frame when it was pinned, in the order of the runs. */
  readonly generations: readonly number[];

  constructor(fields: Omit<MappedBuffer, 'identity'>) {
    this.base = fields.base;
    this.bytes = fields.bytes;
    this.runs = fields.runs;
    this.held = fields.held;
    this.chargedPages = fields.chargedPages;
    this.generations = fields.generations;
    const place = mix(hashText(String(fields.base)), fields.bytes | 0);
    this.identity = fields.runs.reduce((hash, run) => mix(mix(hash, run.pfn), run.pages), place);
  }
}

/** io_ring_ctx */
export class IoUring {
  readonly name: string;
  readonly identity: number;
  /** ctx->user: charged unless the creator had CAP_IPC_LOCK. */
  readonly user: User | null;
  /** ctx->mm_account: its pinned_vm shows the pages. */
  readonly mm: Mm;
  /** ctx->uring_lock */
  readonly lock: Mutex;
  /** ctx->user_bufs: null while nothing is registered; a null slot is sparse. */
  readonly buffers: Cell<readonly (MappedBuffer | null)[] | null>;
  /** Requests in flight that use registered buffers. */
  readonly requests: Cell<number>;

  /** io_uring_setup by `current`. The name must not depend on the interleaving. */
  constructor(sim: Sim, current: Thread, name: string) {
    const { task } = current;
    const mm = task.mm.peek();
    if (mm === null) throw new Error(`${task.name} has no address space to set up a ring in`);
    this.name = name;
    this.identity = mix(hashText(name), 0x72696e67);
    this.user = current.capable('CAP_IPC_LOCK') ? null : current.user;
    this.mm = mm;
    this.lock = new Mutex(sim, `uring_lock of ${name}`);
    this.buffers = new Cell<readonly (MappedBuffer | null)[] | null>(sim, `buffers of ${name}`, null);
    this.requests = new Cell(sim, `requests of ${name}`, 0);
  }

  /** Who holds the pins, for the ledger. */
  get owner(): string {
    return `io_uring ${this.name}`;
  }
}
