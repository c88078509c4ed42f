// A sequence that a reversed pair asks for: steps of the trace that do not depend on the first of the pair, then the
// other one. Whether a step that is explored anyway could come first in it, decides if it has to be run.
import { type Action, type Actions, COMMUTE, CONFLICT, relation, sameChoices } from './action.ts';
import type { Trace } from './trace.ts';

/** No step of the sequence is the given one or conflicts with it. */
export const INDEPENDENT = -1;
/** Something in the sequence conflicts with the step before the step itself comes. */
export const BLOCKED = -2;
/** Depends on an outcome that is not known yet. */
export const UNDECIDED = -3;

/**
 * Reused. Steps are struck out as they are met in a wakeup tree. Of the rest only some are worth running first: the
 * last one, what conflicts with a step that would otherwise cover the sequence, and what those depend on. The others
 * follow by themselves.
 */
export class Sequence {
  length = 0;
  readonly steps: Action[] = [];
  /** Where `place` found the conflict when it returned BLOCKED. */
  blockedAt = 0;
  private readonly trace: Trace;
  private readonly actions: Actions;
  private first = 0;
  private arrival = -1;
  private readonly indices: number[] = [];
  // By index in the trace: position here plus one; 0 when it is not part of the sequence.
  private readonly positions: number[] = [];
  private readonly struck: boolean[] = [];
  private struckCount = 0;
  private readonly needed: boolean[] = [];
  private readonly before: number[] = [];

  constructor(trace: Trace, actions: Actions) {
    this.trace = trace;
    this.actions = actions;
  }

  /** Start over, from the node before step `first`; the last step's actor comes to it after step `arrival`. */
  begin(first: number, arrival: number): void {
    for (let i = 0; i < this.length; i++) if (this.indices[i]! >= 0) this.positions[this.indices[i]!] = 0;
    this.length = 0;
    this.first = first;
    this.arrival = arrival;
    this.struckCount = 0;
  }

  /** Add step `index` of the trace; -1: the last one, which is not part of it. */
  push(step: Action, index: number): void {
    const at = this.length++;
    this.steps[at] = step;
    this.indices[at] = index;
    this.struck[at] = false;
    this.needed[at] = index < 0;
    if (index >= 0) this.positions[index] = at + 1;
  }

  /** The last step turned out as known now. */
  replaceLast(step: Action): void {
    this.steps[this.length - 1] = step;
  }

  indexOf(at: number): number {
    return this.indices[at]!;
  }

  /** The step at `at`, as one object for the whole search. */
  shared(at: number): Action {
    return this.actions.share(this.steps[at]!);
  }

  strike(at: number): void {
    this.struck[at] = true;
    this.struckCount++;
  }

  unstrike(): void {
    if (this.struckCount === 0) return;
    for (let i = 0; i < this.length; i++) this.struck[i] = false;
    this.struckCount = 0;
  }

  need(at: number): void {
    this.needed[at] = true;
  }

  /** Is the step at `at` worth running first? After `closeNeeded`. */
  isNeeded(at: number): boolean {
    return this.needed[at]! && !this.struck[at]!;
  }

  /** Whatever a needed step depends on is needed. */
  closeNeeded(): void {
    const { trace, before } = this;
    const end = this.length - 1;
    const last = this.steps[end]!;
    before.fill(0);
    if (!this.struck[end]! && this.arrival >= 0) trace.raise(this.arrival, before);
    for (let i = end - 1; i >= 0; i--) {
      if (this.struck[i]!) continue;
      const event = trace.events[this.indices[i]!]!;
      if (!this.needed[i]!) {
        const depended = event.number <= (before[event.actor] ?? 0);
        if (!depended && (this.struck[end]! || relation(event, last) === COMMUTE)) continue;
        this.needed[i] = true;
      }
      trace.raise(this.indices[i]!, before);
    }
  }

  /**
   * Is `step` a weak initial of this sequence: could it come first in some continuation? Its place when it is in the
   * sequence with nothing that conflicts before it; otherwise INDEPENDENT, BLOCKED or UNDECIDED.
   */
  place(step: Action): number {
    const index = this.trace.indexOf(step.actor, step.number);
    const position = index > this.first ? (this.positions[index] ?? 0) - 1 : -1;
    if (position >= 0) return this.placeOf(step, index, position);
    const end = this.length - 1;
    const last = this.steps[end]!;
    let undecided = false;
    if (!this.struck[end]!) {
      this.blockedAt = end;
      if (last.actor === step.actor) {
        if (!sameChoices(last.choices, step.choices)) return BLOCKED;
        return this.freeUpTo(end, step, end);
      }
      const related = relation(step, last);
      if (related === CONFLICT) return BLOCKED;
      undecided = related !== COMMUTE;
    }
    const free = this.freeUpTo(end, step, INDEPENDENT);
    if (!undecided || free === BLOCKED) return free;
    return UNDECIDED;
  }

  /** As `place`, for a step that is step `index` of the trace and has a place here. */
  private placeOf(step: Action, index: number, position: number): number {
    this.blockedAt = position;
    const event = this.trace.events[index]!;
    if (!sameChoices(event.choices, step.choices)) return BLOCKED;
    return event.past < this.first ? position : this.freeUpTo(position, step, position);
  }

  /** `result` when nothing before position `end` conflicts with the step; BLOCKED otherwise. */
  private freeUpTo(end: number, step: Action, result: number): number {
    const { steps, struck } = this;
    let free = result;
    for (let i = 0; i < end; i++) {
      if (struck[i]!) continue;
      const other = steps[i]!;
      const related = other.actor === step.actor ? CONFLICT : relation(step, other);
      if (related === COMMUTE) continue;
      if (related === CONFLICT) {
        this.blockedAt = i;
        return BLOCKED;
      }
      free = UNDECIDED;
    }
    return free;
  }
}

/**
 * Why a reversed pair needs nothing more: steps of a sleep set or of a wakeup tree that could come first. Holds while
 * the trace is the same up to `witness` and what comes after commutes with the `independent` steps.
 */
export class Coverage {
  known = false;
  /** Largest index of a step of the trace that this rests on. */
  witness = -1;
  independentCount = 0;
  readonly independent: Action[] = [];

  begin(): void {
    this.known = true;
    this.witness = -1;
    this.independentCount = 0;
  }

  /** It rests on `step`, met at `place` of the sequence. */
  restOn(step: Action, place: number, sequence: Sequence): void {
    const index = place === INDEPENDENT ? -1 : sequence.indexOf(place);
    // Whatever the trace comes to hold is put before the last step of the sequence, which must stay free to go first.
    if (index < 0) this.independent[this.independentCount++] = step;
    else this.witness = Math.max(this.witness, index);
  }

  /** Does it still hold when the trace was replaced from index `from` on? */
  holds(trace: Trace, first: number, from: number): boolean {
    if (!this.known || this.witness >= from) return false;
    if (this.independentCount === 0) return true;
    for (let i = from; i < trace.length; i++) {
      if (trace.before(first, i)) continue;
      const event = trace.events[i]!;
      for (let j = 0; j < this.independentCount; j++) {
        const step = this.independent[j]!;
        if (step.actor === event.actor || relation(step, event) !== COMMUTE) return false;
      }
    }
    return true;
  }
}
