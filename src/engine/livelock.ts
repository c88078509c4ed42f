// Livelock: a fair cycle. The shared state and the places of all actors come back again and again, everybody who could
// step has stepped, and nobody gets anywhere.
//
// What an actor keeps to itself (the counter of a bounded retry) is in no store, so one return proves nothing: only a
// state that has come back more often than any bounded retry of the model goes round counts.
import { type Finding, findingIdentity } from './finding.ts';
import { mix } from './hash.ts';
import type { Process } from './process.ts';
import type { Sim } from './sim.ts';

/** Returns of one state before it is called a livelock. */
const RETURNS = 1000;
/** States remembered before the watch starts afresh. */
const STATES_MAX = 1 << 16;

interface Seen {
  readonly firstAt: number;
  returns: number;
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
    if (sim.progress !== this.progress || seen.size > STATES_MAX) {
      this.progress = sim.progress;
      seen.clear();
      return null;
    }
    const key = sim.digestKey(this.places);
    const known = seen.get(key);
    if (known === undefined) {
      seen.set(key, { firstAt: this.steps, returns: 0 });
      return null;
    }
    if (++known.returns < RETURNS) return null;
    const able = sim.processes.filter((other) => other.state === 'live' && other.enabled);
    const fair = able.every((other) => (this.lastStep[other.slot] ?? 0) > known.firstAt);
    return fair ? livelockFinding(sim, able) : null;
  }
}

/** Where an actor is: its next step and what that touches first. */
function placeOf(process: Process): number {
  const { announced } = process;
  const first = announced.count === 0 ? 0 : announced.lo[0]!;
  return mix(mix(process.identity, announced.step.hash), mix(announced.count, first | 0));
}

function livelockFinding(sim: Sim, turning: readonly Process[]): Finding {
  const labels = turning.map((process) => process.announced.step.label);
  return {
    kind: 'livelock',
    message: `${turning.map(({ name }) => name).join(', ')} ${turning.length === 1 ? 'goes' : 'go'} round for ever: the same state came back ${RETURNS} times, and nothing was achieved`,
    reasons: turning.map((process) => `${process.name} is at ${process.announced.step.label} again`),
    actors: turning.map(({ name }) => name),
    objects: [],
    steps: turning.map(({ name, announced }) => ({ actor: name, label: announced.step.label, timeNs: sim.nowNs })),
    details: { returns: RETURNS },
    identity: findingIdentity('livelock', 'cycle', [...labels].sort()),
  };
}
