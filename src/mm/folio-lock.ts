// PG_locked and PG_writeback: sleepable bit locks of a folio. Waiters of a migration entry hold no reference.
import type { Gate } from '../engine/gate.ts';
import type { Process } from '../engine/process.ts';
import { type Announced, READ, type Step, UPDATE } from '../engine/step.ts';
import type { CoreMm } from './core.ts';
import { PG_LOCKED, PG_WRITEBACK } from './page-flags.ts';

class FlagGate implements Gate {
  readonly name: string;
  private readonly core: CoreMm;
  private readonly head: number;
  private readonly mask: number;
  private readonly claim: boolean;

  constructor(core: CoreMm, head: number, mask: number, claim: boolean) {
    this.core = core;
    this.head = head;
    this.mask = mask;
    this.claim = claim;
    this.name = `${(mask & PG_LOCKED) !== 0 ? 'lock' : 'writeback'} of folio ${head}`;
  }

  ready(): boolean {
    return (this.core.folios.flags.peek(this.head) & this.mask) === 0;
  }

  take(): void {
    if (this.claim) this.core.folios.change(this.head, PG_LOCKED);
  }

  waitsFor(): readonly Process[] {
    return [];
  }
}

function wait(core: CoreMm, head: number, mask: number, claim: boolean, at: Step): Announced {
  const { sim, folios } = core;
  sim.gated(at, new FlagGate(core, head, mask, claim));
  const id = folios.flags.base + head;
  return sim.announce(id, id, claim ? UPDATE : READ, at);
}

/** folio_lock: resumes with PG_locked ours. */
export function lockFolio(core: CoreMm, head: number, at: Step): Announced {
  return wait(core, head, PG_LOCKED, true, at);
}

/** folio_wait_locked / migration_entry_wait: resumes when nobody holds the lock. */
export function waitUnlocked(core: CoreMm, head: number, at: Step): Announced {
  return wait(core, head, PG_LOCKED, false, at);
}

/** folio_wait_writeback */
export function waitWriteback(core: CoreMm, head: number, at: Step): Announced {
  return wait(core, head, PG_WRITEBACK, false, at);
}

/** Nobody holds the lock of any of the small folios first..last. */
class RunGate implements Gate {
  readonly name: string;
  private readonly core: CoreMm;
  private readonly first: number;
  private readonly last: number;

  constructor(core: CoreMm, first: number, last: number) {
    this.core = core;
    this.first = first;
    this.last = last;
    this.name = `locks of folios ${first} to ${last}`;
  }

  ready(): boolean {
    const { flags } = this.core.folios;
    for (let head = this.first; head <= this.last; head = flags.endOfRun(head, this.last) + 1) {
      if ((flags.peek(head) & PG_LOCKED) !== 0) return false;
    }
    return true;
  }

  take(): void {}

  waitsFor(): readonly Process[] {
    return [];
  }
}

/**
 * folio_lock of the small folios first..last, one after the other, by a caller who drops each lock in the same act:
 * resumes when nobody holds any of them, with their flags free to change.
 */
export function waitRunUnlocked(core: CoreMm, first: number, last: number, at: Step): Announced {
  const { sim, folios } = core;
  sim.gated(at, new RunGate(core, first, last));
  return folios.flags.willUpdateRange(first, last, at);
}

export function willTryLock(core: CoreMm, head: number, at: Step): Announced {
  return core.folios.flags.willUpdate(head, at);
}

/** folio_trylock, in a step announced by `willTryLock`. */
export function tryLockNow(core: CoreMm, head: number): boolean {
  const { folios } = core;
  const flags = folios.flags.get(head);
  if ((flags & PG_LOCKED) !== 0) return false;
  folios.flags.set(head, flags | PG_LOCKED);
  return true;
}

export function willUnlock(core: CoreMm, head: number, at: Step): Announced {
  return core.folios.flags.willUpdate(head, at);
}

/** folio_unlock, in a step announced by `willUnlock`. */
export function unlockNow(core: CoreMm, head: number): void {
  const { folios } = core;
  const flags = folios.flags.get(head);
  if ((flags & PG_LOCKED) === 0) throw new Error(`folio ${head} unlocked while not locked`);
  folios.flags.set(head, flags & ~PG_LOCKED);
}
