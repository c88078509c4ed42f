// How the walks of an estimate pick who steps next. Any rule will do that depends on nothing but who may step and what
// they would touch; a good one makes all traces about equally likely.
//
// What never conflicts goes first and needs no draw. Actors that share nothing with each other, directly or through
// others, do not dilute each other's draws: one group after the other. Within a group an actor is drawn in proportion to
// the steps that it is still expected to take, so that short actors do not always come early (the idea of SURW: Zhao,
// Wolff, Mathur, Roychoudhury, "Selectively uniform concurrency testing", ASPLOS 2025). All of that is learned from walks.
import { ADDED, DID_NOT_WRITE } from './action.ts';
import type { Trace, TraceEvent } from './trace.ts';

/** Somebody who may step next. */
export interface Candidate {
  actor: number;
  /** Steps that it has taken. */
  done: number;
  /** Nobody conflicts with its step, as far as is known. */
  quiet: boolean;
}

/** What is known of an object: who touched it, and the kinds of what they did, as bits. */
interface Known {
  readonly actors: Set<number>;
  kinds: number;
}

interface Range {
  readonly lo: number;
  readonly hi: number;
}

const ONLY_READ = 1 << DID_NOT_WRITE;
const ONLY_ADDED = 1 << ADDED;

export class WalkPolicy {
  /** Something learned differs from what the draws so far relied on. */
  changed = false;
  private readonly objects = new Map<number, Known>();
  /** Ranges of objects that steps touched as a whole: all of them count as shared. */
  private readonly ranges: Range[] = [];
  private ranger = -1;
  private readonly groupOf: number[] = [];
  // By actor and number of steps done: how many walks came there, and how many loud steps were to come in all of them.
  private readonly came: number[][] = [];
  private readonly toCome: number[][] = [];

  /** Does nobody conflict with a step on objects lo..hi? */
  isQuiet(lo: number, hi: number): boolean {
    if (lo !== hi || this.inRange(lo)) return false;
    const known = this.objects.get(lo);
    return known === undefined || !isLoud(known);
  }

  private inRange(id: number): boolean {
    for (const { lo, hi } of this.ranges) if (id >= lo && id <= hi) return true;
    return false;
  }

  /** As `isQuiet`, for all that a step announced: what it then did not touch counts before as after. */
  isQuietStep({ announced }: TraceEvent): boolean {
    for (let i = 0; i < announced.count; i++) if (!this.isQuiet(announced.lo[i]!, announced.hi[i]!)) return false;
    return true;
  }

  /** With which probability does `chosen` step next, out of `count` candidates? */
  share(candidates: readonly Candidate[], count: number, chosen: Candidate): number {
    const first = this.firstQuiet(candidates, count);
    if (first !== null) return first === chosen ? 1 : 0;
    return this.weight(chosen) / this.groupWeight(candidates, count, this.firstGroup(candidates, count));
  }

  /** Who steps next when `fraction` of [0, 1) was drawn? */
  pick(candidates: readonly Candidate[], count: number, fraction: number): Candidate {
    const first = this.firstQuiet(candidates, count);
    if (first !== null) return first;
    const group = this.firstGroup(candidates, count);
    let rest = fraction * this.groupWeight(candidates, count, group);
    let last = candidates[0]!;
    for (let i = 0; i < count; i++) {
      if (this.group(candidates[i]!.actor) !== group) continue;
      last = candidates[i]!;
      rest -= this.weight(last);
      if (rest < 0) break;
    }
    return last;
  }

  private groupWeight(candidates: readonly Candidate[], count: number, group: number): number {
    let sum = 0;
    for (let i = 0; i < count; i++) if (this.group(candidates[i]!.actor) === group) sum += this.weight(candidates[i]!);
    return sum;
  }

  private firstQuiet(candidates: readonly Candidate[], count: number): Candidate | null {
    let first: Candidate | null = null;
    for (let i = 0; i < count; i++) {
      const candidate = candidates[i]!;
      if (candidate.quiet && (first === null || candidate.actor < first.actor)) first = candidate;
    }
    return first;
  }

  private firstGroup(candidates: readonly Candidate[], count: number): number {
    let first = Number.POSITIVE_INFINITY;
    for (let i = 0; i < count; i++) first = Math.min(first, this.group(candidates[i]!.actor));
    return first;
  }

  /** Actors of one number may meet; the smallest of them. */
  private group(actor: number): number {
    let group = actor;
    while ((this.groupOf[group] ?? group) !== group) group = this.groupOf[group]!;
    return group;
  }

  private weight({ actor, done }: Candidate): number {
    const came = this.came[actor]?.[done] ?? 0;
    const toCome = this.toCome[actor]?.[done] ?? 0;
    return came === 0 || toCome === 0 ? 1 : toCome / came;
  }

  /** Take note of who met whom in a walk. `starters`: by actor, who started it; itself when nobody did. */
  learnConflicts(trace: Trace, starters: readonly number[]): void {
    for (let actor = 0; actor < starters.length; actor++) this.unite(actor, starters[actor]!);
    for (let at = 0; at < trace.length; at++) {
      const event = trace.events[at]!;
      for (let i = 0; i < event.count; i++) {
        if (event.lo[i] !== event.hi[i]) this.meetRange(event.actor, event.lo[i]!, event.hi[i]!);
        else this.meet(event.actor, event.lo[i]!, 1 << event.kind[i]!);
      }
    }
  }

  private meet(actor: number, id: number, kind: number): void {
    let known = this.objects.get(id);
    if (known === undefined) {
      known = { actors: new Set(), kinds: 0 };
      this.objects.set(id, known);
    }
    if (!known.actors.has(actor) || (known.kinds & kind) === 0) {
      const before = isLoud(known);
      known.actors.add(actor);
      known.kinds |= kind;
      if (isLoud(known)) {
        for (const other of known.actors) this.unite(actor, other);
        if (!before) this.changed = true;
      }
      if (this.inRange(id)) this.unite(actor, this.ranger);
    }
  }

  private meetRange(actor: number, lo: number, hi: number): void {
    if (this.ranger < 0) this.ranger = actor;
    this.unite(actor, this.ranger);
    if (this.ranges.some((range) => range.lo <= lo && hi <= range.hi)) return;
    this.ranges.push({ lo, hi });
    this.changed = true;
    for (const [id, { actors }] of this.objects) {
      if (id >= lo && id <= hi) for (const other of actors) this.unite(other, this.ranger);
    }
  }

  private unite(a: number, b: number): void {
    const x = this.group(a);
    const y = this.group(b);
    if (x === y) return;
    this.groupOf[Math.max(x, y)] = Math.min(x, y);
    this.changed = true;
  }

  /** Take note of how many loud steps each actor took after how many steps. */
  learnLengths(trace: Trace): void {
    const stepsOf = new Map<number, TraceEvent[]>();
    for (let at = 0; at < trace.length; at++) {
      const event = trace.events[at]!;
      const steps = stepsOf.get(event.actor);
      if (steps === undefined) stepsOf.set(event.actor, [event]);
      else steps.push(event);
    }
    for (const [actor, steps] of stepsOf) {
      this.came[actor] ??= [];
      this.toCome[actor] ??= [];
      const came = this.came[actor];
      const toCome = this.toCome[actor];
      let loud = 0;
      for (let done = steps.length - 1; done >= 0; done--) {
        if (!this.isQuietStep(steps[done]!)) loud++;
        came[done] = (came[done] ?? 0) + 1;
        toCome[done] = (toCome[done] ?? 0) + loud;
      }
    }
  }
}

function isLoud({ actors, kinds }: Known): boolean {
  return actors.size > 1 && kinds !== ONLY_READ && kinds !== ONLY_ADDED;
}
