// Spinlocks addressed by row: one lock per page-table page, without an object each. Same semantics as SpinLock.
import type { Gate } from './gate.ts';
import { hashText } from './hash.ts';
import type { Named } from './names.ts';
import type { Process } from './process.ts';
import type { Sim, Undoable } from './sim.ts';
import { type Announced, READ, type Step, step, UPDATE } from './step.ts';

const LOCK = step('spin_lock', 'lock');
const UNLOCK = step('spin_unlock', 'lock');

/** Rows whose gates are kept at hand. */
const RECENT_ROWS = 16;

export class LockColumn implements Named, Undoable {
  readonly sim: Sim;
  readonly name: string;
  readonly base: number;
  private readonly hash: number;
  private readonly owners = new Map<number, Process>();
  // The gates of rows used lately. Gates have no state of their own.
  private readonly gates: (RowGates | undefined)[] = new Array<RowGates | undefined>(RECENT_ROWS).fill(undefined);

  /** `rows` lock objects with ids of their own, from the sparse range. */
  constructor(sim: Sim, name: string, rows: number) {
    this.sim = sim;
    this.name = name;
    this.hash = hashText(name);
    this.base = sim.allotSparseIds(rows, this);
  }

  nameOf(row: number): string {
    return `${this.name}[${row}]`;
  }

  ownerOf(row: number): Process | null {
    return this.owners.get(row) ?? null;
  }

  private gatesOf(row: number): RowGates {
    const place = row % RECENT_ROWS;
    let gates = this.gates[place];
    if (gates === undefined || gates.row !== row) {
      gates = new RowGates(this, row);
      this.gates[place] = gates;
    }
    return gates;
  }

  /** Resumes when held. May be announced together with the first accesses under it. */
  lock(row: number, at: Step = LOCK): Announced {
    this.sim.gated(at, this.gatesOf(row).acquire);
    return this.sim.announce(this.base + row, this.base + row, UPDATE, at);
  }

  /** Released in the act, before the process's own code of that step. */
  unlock(row: number, at: Step = UNLOCK): Announced {
    this.sim.gated(at, this.gatesOf(row).release);
    return this.sim.announce(this.base + row, this.base + row, UPDATE, at);
  }

  /**
   * Lock, act and unlock within one step: the step waits until the lock is free and leaves it free. Right only where
   * the critical section has a single write that lockless observers can see.
   */
  pass(row: number, at: Step): Announced {
    this.sim.gated(at, this.gatesOf(row).passage);
    return this.sim.announce(this.base + row, this.base + row, READ, at);
  }

  /** Release inside the current step, which announced the lock (`willChange`). */
  releaseNow(row: number): void {
    this.gatesOf(row).release.take(this.sim.current!);
  }

  willChange(row: number, at: Step): Announced {
    return this.sim.announce(this.base + row, this.base + row, UPDATE, at);
  }

  /** Announce looking at who holds locks lo..hi, as `isHeld` does. */
  willReadRange(lo: number, hi: number, at: Step): Announced {
    return this.sim.announce(this.base + lo, this.base + hi, READ, at);
  }

  /** By anybody. Looks without a step. */
  isHeld(row: number): boolean {
    return this.owners.has(row);
  }

  heldBy(row: number, process: Process | null): boolean {
    return process !== null && this.owners.get(row) === process;
  }

  /** Only for RowGates. */
  setOwner(row: number, owner: Process | null): void {
    const sim = this.sim;
    if (sim.watching) sim.noteWrite(this.base + row);
    const old = this.owners.get(row) ?? null;
    if (sim.journaled) sim.journal(this, row, old);
    if (sim.digested) sim.digestWrite(this.hash, row, old, owner);
    this.undo(row, owner);
  }

  now(row: number): unknown {
    return this.ownerOf(row);
  }

  undo(row: number, old: unknown): void {
    if (old === null) this.owners.delete(row);
    else this.owners.set(row, old as Process);
  }
}

/** The gates of one row. Many rows: no closures, names only when asked for. */
class RowGates {
  readonly row: number;
  readonly acquire: Gate;
  readonly release: Gate;
  readonly passage: Gate;

  constructor(locks: LockColumn, row: number) {
    this.row = row;
    this.acquire = new AcquireGate(locks, row);
    this.release = new ReleaseGate(locks, row);
    this.passage = new PassageGate(locks, row);
  }
}

class PassageGate implements Gate {
  readonly locks: LockColumn;
  readonly row: number;

  constructor(locks: LockColumn, row: number) {
    this.locks = locks;
    this.row = row;
  }

  get name(): string {
    return this.locks.nameOf(this.row);
  }

  get promise(): 'lock' {
    return 'lock';
  }

  get lockId(): number {
    return this.locks.base + this.row;
  }

  ready(): boolean {
    return this.locks.ownerOf(this.row) === null;
  }

  take(_process: Process): void {}

  waitsFor(): readonly Process[] {
    const process = this.locks.ownerOf(this.row);
    return process === null ? [] : [process];
  }
}

class AcquireGate extends PassageGate {
  taken(): number {
    return this.lockId;
  }

  override take(process: Process): void {
    this.locks.setOwner(this.row, process);
  }
}

class ReleaseGate implements Gate {
  readonly locks: LockColumn;
  readonly row: number;

  constructor(locks: LockColumn, row: number) {
    this.locks = locks;
    this.row = row;
  }

  get name(): string {
    return this.locks.nameOf(this.row);
  }

  get promise(): 'always' {
    return 'always';
  }

  ready(): boolean {
    return true;
  }

  take(process: Process): void {
    if (this.locks.ownerOf(this.row) !== process) {
      throw new Error(`${process.name} unlocks ${this.name} without holding it`);
    }
    this.locks.setOwner(this.row, null);
  }

  waitsFor(): readonly Process[] {
    return [];
  }
}
