// Wakeup trees (Abdulla, Aronis, Jonsson, Sagonas: "Optimal dynamic partial order reduction", POPL 2014): at a node of
// the search, the sequences that are still to be run from there, none of which another one makes superfluous. There can
// be as many as there are traces below the node (readers before one writer), so in the worst case memory follows the
// search; in most programs a tree has a few dozen nodes.
import type { Action } from './action.ts';
import { BLOCKED, type Coverage, type Sequence, UNDECIDED } from './sequence.ts';

export class WakeupNode {
  step: Action;
  parent: WakeupNode | null = null;
  firstChild: WakeupNode | null = null;
  next: WakeupNode | null = null;

  constructor(step: Action) {
    this.step = step;
  }

  /** Sequences in this tree and in those after it. */
  static leaves(first: WakeupNode | null): number {
    let count = 0;
    for (let node = first; node !== null; node = node.next) {
      count += node.firstChild === null ? 1 : WakeupNode.leaves(node.firstChild);
    }
    return count;
  }
}

/** What stopped an insertion: an outcome that must be known before it can be decided. */
export class Undecided {
  /** The node whose outcome is open; null: it is the sequence's last step. */
  node: WakeupNode | null = null;
}

/** All trees of a search share their spare nodes. */
export class WakeupForest {
  private spare: WakeupNode | null = null;
  private readonly undecided = new Undecided();

  private take(step: Action): WakeupNode {
    const node = this.spare;
    if (node === null) return new WakeupNode(step);
    this.spare = node.next;
    node.next = null;
    node.step = step;
    return node;
  }

  /** Give a node back; its children live on. */
  release(node: WakeupNode): void {
    node.parent = null;
    node.firstChild = null;
    node.next = this.spare;
    this.spare = node;
  }

  /**
   * Make sure that something equivalent to a continuation of `sequence` will be run from the node whose pending
   * sequences start at `first`. Returns the new first, or what has to be found out before.
   */
  insert(first: WakeupNode | null, sequence: Sequence, coverage: Coverage): WakeupNode | null | Undecided {
    coverage.begin();
    let parent: WakeupNode | null = null;
    let child = first;
    let last: WakeupNode | null = null;
    while (child !== null) {
      const place = sequence.place(child.step);
      if (place === UNDECIDED) {
        sequence.unstrike();
        coverage.known = false;
        this.undecided.node = child.step.hasUnknown ? child : null;
        return this.undecided;
      }
      if (place === BLOCKED) {
        sequence.need(sequence.blockedAt);
        last = child;
        child = child.next;
        continue;
      }
      coverage.restOn(child.step, place, sequence);
      if (child.firstChild === null) {
        sequence.unstrike();
        return first;
      }
      if (place >= 0) sequence.strike(place);
      parent = child;
      last = null;
      child = child.firstChild;
    }
    sequence.closeNeeded();
    const added = this.append(parent, last, sequence, coverage);
    sequence.unstrike();
    return first ?? added;
  }

  /** Hang what is needed of the sequence below `parent`, after `last`. */
  private append(
    parent: WakeupNode | null,
    last: WakeupNode | null,
    sequence: Sequence,
    coverage: Coverage,
  ): WakeupNode | null {
    let top: WakeupNode | null = null;
    let above = parent;
    let before = last;
    for (let i = 0; i < sequence.length; i++) {
      if (!sequence.isNeeded(i)) continue;
      const node = this.take(sequence.shared(i));
      coverage.restOn(node.step, i, sequence);
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
