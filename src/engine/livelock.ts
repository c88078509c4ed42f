// Livelock: a fair cycle. The shared state and the places of all actors come back again and again, everybody who could
// step has stepped, and nobody gets anywhere.
//
// What an actor keeps to itself (the counter of a bounded retry) is in no store, so one return proves nothing: only a
// state that has come back more often than any bounded retry of the model goes round counts.
//
// When that is noticed depends on who stepped when. So a livelock is told by the loops that its actors go round, not by
// where each happens to be.
import { type Finding, findingIdentity } from './finding.ts';
import { mix } from './hash.ts';
import type { Process } from './process.ts';
import type { Sim } from './sim.ts';
import type { Step } from './step.ts';

/** Returns of one state before it is called a livelock. */
const RETURNS = 1000;
/** States remembered before the watch starts afresh. */
const STATES_MAX = 1 << 16;

/** Returns from which on it is noted who could step at any moment. */
const SUSPICIOUS = RETURNS / 2;

/** Last steps of an actor that are kept: its loop, many times over. */
const TRAIL_MAX = 512;

interface Seen {
  readonly firstAt: number;
  returns: number;
}

/** The last steps of an actor, and where it came by each; from `TRAIL_MAX` on a ring, with the oldest at `next`. */
class Trail {
  private readonly steps: Step[] = [];
  private readonly places: number[] = [];
  private next = 0;

  add(step: Step, place: number): void {
    this.steps[this.next] = step;
    this.places[this.next] = place;
    this.next = (this.next + 1) % TRAIL_MAX;
  }

  /** The labels of whole rounds up to now: since the actor was first, as far as is known, where it is again. */
  loop(): string[] {
    const inOrder = <T>(ring: readonly T[]): T[] => [...ring.slice(this.next), ...ring.slice(0, this.next)];
    const places = inOrder(this.places);
    const first = places.indexOf(places.at(-1)!);
    const before = first === places.length - 1 ? 0 : first + 1;
    return [
      ...new Set(
        inOrder(this.steps)
          .slice(before)
          .map(({ label }) => label),
      ),
    ];
  }
}

/** Watches one run of a sim that keeps its state digest. */
export class LivelockWatch {
  private readonly sim: Sim;
  private readonly seen = new Map<number, Seen>();
  private progress = -1;
  private steps = 0;
  /** Sum over actors of where they are; by slot: the actor's share, and when it last stepped. */
  private places = 0;
  private readonly place: number[] = [];
  private readonly lastStep: number[] = [];
  private readonly trails: Trail[] = [];
  /** The step from which on gates are looked at, 0 before; by slot: the last step after which the actor could have stepped. */
  private suspiciousFrom = 0;
  private readonly openAt: number[] = [];
  /** The state came back that often while somebody who could have stepped, if only now and then, did not. */
  unfair = false;

  constructor(sim: Sim) {
    this.sim = sim;
  }

  /** `process` has acted. The finding when that closed a livelock, else null. */
  stepActed(process: Process): Finding | null {
    const { sim, seen } = this;
    const { slot } = process;
    this.steps++;
    const place = process.state === 'live' ? placeOf(process) : 0;
    this.places = (this.places + place - (this.place[slot] ?? 0)) | 0;
    this.place[slot] = place;
    this.lastStep[slot] = this.steps;
    this.trails[slot] ??= new Trail();
    this.trails[slot].add(process.acted.step, place);
    if (sim.progress !== this.progress || seen.size > STATES_MAX) {
      this.progress = sim.progress;
      this.suspiciousFrom = 0;
      seen.clear();
      return null;
    }
    if (this.suspiciousFrom > 0) {
      for (const other of sim.processes) {
        if (other.state === 'live' && other.enabled) this.openAt[other.slot] = this.steps;
      }
    }
    const key = sim.digestKey(this.places);
    const known = seen.get(key);
    if (known === undefined) {
      seen.set(key, { firstAt: this.steps, returns: 0 });
      return null;
    }
    known.returns++;
    if (known.returns >= SUSPICIOUS && this.suspiciousFrom === 0) this.suspiciousFrom = this.steps;
    if (known.returns < RETURNS) return null;
    const live = sim.processes.filter(({ state }) => state === 'live');
    // Back where it was, and it has stepped: it goes round, though it may wait for another at this very moment.
    const turning = live.filter(({ slot }) => (this.lastStep[slot] ?? 0) > known.firstAt);
    const others = live.filter((other) => !turning.includes(other));
    if (others.some(({ enabled }) => enabled)) return null;
    // A lock that is taken and given back time and again is open to who waits for it, though not at this moment.
    this.unfair = others.some(({ slot }) => (this.openAt[slot] ?? 0) >= this.suspiciousFrom);
    return this.unfair ? null : this.finding(turning);
  }

  private finding(turning: readonly Process[]): Finding {
    const loops = turning.map(({ slot }) => this.trails[slot]!.loop());
    const names = turning.map(({ name }) => name);
    return {
      kind: 'livelock',
      message: `${names.join(', ')} ${names.length === 1 ? 'goes' : 'go'} round for ever: the same state came back ${RETURNS} times, and nothing was achieved`,
      reasons: names.map((name, at) => `${name} goes round ${loops[at]!.join(', ')}`),
      actors: names,
      objects: [],
      steps: turning.map((p) => ({ actor: p.name, label: p.announced.step.label, timeNs: this.sim.nowNs })),
      details: { returns: RETURNS },
      identity: findingIdentity('livelock', 'cycle', [...new Set(loops.flat())].sort()),
    };
  }
}

/** Where an actor is: its next step and what that touches first. */
function placeOf(process: Process): number {
  const { announced } = process;
  const first = announced.count === 0 ? 0 : announced.lo[0]!;
  return mix(mix(process.identity, announced.step.hash), mix(announced.count, first | 0));
}
