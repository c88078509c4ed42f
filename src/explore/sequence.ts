// A sequence that a reversed pair asks for: steps of the trace that do not depend on the first of the pair, then the
// other one. Whether a step that is explored anyway could come first in it, decides if it has to be run.
import { type Action, type Actions, COMMUTE, CONFLICT, relation, sameChoices } from './action.ts';
import type { Trace } from './trace.ts';

const INITIAL_ACTORS = 64;

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
  private from = 0;
  private arrival = -1;
  // With everything in it: the step that it is built from; -1 otherwise.
  private first = -1;
  private readonly found: number[] = [];
  private readonly indices: number[] = [];
  // By actor: position here of its first step plus one; 0 when it has none.
  private firstOf = new Int32Array(INITIAL_ACTORS);
  private readonly struck: boolean[] = [];
  private struckCount = 0;
  private readonly needed: boolean[] = [];
  private readonly before: number[] = [];

  constructor(trace: Trace, actions: Actions) {
    this.trace = trace;
    this.actions = actions;
  }

  /** The trace is about to change: nothing built from it can be taken over. */
  forget(): void {
    this.clear();
    this.first = -1;
  }

  private clear(): void {
    for (let i = 0; i < this.length; i++) this.firstOf[this.steps[i]!.actor] = 0;
    this.length = 0;
    this.struckCount = 0;
  }

  /**
   * From the node before step `first`: all steps after it that do not depend on it, but for those left out, then `last`,
   * whose actor comes to it after step `arrival`.
   */
  build(first: number, arrival: number, last: Action, leftOut: (index: number, step: Action) => boolean): void {
    this.clear();
    this.first = -1;
    const count = this.trace.independentOf(first, this.found);
    for (let i = 0; i < count; i++) {
      const index = this.found[i]!;
      const event = this.trace.events[index]!;
      if (!leftOut(index, event)) this.push(event, index);
    }
    this.push(last, -1);
    this.from = first;
    this.arrival = arrival;
  }

  /** As `build`, leaving nothing out. What comes before the last step is taken over when `first` is the same. */
  buildAll(first: number, arrival: number, last: Action): void {
    this.from = first;
    this.arrival = arrival;
    if (this.first === first) {
      const end = this.length - 1;
      for (let i = 0; i < end; i++) this.needed[i] = false;
      this.steps[end] = last;
      return;
    }
    this.clear();
    this.first = first;
    const count = this.trace.independentOf(first, this.found);
    const { events } = this.trace;
    for (let i = 0; i < count; i++) this.push(events[this.found[i]!]!, this.found[i]!);
    this.push(last, -1);
  }

  /** Add step `index` of the trace; -1: the last one, which is not part of it. */
  private push(step: Action, index: number): void {
    const at = this.length++;
    this.steps[at] = step;
    this.indices[at] = index;
    this.struck[at] = false;
    this.needed[at] = index < 0;
    if (index < 0) return;
    const { actor } = step;
    if (actor >= this.firstOf.length) this.grow(actor);
    if (this.firstOf[actor] === 0) this.firstOf[actor] = at + 1;
  }

  private grow(actor: number): void {
    const grown = new Int32Array(2 * actor);
    grown.set(this.firstOf);
    this.firstOf = grown;
  }

  /** Position of a step of the trace; -1 when it is not part of the sequence. */
  private positionOf(step: Action): number {
    const { actor, number } = step;
    const first = actor < this.firstOf.length ? this.firstOf[actor]! - 1 : -1;
    if (first < 0 || this.steps[first]!.number === number) return first;
    for (let i = first + 1; i < this.length - 1; i++) {
      if (this.steps[i]!.actor === actor && this.steps[i]!.number === number) return i;
    }
    return -1;
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
    const position = this.positionOf(step);
    if (position >= 0) return this.placeOf(step, position);
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

  /** As `place`, for a step that has a place here. */
  private placeOf(step: Action, position: number): number {
    this.blockedAt = position;
    const event = this.trace.events[this.indices[position]!]!;
    if (!sameChoices(event.choices, step.choices)) return BLOCKED;
    return event.past < this.from ? position : this.freeUpTo(position, step, position);
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
