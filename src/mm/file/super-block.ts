// A mounted filesystem as far as freezing and remounting go (fs/super.c): who may start to write, and who is writing.
// Pins are not asked anywhere here: a device writes to the page cache of a frozen or read-only filesystem.
import { Cell } from '../../engine/cell.ts';
import { call, type Steps } from '../../engine/process.ts';
import type { Sim } from '../../engine/sim.ts';
import { type Announced, step } from '../../engine/step.ts';
import { until } from '../../engine/wait.ts';
import type { Errno } from '../errno.ts';

const START = step('sb_start_write', 'lock');
const END = step('sb_end_write', 'lock');
const FREEZE = step('freeze_super', 'op');
const DRAIN = step('sb_wait_write', 'lock');
const THAW = step('thaw_super', 'op');

/** Levels of s_writers.frozen. */
export type FreezeLevel = 'unfrozen' | 'write' | 'pagefault' | 'fs' | 'complete';

/** What starts writing: a system call, or a page fault. The later level is stopped later. */
export type WriteLevel = 'write' | 'pagefault';

export class SuperBlock {
  readonly sim: Sim;
  readonly name: string;
  readonly frozen: Cell<FreezeLevel>;
  readonly readOnly: Cell<boolean>;
  /** sb_start_write / sb_start_pagefault sections under way. */
  private readonly sections: Readonly<Record<WriteLevel, Cell<number>>>;

  constructor(sim: Sim, name: string) {
    this.sim = sim;
    this.name = name;
    this.frozen = new Cell<FreezeLevel>(sim, `freeze level of ${name}`, 'unfrozen');
    this.readOnly = new Cell(sim, `SB_RDONLY of ${name}`, false);
    this.sections = {
      write: new Cell(sim, `writers of ${name}`, 0),
      pagefault: new Cell(sim, `faulting writers of ${name}`, 0),
    };
  }

  private admits(level: WriteLevel): boolean {
    const frozen = this.frozen.peek();
    return frozen === 'unfrozen' || (level === 'pagefault' && frozen === 'write');
  }

  /** sb_start_write, sb_start_pagefault: waits while the filesystem is frozen at this level. */
  *startWrite(level: WriteLevel): Steps<void> {
    const section = this.sections[level];
    section.willUpdate(START);
    yield until(this.sim, [this.frozen], () => this.admits(level), START, { name: `the thaw of ${this.name}` });
    section.value += 1;
  }

  /** sb_end_write, sb_end_pagefault. */
  endWrite(level: WriteLevel): Announced {
    return this.sections[level].willUpdate(END);
  }

  /** In the step announced by `endWrite`. */
  endWriteNow(level: WriteLevel): void {
    this.sections[level].value -= 1;
  }

  /** FIFREEZE: stop writers, then faults, write everything out (`sync`), then freeze. EBUSY: frozen already. */
  *freeze(sync: () => Steps<void>): Steps<'ok' | Errno> {
    yield this.frozen.willUpdate(FREEZE);
    if (this.frozen.value !== 'unfrozen') return 'EBUSY';
    this.frozen.value = 'write';
    yield* call(this.drain('write'));
    yield this.frozen.willUpdate(FREEZE);
    this.frozen.value = 'pagefault';
    yield* call(this.drain('pagefault'));
    yield* call(sync());
    yield this.frozen.willUpdate(FREEZE);
    this.frozen.value = 'complete';
    return 'ok';
  }

  private *drain(level: WriteLevel): Steps<void> {
    const section = this.sections[level];
    yield until(this.sim, [section], () => section.peek() === 0, DRAIN, {
      name: `${level === 'write' ? 'writers' : 'faulting writers'} of ${this.name}`,
      lasting: true,
    });
  }

  /** FITHAW. EINVAL: not frozen. */
  *thaw(): Steps<'ok' | Errno> {
    yield this.frozen.willUpdate(THAW);
    if (this.frozen.value !== 'complete') return 'EINVAL';
    this.frozen.value = 'unfrozen';
    return 'ok';
  }
}
