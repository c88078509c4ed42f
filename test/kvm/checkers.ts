// The checkers of a run, attached to a guest's world.
import { Checkers } from '../../src/check/checkers.ts';
import type { Guest } from './guest.ts';

export class CheckerSet {
  private readonly checkers: Checkers;

  constructor(guest: Guest) {
    const { sim, core } = guest.world;
    this.checkers = new Checkers({ sim, core, log: null });
    sim.observer = this.checkers;
  }

  atEnd(): void {
    this.checkers.atEnd();
  }
}
