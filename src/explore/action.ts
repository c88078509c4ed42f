// A step as a search remembers it: who, with which choices, touching what. Objects and arrays are pooled and reused, so
// that an execution allocates nothing.
import { type Access, ADD, DID_WRITE, READ, UPDATE } from '../engine/step.ts';
import type { Identity } from './identity.ts';

/** What a step did to an object; MAYBE: announced an update that may turn out to be a read or a write. */
export const DID_NOT_WRITE = 1;
export const WROTE = 2;
export const MAYBE = 3;
export const ADDED = 4;

/** Whether two steps commute: never when NO, and UNKNOWN when an outcome not known yet decides it. */
export const COMMUTE = 0;
export const CONFLICT = 1;
export const UNKNOWN = 2;

const NO_CHOICES: readonly number[] = [];

export class Action {
  actor = 0;
  /** What its choices gave, and out of how many; both empty in nearly every step. */
  choices: readonly number[] = NO_CHOICES;
  alternatives: readonly number[] = NO_CHOICES;
  count = 0;
  readonly lo: number[] = [];
  readonly hi: number[] = [];
  readonly kind: number[] = [];

  /** Take over the accesses of an acted or announced step, by what it did or by what it may do. */
  setAccesses(access: Access, identity: Identity, acted: boolean): void {
    const { count } = access;
    this.count = count;
    for (let i = 0; i < count; i++) {
      const lo = access.lo[i]!;
      const lasting = identity.lasting(lo);
      this.lo[i] = lasting;
      this.hi[i] = lasting + (access.hi[i]! - lo);
      const kind = access.kind[i]!;
      if (kind === READ) this.kind[i] = DID_NOT_WRITE;
      else if (kind === ADD) this.kind[i] = ADDED;
      else if (kind !== UPDATE) this.kind[i] = WROTE;
      else if (!acted) this.kind[i] = MAYBE;
      else this.kind[i] = (access.did[i]! & DID_WRITE) === 0 ? DID_NOT_WRITE : WROTE;
    }
  }

  copy(other: Action): void {
    this.actor = other.actor;
    this.choices = other.choices;
    this.alternatives = other.alternatives;
    const { count } = other;
    this.count = count;
    for (let i = 0; i < count; i++) {
      this.lo[i] = other.lo[i]!;
      this.hi[i] = other.hi[i]!;
      this.kind[i] = other.kind[i]!;
    }
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

  /** Touches one object only. */
  get single(): boolean {
    return this.count === 1 && this.lo[0] === this.hi[0];
  }

  get hasUnknown(): boolean {
    for (let i = 0; i < this.count; i++) if (this.kind[i] === MAYBE) return true;
    return false;
  }
}

/** Do two steps of different actors commute? */
export function relation(a: Action, b: Action): number {
  let result = COMMUTE;
  const aCount = a.count;
  const bCount = b.count;
  for (let i = 0; i < aCount; i++) {
    const lo = a.lo[i]!;
    const hi = a.hi[i]!;
    for (let j = 0; j < bCount; j++) {
      if (lo > b.hi[j]! || b.lo[j]! > hi) continue;
      const both = a.kind[i]! * 8 + b.kind[j]!;
      // read-read and add-add commute; an unknown outcome decides only against a read or another unknown.
      if (both === 9 || both === 36) continue;
      if (both === 25 || both === 11 || both === 27) result = UNKNOWN;
      else return CONFLICT;
    }
  }
  return result;
}

/** Same alternatives taken? Choices that were not spelled out took the first alternative. */
export function sameChoices(a: readonly number[], b: readonly number[]): boolean {
  const length = Math.max(a.length, b.length);
  for (let i = 0; i < length; i++) if ((a[i] ?? 0) !== (b[i] ?? 0)) return false;
  return true;
}
