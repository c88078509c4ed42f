// Every interleaving of a small program, the obvious way: run each prefix from scratch, try everybody who is enabled and
// every alternative of every choice. Two prefixes are merged when they order the same conflicting steps the same way
// (one Mazurkiewicz trace), and must then have reached the same state. Shares no code with the search it checks.
import { LimitReached } from '../../src/engine/limit.ts';
import { Sim, UndeclaredAccess } from '../../src/engine/sim.ts';
import { type Access, ADD, DID_ADD, DID_WRITE, PERHAPS, READ, UPDATE } from '../../src/engine/step.ts';
import { Program } from '../../src/explore/program.ts';

export type Build = (sim: Program) => void;

export interface Move {
  readonly actor: string;
  readonly choices: readonly number[];
}

export interface BruteResult {
  /** All interleavings, choices included. */
  readonly interleavings: number;
  /** Inequivalent complete executions, by trace key. */
  readonly traces: ReadonlySet<string>;
  /** Messages of findings that any execution reports, sorted. */
  readonly findings: readonly string[];
  /** How many inequivalent executions end with somebody waiting. */
  readonly deadlocks: number;
}

interface Event {
  readonly actor: string;
  readonly number: number;
  readonly choices: string;
  readonly accesses: readonly { lo: number; hi: number; effect: 'read' | 'write' | 'add' }[];
}

interface World {
  readonly sim: Sim;
  readonly events: readonly Event[];
  /** Of the last move: how many alternatives each of its choices had. */
  readonly alternatives: readonly number[];
  readonly key: string;
}

/** Enumerate. Throws past `limit` distinct prefixes. */
export function bruteForce(build: Build, limit = 100_000): BruteResult {
  const traces = new Set<string>();
  const findings = new Set<string>();
  let interleavings = 0;
  let deadlocks = 0;
  let visited = 0;
  let level = new Map<string, { moves: readonly Move[]; initial: readonly number[]; count: number; digest: string }>();
  for (const initial of initialChoices(build)) {
    const { sim, key } = replay(build, initial, []);
    level.set(key, { moves: [], initial, count: 1, digest: sim.stateDigest });
  }
  while (level.size > 0) {
    const next: typeof level = new Map();
    for (const [key, { moves, initial, count }] of level) {
      if (++visited > limit) throw new Error(`more than ${limit} prefixes`);
      const world = replay(build, initial, moves);
      const enabled = enabledActors(world.sim);
      if (enabled.length === 0) {
        interleavings += count;
        traces.add(key);
        for (const { kind, message } of world.sim.findings) if (kind !== 'livelock') findings.add(message);
        if (world.sim.processes.some((p) => p.state === 'live' && !p.daemon)) deadlocks++;
        continue;
      }
      for (const actor of enabled) {
        for (const { extended, world: after } of everyChoice(build, initial, moves, actor)) {
          const digest = after.sim.stateDigest;
          const known = next.get(after.key);
          if (known === undefined) next.set(after.key, { moves: extended, initial, count, digest });
          else if (known.digest !== digest) throw new Error(`equivalent prefixes reach different states: ${after.key}`);
          else known.count += count;
        }
      }
    }
    level = next;
  }
  return { interleavings, traces, findings: [...findings].sort(), deadlocks };
}

/** By trace key: the fewest preemptions among all its linearizations. */
export function leastPreemptions(build: Build): Map<string, number> {
  const least = new Map<string, number>();
  const keepLess = <T extends { preemptions: number }>(map: Map<string, T>, key: string, value: T): void => {
    const known = map.get(key);
    if (known === undefined || known.preemptions > value.preemptions) map.set(key, value);
  };
  let level = new Map<string, { moves: readonly Move[]; initial: readonly number[]; preemptions: number }>();
  for (const initial of initialChoices(build)) level.set(initial.join(), { moves: [], initial, preemptions: 0 });
  while (level.size > 0) {
    const next: typeof level = new Map();
    for (const { moves, initial, preemptions } of level.values()) {
      const { sim, key } = replay(build, initial, moves);
      const enabled = enabledActors(sim);
      if (enabled.length === 0) least.set(key, Math.min(preemptions, least.get(key) ?? preemptions));
      const last = moves.at(-1)?.actor;
      for (const actor of enabled) {
        const cost = last !== undefined && last !== actor && enabled.includes(last) ? 1 : 0;
        for (const { extended, world } of everyChoice(build, initial, moves, actor)) {
          const found = { moves: extended, initial, preemptions: preemptions + cost };
          keepLess(next, `${world.key} after ${actor}`, found);
        }
      }
    }
    level = next;
  }
  return least;
}

/** The key of the trace that a given sequence of moves belongs to. */
export function traceKey(build: Build, initial: readonly number[], moves: readonly Move[]): string {
  return replay(build, initial, moves).key;
}

function enabledActors(sim: Sim): string[] {
  return sim.processes.filter((p) => p.state === 'live' && p.enabled).map((p) => p.name);
}

function* everyChoice(build: Build, initial: readonly number[], moves: readonly Move[], actor: string) {
  let choices: number[] | null = [];
  while (choices !== null) {
    const world: World = replay(build, initial, [...moves, { actor, choices }]);
    const full: number[] = world.alternatives.map((_, i) => choices![i] ?? 0);
    yield { extended: [...moves, { actor, choices: full }], world };
    choices = nextVector(full, world.alternatives);
  }
}

function* initialChoices(build: Build) {
  let choices: number[] | null = [];
  while (choices !== null) {
    const { alternatives } = replay(build, choices, []);
    const full: number[] = alternatives.map((_, i) => choices![i] ?? 0);
    yield full;
    choices = nextVector(full, alternatives);
  }
}

/** The next vector of choices in the order of counting; what follows the counted-up place is found by running. */
function nextVector(choices: readonly number[], alternatives: readonly number[]): number[] | null {
  for (let i = choices.length - 1; i >= 0; i--) {
    if (choices[i]! + 1 < alternatives[i]!) return [...choices.slice(0, i), choices[i]! + 1];
  }
  return null;
}

function replay(build: Build, initial: readonly number[], moves: readonly Move[]): World {
  const sim = new Sim({ checked: true, journaled: true, digested: true });
  let source = initial;
  let alternatives: number[] = [];
  sim.choices = {
    choose: (_process, count) => {
      alternatives.push(count);
      return source[alternatives.length - 1] ?? 0;
    },
  };
  build(new Program(sim));
  sim.record(true);
  const events: Event[] = [];
  for (const { actor, choices } of moves) {
    const process = sim.processes.find((p) => p.name === actor)!;
    source = choices;
    alternatives = [];
    const number = events.filter((event) => event.actor === actor).length;
    try {
      sim.act(process);
    } catch (error) {
      if (error instanceof UndeclaredAccess || !(error instanceof LimitReached)) throw error;
      process.cut();
    }
    events.push({
      actor,
      number,
      choices: alternatives.map((_, i) => choices[i] ?? 0).join(','),
      accesses: accessesOf(process.acted),
    });
  }
  return { sim, events, alternatives, key: `${initial.join(',')}|${keyOf(events)}` };
}

function accessesOf(acted: Access): Event['accesses'] {
  return Array.from({ length: acted.count }, (_, i) => {
    const kind = acted.kind[i]!;
    const open = kind === UPDATE || kind === PERHAPS;
    const reads = kind === READ || (open && (acted.did[i]! & (DID_WRITE | DID_ADD)) === 0);
    const effect: Event['accesses'][number]['effect'] = kind === ADD ? 'add' : reads ? 'read' : 'write';
    return { lo: acted.lo[i]!, hi: acted.hi[i]!, effect, touched: kind !== PERHAPS || acted.did[i] !== 0 };
  }).filter(({ touched }) => touched);
}

function conflict(a: Event, b: Event): boolean {
  return a.accesses.some((x) =>
    b.accesses.some(
      (y) => x.lo <= y.hi && y.lo <= x.hi && (x.effect === 'write' || y.effect === 'write' || x.effect !== y.effect),
    ),
  );
}

/** By event: whom it chose, and which conflicting steps of others came before it. Equal for equivalent sequences. */
function keyOf(events: readonly Event[]): string {
  const lines = events.map((event, at) => {
    const before = events
      .slice(0, at)
      .filter((other) => other.actor !== event.actor && conflict(other, event))
      .map((other) => `${other.actor}.${other.number}`)
      .sort();
    return `${event.actor}.${event.number}(${event.choices})<${before.join(' ')}>`;
  });
  return lines.sort().join(';');
}
