// Wakeup trees (Abdulla, Aronis, Jonsson, Sagonas: "Optimal dynamic partial order reduction", POPL 2014): at a node of
// the search, the sequences that are still to be run from there, none of which another one makes superfluous.
import { Action, COMMUTE, CONFLICT, relation, sameChoices } from './action.ts';

export class WakeupNode extends Action {
  parent: WakeupNode | null = null;
  firstChild: WakeupNode | null = null;
  next: WakeupNode | null = null;
}

/** No event of the sequence is the given step or conflicts with it. */
export const INDEPENDENT = -1;
/** Something in the sequence conflicts with the step before the step itself comes. */
export const BLOCKED = -2;
/** Depends on an outcome that is not known yet. */
export const UNDECIDED = -3;

/** A sequence of steps, some of them struck out. Reused. */
export class Sequence {
  length = 0;
  readonly steps: Action[] = [];
  private readonly struck: boolean[] = [];

  clear(): void {
    this.length = 0;
  }

  push(step: Action): void {
    this.steps[this.length] = step;
    this.struck[this.length] = false;
    this.length++;
  }

  strike(at: number): void {
    this.struck[at] = true;
  }

  isStruck(at: number): boolean {
    return this.struck[at]!;
  }

  unstrike(): void {
    for (let i = 0; i < this.length; i++) this.struck[i] = false;
  }

  /**
   * Is `step` a weak initial of this sequence: could it come first in some continuation? Its place when it is in the
   * sequence with nothing that conflicts before it; otherwise INDEPENDENT, BLOCKED or UNDECIDED.
   */
  place(step: Action): number {
    const { actor } = step;
    for (let i = 0; i < this.length; i++) {
      if (this.struck[i]!) continue;
      const other = this.steps[i]!;
      if (other.actor === actor) return sameChoices(other.choices, step.choices) ? i : BLOCKED;
      const related = relation(step, other);
      if (related === COMMUTE) continue;
      return related === CONFLICT ? BLOCKED : UNDECIDED;
    }
    return INDEPENDENT;
  }
}

/** What stopped an insertion: outcomes that must be known before it can be decided. */
export interface Undecided {
  /** The node whose outcome is open; null: it is the sequence's last step. */
  readonly node: WakeupNode | null;
}

export class WakeupForest {
  private free: WakeupNode | null = null;

  private take(): WakeupNode {
    const node = this.free;
    if (node === null) return new WakeupNode();
    this.free = node.next;
    node.next = null;
    return node;
  }

  /** Give a node back; its children live on. */
  release(node: WakeupNode): void {
    node.parent = null;
    node.firstChild = null;
    node.next = this.free;
    this.free = node;
  }

  /**
   * Make sure that something equivalent to a continuation of `sequence` will be run from the node whose pending
   * sequences start at `first`. Returns the new first, or what has to be found out before.
   */
  insert(first: WakeupNode | null, sequence: Sequence): WakeupNode | null | Undecided {
    let parent: WakeupNode | null = null;
    let child = first;
    let last: WakeupNode | null = null;
    while (child !== null) {
      const place = sequence.place(child);
      if (place === UNDECIDED) {
        sequence.unstrike();
        return { node: child.hasUnknown ? child : null };
      }
      if (place === BLOCKED) {
        last = child;
        child = child.next;
        continue;
      }
      if (child.firstChild === null) {
        sequence.unstrike();
        return first;
      }
      if (place >= 0) sequence.strike(place);
      parent = child;
      last = null;
      child = child.firstChild;
    }
    const added = this.append(parent, last, sequence);
    sequence.unstrike();
    return first ?? added;
  }

  /** Hang what is left of the sequence below `parent`, after `last`. */
  private append(parent: WakeupNode | null, last: WakeupNode | null, sequence: Sequence): WakeupNode | null {
    let top: WakeupNode | null = null;
    let above = parent;
    let before = last;
    for (let i = 0; i < sequence.length; i++) {
      if (sequence.isStruck(i)) continue;
      const node = this.take();
      node.copy(sequence.steps[i]!);
      node.parent = above;
      if (before !== null) before.next = node;
      else if (above !== null) above.firstChild = node;
      top ??= node;
      above = node;
      before = null;
    }
    return top;
  }
}

export function isUndecided(result: WakeupNode | null | Undecided): result is Undecided {
  return result !== null && 'node' in result;
}
