// Who holds a lock for reading, and how often: one object to which readers only add, so that they commute with each other;
// a writer reads it.
import { hashText } from './hash.ts';
import type { Named } from './names.ts';
import type { Process } from './process.ts';
import type { Sim, Undoable } from './sim.ts';

export class Readers implements Named, Undoable {
  readonly name: string;
  readonly id: number;
  /** Holds in all. Looks without a step. */
  total = 0;
  private readonly sim: Sim;
  private readonly hash: number;
  // By slot of the process.
  private readonly counts: number[] = [];

  constructor(sim: Sim, name: string) {
    this.sim = sim;
    this.name = name;
    this.hash = hashText(name);
    this.id = sim.allotIds(1, this);
  }

  nameOf(): string {
    return this.name;
  }

  /** In a step that announced adding. */
  change(process: Process, by: 1 | -1): void {
    const { sim } = this;
    const { slot, identity } = process;
    const old = this.counts[slot] ?? 0;
    if (sim.watching) sim.noteAdd(this.id);
    if (sim.journaled) sim.journal(this, slot, old);
    if (sim.digested) sim.digestWrite(this.hash, identity, old, old + by);
    this.undo(slot, old + by);
  }

  /** Note that the step at hand depends on the total. */
  look(): void {
    if (this.sim.watching) this.sim.noteRead(this.id);
  }

  /** Forget all holders, in a step that announced writing. */
  clear(): void {
    const { sim, counts } = this;
    if (sim.watching) sim.noteWrite(this.id);
    for (const { slot, identity } of this.holders()) {
      const old = counts[slot]!;
      if (sim.journaled) sim.journal(this, slot, old);
      if (sim.digested) sim.digestWrite(this.hash, identity, old, 0);
      this.undo(slot, 0);
    }
  }

  has(process: Process): boolean {
    return (this.counts[process.slot] ?? 0) > 0;
  }

  /** Looks without a step. */
  holders(): readonly Process[] {
    return this.sim.processes.filter((process) => this.has(process));
  }

  undo(slot: number, count: unknown): void {
    this.total += (count as number) - (this.counts[slot] ?? 0);
    this.counts[slot] = count as number;
  }

  now(slot: number): unknown {
    return this.counts[slot] ?? 0;
  }
}
