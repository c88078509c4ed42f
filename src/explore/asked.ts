// Which alternatives of choices were asked for at the nodes of the search that the execution at hand comes through. What
// was asked for once stays covered there; without a note of it, each of n executions would ask for n alternatives again.
import type { Sequence } from './sequence.ts';

/** Sequences that are remembered at one node: memory does not follow the number of executions. */
const REMEMBERED = 1000;

/** All alternatives have been asked for. */
export const ALL = -1;

export class Asked {
  // By depth: by what comes before a step and its choices so far, the alternative that was taken, and so not asked for,
  // when the others were; ALL once that one was, too.
  private readonly notes: (Map<string, number> | undefined)[] = [];

  /**
   * All alternatives but `taken` are about to be asked for at depth `at`. Which have not been yet? null: none has, ALL:
   * all have, otherwise the one that was not.
   */
  ask(at: number, name: string, taken: number): number | null {
    let notes = this.notes[at];
    if (notes === undefined) {
      notes = new Map();
      this.notes[at] = notes;
    }
    const left = notes.get(name);
    if (left === undefined) {
      if (notes.size < REMEMBERED) notes.set(name, taken);
      return null;
    }
    if (left === taken) return ALL;
    notes.set(name, ALL);
    return left;
  }

  /** The search goes on below the node at depth `length`: what was noted deeper belongs to other nodes. */
  cutBack(length: number): void {
    if (this.notes.length > length + 1) this.notes.length = length + 1;
  }
}

/** What comes before the last step of a sequence: who steps, and how he chooses; from one node, the rest follows. */
export function nameOfBefore(sequence: Sequence): string {
  let name = '';
  for (let i = 0; i < sequence.length - 1; i++) {
    const { actor, choices } = sequence.steps[i]!;
    name += choices.length === 0 ? `${actor} ` : `${actor}:${choices.join()} `;
  }
  return name;
}
