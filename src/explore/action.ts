// A step as a search remembers it: who, with which choices, touching what. Steps that are kept are shared: there is one
// object for all nodes of the search at which the same actor does the same thing.
import { type Access, ADD, DID_ADD, DID_WRITE, PERHAPS, READ, UPDATE } from '../engine/step.ts';
import type { Identity } from './identity.ts';

/**
 * What a step did to an object; MAYBE: announced an update that may turn out to be a read or a write; OPEN: may even
 * turn out not to touch it.
 */
export const DID_NOT_WRITE = 1;
export const WROTE = 2;
export const MAYBE = 3;
export const ADDED = 4;
export const OPEN = 5;

/** Do two steps commute? UNKNOWN: an outcome not known yet decides it. */
export const COMMUTE = 0;
export const CONFLICT = 1;
export const UNKNOWN = 2;

// By kinds of two accesses to one object, 8 * first + second. Reads commute, additions commute; an unknown outcome
// decides only against a read or another unknown.
const RELATION = new Uint8Array(64).fill(CONFLICT);
RELATION[8 * DID_NOT_WRITE + DID_NOT_WRITE] = COMMUTE;
RELATION[8 * ADDED + ADDED] = COMMUTE;
RELATION[8 * MAYBE + DID_NOT_WRITE] = UNKNOWN;
RELATION[8 * DID_NOT_WRITE + MAYBE] = UNKNOWN;
RELATION[8 * MAYBE + MAYBE] = UNKNOWN;
for (const kind of [DID_NOT_WRITE, WROTE, MAYBE, ADDED, OPEN]) {
  RELATION[8 * OPEN + kind] = UNKNOWN;
  RELATION[8 * kind + OPEN] = UNKNOWN;
}

export const NO_CHOICES: readonly number[] = [];

/** `key` of a step that touches several objects, or none. */
export const SEVERAL = -1;

export class Action {
  actor = 0;
  /** The how-manieth step of its actor, from 1. */
  number = 0;
  /** What its choices gave, and out of how many; both empty in nearly every step. */
  choices: readonly number[] = NO_CHOICES;
  alternatives: readonly number[] = NO_CHOICES;
  /** Dense number of the one object that it touches, and how; SEVERAL when it is not exactly one. */
  key = SEVERAL;
  only = 0;
  /** Touches a range of objects. */
  ranged = false;
  count = 0;
  readonly lo: number[] = [];
  readonly hi: number[] = [];
  readonly kind: number[] = [];

  /** Take over the accesses of an acted or announced step, by what it did or by what it may do. */
  setAccesses(access: Access, identity: Identity, acted: boolean): void {
    let count = 0;
    this.ranged = false;
    for (let i = 0; i < access.count; i++) {
      const kind = access.kind[i]!;
      if (kind === PERHAPS && acted && access.did[i] === 0) continue;
      const lo = access.lo[i]!;
      const hi = access.hi[i]!;
      const lasting = identity.lasting(lo);
      this.lo[count] = lasting;
      this.hi[count] = lasting + (hi - lo);
      if (lo !== hi) this.ranged = true;
      this.kind[count++] = kindOf(kind, acted ? access.did[i]! : -1);
    }
    this.count = count;
    this.setKey(identity);
  }

  private setKey(identity: Identity): void {
    if (this.count === 1 && !this.ranged) {
      this.key = identity.dense(this.lo[0]!);
      this.only = this.kind[0]!;
    } else this.key = SEVERAL;
  }

  /** The accesses were filled in one by one: set what is derived from them. */
  summarise(identity: Identity): void {
    this.ranged = false;
    for (let i = 0; i < this.count; i++) if (this.lo[i] !== this.hi[i]) this.ranged = true;
    this.setKey(identity);
  }

  copy(other: Action): void {
    this.actor = other.actor;
    this.number = other.number;
    this.choices = other.choices;
    this.alternatives = other.alternatives;
    this.key = other.key;
    this.only = other.only;
    this.ranged = other.ranged;
    const { count } = other;
    this.count = count;
    for (let i = 0; i < count; i++) {
      this.lo[i] = other.lo[i]!;
      this.hi[i] = other.hi[i]!;
      this.kind[i] = other.kind[i]!;
    }
  }

  equals(other: Action): boolean {
    if (this.key !== other.key || this.count !== other.count) return false;
    if (!sameNumbers(this.choices, other.choices) || !sameNumbers(this.alternatives, other.alternatives)) return false;
    if (this.key !== SEVERAL) return this.only === other.only;
    for (let i = 0; i < this.count; i++) {
      if (this.lo[i] !== other.lo[i] || this.hi[i] !== other.hi[i] || this.kind[i] !== other.kind[i]) return false;
    }
    return true;
  }

  /** Does it write any object of `other`? An outcome not known yet counts. */
  mayWriteTo(other: Action): boolean {
    for (let i = 0; i < this.count; i++) {
      if (this.kind[i] === DID_NOT_WRITE) continue;
      for (let j = 0; j < other.count; j++) {
        if (this.lo[i]! <= other.hi[j]! && other.lo[j]! <= this.hi[i]!) return true;
      }
    }
    return false;
  }

  writes(id: number): boolean {
    for (let i = 0; i < this.count; i++) {
      if (this.kind[i] !== DID_NOT_WRITE && this.lo[i]! <= id && id <= this.hi[i]!) return true;
    }
    return false;
  }

  get hasUnknown(): boolean {
    for (let i = 0; i < this.count; i++) if (this.kind[i] === MAYBE || this.kind[i] === OPEN) return true;
    return false;
  }
}

/** `did`: what the act did; -1: not acted yet. */
function kindOf(announced: number, did: number): number {
  if (announced === READ) return DID_NOT_WRITE;
  if (announced === ADD) return ADDED;
  if (announced !== UPDATE && announced !== PERHAPS) return WROTE;
  if (did < 0) return announced === UPDATE ? MAYBE : OPEN;
  return (did & (DID_WRITE | DID_ADD)) === 0 ? DID_NOT_WRITE : WROTE;
}

function sameNumbers(a: readonly number[], b: readonly number[]): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Do two steps of different actors commute? */
export function relation(a: Action, b: Action): number {
  if (a.key >= 0 && b.key >= 0) return a.key === b.key ? RELATION[8 * a.only + b.only]! : COMMUTE;
  let result = COMMUTE;
  for (let i = 0; i < a.count; i++) {
    const lo = a.lo[i]!;
    const hi = a.hi[i]!;
    for (let j = 0; j < b.count; j++) {
      if (lo > b.hi[j]! || b.lo[j]! > hi) continue;
      const both = RELATION[8 * a.kind[i]! + b.kind[j]!]!;
      if (both === CONFLICT) return CONFLICT;
      if (both === UNKNOWN) result = UNKNOWN;
    }
  }
  return result;
}

/** Same alternatives taken? Choices that were not spelled out took the first alternative. */
export function sameChoices(a: readonly number[], b: readonly number[]): boolean {
  if (a === b) return true;
  const length = Math.max(a.length, b.length);
  for (let i = 0; i < length; i++) if ((a[i] ?? 0) !== (b[i] ?? 0)) return false;
  return true;
}

/** One object per distinct step; there are few, however long the search. */
export class Actions {
  // By actor and number of the step; of steps that choose, by their choices as well: those may be thousands.
  private readonly known: Action[][][] = [];
  private readonly chosen = new Map<string, Action[]>();

  /** The shared object equal to `action`, which stays the caller's. */
  share(action: Action): Action {
    const alike = action.choices.length === 0 ? this.unchosen(action) : this.choosing(action);
    for (let i = 0; i < alike.length; i++) if (alike[i]!.equals(action)) return alike[i]!;
    const shared = new Action();
    shared.copy(action);
    alike.push(shared);
    return shared;
  }

  private unchosen(action: Action): Action[] {
    let ofActor = this.known[action.actor];
    if (ofActor === undefined) {
      ofActor = [];
      this.known[action.actor] = ofActor;
    }
    let ofNumber = ofActor[action.number];
    if (ofNumber === undefined) {
      ofNumber = [];
      ofActor[action.number] = ofNumber;
    }
    return ofNumber;
  }

  private choosing({ actor, number, choices }: Action): Action[] {
    const key = `${actor} ${number} ${choices.join()}`;
    let alike = this.chosen.get(key);
    if (alike === undefined) {
      alike = [];
      this.chosen.set(key, alike);
    }
    return alike;
  }
}
