// The simulation: object ids, the journal that undoes writes, the step in progress, processes, findings and events.
// It knows neither which clock runs it nor anything about memory.
//
// Over 400 lines, as one class: stores, processes and searches meet in its fields at every step and every write, and a
// journal or a step context as objects of their own would put a pointer to follow between them.
import type { EventType } from './event.ts';
import type { Finding } from './finding.ts';
import type { Gate } from './gate.ts';
import { hashValue, mix } from './hash.ts';
import { LatencyModel } from './latency.ts';
import { type Loop, LoopTracker } from './loop.ts';
import { IdOwners, type Named } from './names.ts';
import { Process, type SpawnOptions, type Steps } from './process.ts';
import {
  Access,
  type AccessKind,
  ADD,
  ANNOUNCED,
  type Announced,
  DID_ADD,
  DID_READ,
  DID_WRITE,
  PERHAPS,
  READ,
  type Step,
  WRITE,
} from './step.ts';
import { Streams } from './streams.ts';
import { Turns } from './turns.ts';
import { inWords, twoGates } from './yielded.ts';

/** Anything whose writes the journal can undo. */
export interface Undoable {
  undo(row: number, old: unknown): void;
  /** What the row holds now, in the journal's terms. A store without it is none that gates look at. */
  now?(row: number): unknown;
}

/** Called around every acted step. Attached, never polled; null costs nothing. */
export interface StepObserver {
  /** `process.acted` holds the step with its `did` bits; the journal from `changesFrom` on holds its writes. */
  stepActed(process: Process, changesFrom: number): void;
}

/** Where choices and durations come from: a clock's own streams, or a search. */
export interface ChoiceSource {
  choose(process: Process | null, alternatives: number, label: string): number;
}

export interface SimOptions {
  readonly seed?: string;
  /** Throw when a step touches what it did not announce. */
  readonly checked?: boolean;
  /** Keep the journal (needed to rewind and to report what a step changed). */
  readonly journaled?: boolean;
  /** Keep the state digest up to date. */
  readonly digested?: boolean;
  readonly latencies?: LatencyModel;
}

/** A step touched an object that it had not announced: a bug of the model, never of the user. */
export class UndeclaredAccess extends Error {
  override readonly name = 'UndeclaredAccess';
}

/** Where the set-up ended. */
interface Mark {
  readonly journal: number;
  readonly processes: number;
  readonly low: number;
  readonly high: number;
  readonly findings: number;
  readonly nextId: number;
  readonly nextSparseId: number;
  readonly owners: number;
  readonly sparseOwners: number;
}

// Sparse stores (page tables over 2^36 page numbers) take their ids from far above, so that ordinary ids stay small
// integers that V8 keeps unboxed.
const SPARSE_IDS_FROM = 2 ** 40;

/** As `spawn` calls who is started by an actor. */
const LIKE_A_CHILD = /\/[^/]*\.\d+$/;

/** Announcements kept for building the next ones in. */
const SPARE = 64;

export class Sim {
  readonly checked: boolean;
  journaled: boolean;
  /** Writes go into the state digest. */
  digested: boolean;
  private readonly alwaysDigested: boolean;
  readonly latencies: LatencyModel;
  readonly streams: Streams;
  readonly processes: Process[] = [];
  readonly turns = new Turns(this);
  /** Names of actors, so that thousands can start. */
  private readonly topNames = new Set<string>();
  readonly findings: Finding[] = [];
  /** Simulated time [ns]; stays 0 when explored. */
  nowNs = 0;
  current: Process | null = null;
  /**
   * Counts what was achieved: a script's step done, one of the transactions that it asked for, an actor at its end. A run in
   * which it stands still may turn for ever.
   */
  progress = 0;
  choices: ChoiceSource | null = null;
  observer: StepObserver | null = null;
  /** Told of every allotment of object ids (a search gives objects names that do not depend on the interleaving). */
  allotted: ((base: number, count: number) => void) | null = null;
  /** Told of every announcement while it can still be added to: holds and milestones of scenarios hang here. */
  announced: ((process: Process, access: Access) => void) | null = null;
  /** A clock runs the processes, and keeps what sleepers share apart. */
  sharing = false;
  /** Told of every newly spawned process (a clock schedules it). */
  spawned: ((process: Process) => void) | null = null;

  /** True when reads and writes must be noted: checked mode, recording of what was really done, or a tracked loop. */
  watching: boolean;
  private recording = false;
  /** The last step acted, with what it did. */
  acted = new Access();
  // Announcements are built in what was acted just before: still in the cache, however many processes wait.
  private readonly spare: Access[] = [];
  private acting: Access | null = null;
  private building: Access | null = null;
  private outside = 0;

  private nextId = 0;
  private nextSparseId = SPARSE_IDS_FROM;
  private readonly owners = new IdOwners();
  private readonly sparseOwners = new IdOwners();

  private journalLength = 0;
  private readonly journalStore: Undoable[] = [];
  private readonly journalRow: number[] = [];
  private readonly journalOld: unknown[] = [];
  // While looking back: what the undone writes had written.
  private readonly redone: unknown[] = [];

  private digestLow = 0;
  private digestHigh = 0;
  private readonly listeners = new Map<string, ((payload: never) => void)[]>();
  private readonly drains: (() => void)[] = [];
  private readonly resets: (() => void)[] = [];
  /** For the next rewind alone. */
  private readonly resetsOnce: (() => void)[] = [];
  readonly loops = new LoopTracker();
  private base: Mark | null = null;
  private rewinding = false;
  /** Told of objects that watched steps put into cells; null: the model is trusted not to change them there. */
  stores: ((cell: Named, value: object | null) => void) | null = null;
  /** What the author of actors can do when a loop of theirs was given up; null: loops are a model's, not the user's. */
  loopRemedy: string | null = null;

  constructor(options: SimOptions = {}) {
    this.checked = options.checked ?? false;
    this.journaled = options.journaled ?? false;
    this.alwaysDigested = options.digested ?? false;
    this.digested = this.alwaysDigested;
    this.latencies = options.latencies ?? new LatencyModel({});
    this.streams = new Streams(options.seed ?? '0');
    this.watching = this.checked;
  }

  // ---- object ids -------------------------------------------------------------------------------------------------

  /** Allot `count` consecutive object ids to `owner`; returns the first. */
  allotIds(count: number, owner: Named): number {
    const base = this.nextId;
    this.nextId += count;
    this.owners.add(base, owner);
    this.allotted?.(base, count);
    return base;
  }

  /** As `allotIds`, for stores addressed by numbers too far apart to allot densely. */
  allotSparseIds(count: number, owner: Named): number {
    const base = this.nextSparseId;
    this.nextSparseId += count;
    this.sparseOwners.add(base, owner);
    this.allotted?.(base, count);
    return base;
  }

  /** The name of an object id, for reports. */
  describe(id: number): string {
    return (id >= SPARSE_IDS_FROM ? this.sparseOwners : this.owners).describe(id);
  }

  // ---- announcing -------------------------------------------------------------------------------------------------

  /** Add an access to the step being announced. Called by stores; the process then yields the result. */
  announce(lo: number, hi: number, kind: AccessKind, step: Step): Announced {
    const building = this.building;
    if (building === null) throw new Error(`'${step.label}' announced outside a process`);
    building.add(lo, hi, kind);
    building.step = step;
    return ANNOUNCED;
  }

  /** As `announcing`, for a step that waits at `gate`. Throws NotAStep when it waits at another one already. */
  gated(step: Step, gate: Gate): Access {
    const { building } = this;
    if (building !== null && building.gate !== null) throw twoGates(this.current!.name, building, step, gate);
    const announcing = this.announcing(step);
    announcing.gate = gate;
    return announcing;
  }

  /** The step being announced: bulk costs are set on it. */
  announcing(step: Step): Access {
    const building = this.building;
    if (building === null) throw new Error(`'${step.label}' announced outside a process`);
    building.step = step;
    return building;
  }

  /** A step that touches nothing shared and only takes time; `times` units of its latency. */
  local(step: Step, times = 1): Announced {
    this.announcing(step).times = times;
    return ANNOUNCED;
  }

  /** Sleep: in timed mode acts `delayNs` later, explored at any point from now on. */
  sleep(delayNs: number, step: Step): Announced {
    this.announcing(step).delayNs = delayNs;
    return ANNOUNCED;
  }

  /** The step being announced costs `times` units of its latency (pages of a bulk step). */
  times(times: number, announced: Announced): Announced {
    if (this.building !== null) this.building.times = times;
    return announced;
  }

  // ---- the step in progress ---------------------------------------------------------------------------------------

  /** Only for Turns: what the next announcement is built in. */
  enter(process: Process, acting: Access): Access {
    this.current = process;
    this.acting = acting;
    const building = this.spare.pop() ?? new Access();
    building.reset();
    this.building = building;
    return building;
  }

  /** Only for Turns and Process: `acting` has acted, and stays readable until the next step has. */
  leave(acting: Access): void {
    this.current = null;
    this.acting = null;
    this.building = null;
    if (!this.acted.shared) this.spare.push(this.acted);
    this.acted = acting;
  }

  /**
   * What a process under a clock keeps of what it announced: an announcement that touches nothing is the one object that
   * all such announcements of its step share, so that thousands of sleepers take no memory that a step has to fetch.
   * When it is due only the clock knows.
   */
  shared(announced: Access): Access {
    if (announced.count > 0 || announced.gate !== null || announced.shared) return announced;
    const { step } = announced;
    if (step.plain === null) {
      step.plain = new Access();
      step.plain.step = step;
      step.plain.shared = true;
    }
    if (this.spare.length < SPARE) this.spare.push(announced);
    return step.plain;
  }

  /** A clock stops `remainingNs` before `process` would have acted: what sleepers share does not say how long. */
  unshare(process: Process, remainingNs: number): void {
    const { announced } = process;
    if (!announced.shared) return;
    const own = this.spare.pop() ?? new Access();
    own.reset();
    own.step = announced.step;
    own.delayNs = remainingNs;
    own.times = 0;
    process.announced = own;
  }

  /** Let `process` act its announced step. */
  act(process: Process): void {
    this.actAt(process.slot);
  }

  /**
   * Let the process of `slot` act its announced step: the one entry for every clock and search. Returns what it announced
   * now, until the next turn of anybody; null when it has ended.
   */
  actAt(slot: number): Access | null {
    const { observer, turns } = this;
    if (observer === null) return turns.resume(slot);
    const changesFrom = this.journalLength;
    const announced = turns.resume(slot);
    observer.stepActed(this.processes[slot]!, changesFrom);
    return announced;
  }

  /** Note a read of object `id`; stores call it only while `watching`. */
  noteRead(id: number): void {
    this.note(id, DID_READ);
  }

  /** Note a write of object `id`. */
  noteWrite(id: number): void {
    this.note(id, DID_WRITE);
  }

  /** Note a commuting addition to object `id`. */
  noteAdd(id: number): void {
    this.note(id, DID_ADD);
  }

  /** Note a look at object `id` that need not be announced: it counts as a read where the step announced the object. */
  noteLook(id: number): void {
    const { acting } = this;
    if (acting === null || this.outside > 0) return;
    for (let i = 0; i < acting.count; i++) {
      if (acting.kind[i] === PERHAPS && id >= acting.lo[i]! && id <= acting.hi[i]!) acting.did[i]! |= DID_READ;
    }
  }

  private note(id: number, did: number): void {
    const acting = this.acting;
    if (acting === null || this.outside > 0) return;
    if (this.loops.active > 0) this.loops.note(this.current!, id, did);
    for (let i = 0; i < acting.count; i++) {
      if (id < acting.lo[i]! || id > acting.hi[i]!) continue;
      const kind = acting.kind[i]!;
      if (did === DID_READ ? kind === ADD : did === DID_WRITE ? kind === READ || kind === ADD : kind === READ) continue;
      acting.did[i]! |= did;
      return;
    }
    if (this.checked) this.undeclared(acting, id, did);
  }

  private undeclared(acting: Access, id: number, did: number): never {
    const verb = did === DID_READ ? 'read' : did === DID_WRITE ? 'written' : 'added to';
    const declared: string[] = [];
    for (let i = 0; i < acting.count; i++) {
      const kind = ['', 'read', 'write', 'update', 'add', 'perhaps'][acting.kind[i]!];
      declared.push(`${kind} ${this.describe(acting.lo[i]!)}`);
    }
    throw new UndeclaredAccess(
      `${this.describe(id)} is ${verb} by ${this.current?.name} in the step announced as '${acting.step.label}', ` +
        `which announced ${declared.length === 0 ? 'nothing' : declared.join(', ')}; ` +
        `the access belongs to another step, or the announcement lacks it`,
    );
  }

  /** Run model code that only looks (checkers, reports): its reads belong to no step. */
  unwatched<T>(look: () => T): T {
    this.outside++;
    try {
      return look();
    } finally {
      this.outside--;
    }
  }

  /** Record what every step really does (searches need it for dependence). */
  record(on: boolean): void {
    this.recording = on;
    this.watching = this.checked || on || this.loops.active > 0;
  }

  // ---- journal, digest, rewind ------------------------------------------------------------------------------------

  /** Stores call this with the old value before every write. */
  journal(store: Undoable, row: number, old: unknown): void {
    const at = this.journalLength++;
    this.journalStore[at] = store;
    this.journalRow[at] = row;
    this.journalOld[at] = old;
  }

  get journalSize(): number {
    return this.journalLength;
  }

  /** The journalled writes from `from` on: (store, row, old value). */
  *changes(from: number): Generator<{ store: Undoable; row: number; old: unknown }> {
    for (let i = from; i < this.journalLength; i++) {
      yield { store: this.journalStore[i]!, row: this.journalRow[i]!, old: this.journalOld[i] };
    }
  }

  /** Forget journalled writes (a timed run that only wants each step's changes). */
  dropJournal(): void {
    this.journalLength = 0;
  }

  /** Undo every write after `length`. */
  undoTo(length: number): void {
    while (this.journalLength > length) {
      const at = --this.journalLength;
      this.journalStore[at]!.undo(this.journalRow[at]!, this.journalOld[at]);
      this.journalOld[at] = undefined;
    }
  }

  /**
   * Look at a state that might have been: the writes from journal position `from` on undone, save those in `kept`
   * (positions from, to, from, to ...). Everything is as before afterwards; `look` must not write.
   */
  lookBack<T>(from: number, kept: readonly number[], look: () => T): T {
    const { journalStore, journalRow, journalOld, redone, journalLength } = this;
    for (let at = journalLength - 1; at >= from; at--) {
      const store = journalStore[at]!;
      if (store.now === undefined) continue;
      redone[at] = store.now(journalRow[at]!);
      store.undo(journalRow[at]!, journalOld[at]);
    }
    for (let k = 0; k < kept.length; k += 2) {
      for (let at = kept[k]!; at < kept[k + 1]!; at++) this.writeAgain(at);
    }
    const seen = look();
    for (let at = from; at < journalLength; at++) {
      const store = journalStore[at]!;
      if (store.now !== undefined) store.undo(journalRow[at]!, redone[at]);
      redone[at] = undefined;
    }
    return seen;
  }

  /** The write at journal position `at`, without others before it: an addition adds what it added. */
  private writeAgain(at: number): void {
    const store = this.journalStore[at]!;
    if (store.now === undefined) return;
    const row = this.journalRow[at]!;
    const before = this.journalOld[at];
    const after = this.redone[at];
    const sum = typeof before === 'number' && typeof after === 'number';
    store.undo(row, sum ? (store.now(row) as number) + (after - before) : after);
  }

  /** State digests are sums over (store, row, value), so the order of unrelated writes does not show. */
  digestWrite(storeHash: number, row: number, old: unknown, value: unknown): void {
    const key = mix(storeHash, row | 0) ^ Math.floor(row / 4294967296);
    const before = hashValue(old);
    const after = hashValue(value);
    this.digestLow = (this.digestLow + mix(key, after) - mix(key, before)) | 0;
    this.digestHigh = (this.digestHigh + mix(key ^ 0x5bd1e995, after) - mix(key ^ 0x5bd1e995, before)) | 0;
  }

  /** Keep the digest from here to the end of this execution: it cannot tell what the state is, but that it comes back. */
  keepDigest(): void {
    this.digested = true;
  }

  /** The state digest together with `more`, as one number for maps: 53 bits. Needs `digested`. */
  digestKey(more: number): number {
    const low = mix(this.digestLow, more) >>> 0;
    return ((this.digestHigh ^ more) & 0x1fffff) * 4294967296 + low;
  }

  /** 64-bit digest of all shared state, as 16 hex digits. Needs `digested`. */
  get stateDigest(): string {
    const hex = (n: number) => (n >>> 0).toString(16).padStart(8, '0');
    return hex(this.digestHigh) + hex(this.digestLow);
  }

  /** Everything done so far is the set-up: rewind comes back to here. */
  mark(): void {
    this.base = {
      journal: this.journalLength,
      processes: this.processes.length,
      low: this.digestLow,
      high: this.digestHigh,
      findings: this.findings.length,
      nextId: this.nextId,
      nextSparseId: this.nextSparseId,
      owners: this.owners.length,
      sparseOwners: this.sparseOwners.length,
    };
  }

  /** Back to the mark: undo writes, drop processes spawned since, run the others from their first line. */
  rewind(): void {
    const base = this.base;
    if (base === null) throw new Error('rewind without a mark');
    this.undoTo(base.journal);
    this.digestLow = base.low;
    this.digestHigh = base.high;
    this.digested = this.alwaysDigested;
    if (this.findings.length > base.findings) this.findings.length = base.findings;
    this.nextId = base.nextId;
    this.nextSparseId = base.nextSparseId;
    this.owners.truncate(base.owners);
    this.sparseOwners.truncate(base.sparseOwners);
    while (this.processes.length > base.processes) this.topNames.delete(this.processes.pop()!.name);
    this.turns.truncate(base.processes);
    this.nowNs = 0;
    this.streams.restart();
    this.loops.clear();
    this.watching = this.checked || this.recording;
    for (const reset of this.resets) reset();
    if (this.resetsOnce.length > 0) for (const reset of this.resetsOnce.splice(0)) reset();
    this.startAgain();
  }

  /** Run the processes of the set-up from their first line. Those that others start there are started by them again. */
  private startAgain(): void {
    this.rewinding = true;
    const { processes } = this;
    const count = processes.length;
    for (let i = 0; i < count; i++) if (processes[i]!.parent !== null) processes[i]!.state = 'ended';
    try {
      for (let i = 0; i < count; i++) {
        const process = processes[i]!;
        if (process.parent !== null) continue;
        process.restart();
        process.prime();
      }
    } finally {
      this.rewinding = false;
    }
  }

  /** Is an actor at work that a rewind will start over? Not in the set-up, though actors do that, too. */
  get executing(): boolean {
    return this.base !== null && this.current !== null;
  }

  /**
   * For state that lives outside stores: checkers' notes, objects made when first needed. Asked for in an execution it is
   * for the next rewind alone, as what is made in an execution ends with it.
   */
  onRewind(reset: () => void): void {
    (this.executing ? this.resetsOnce : this.resets).push(reset);
  }

  /** A stage of the set-up is over: forget the actors that ended, and start the clock. Daemons and state stay. */
  finishSetUp(): void {
    const daemons = this.processes.filter((process) => process.daemon && process.state === 'live');
    this.processes.length = 0;
    this.topNames.clear();
    for (const daemon of daemons) {
      this.turns.move(daemon.slot, this.processes.length);
      daemon.slot = this.processes.length;
      this.processes.push(daemon);
      this.topNames.add(daemon.name);
    }
    this.turns.truncate(daemons.length);
    this.nowNs = 0;
    this.streams.restart();
    this.journalLength = 0;
  }

  // ---- processes --------------------------------------------------------------------------------------------------

  /** Start an actor. Inside a process the child is named under its parent, whatever the interleaving. */
  spawn(name: string, body: () => Steps<void>, options: SpawnOptions = {}): Process {
    const parent = this.current;
    const fullName = parent === null ? this.freeName(name) : `${parent.name}/${name}.${parent.nextChildNumber()}`;
    const { current, acting, building } = this;
    const before = this.rewinding ? this.processes.find((p) => p.parent === parent && p.name === fullName) : undefined;
    const process = before ?? new Process(this, fullName, this.processes.length, parent, body, options);
    if (before === undefined) {
      this.processes.push(process);
      process.prime();
    } else process.startAgain(body);
    this.current = current;
    this.acting = acting;
    this.building = building;
    this.spawned?.(process);
    return process;
  }

  /** Searches, streams and tokens know actors by name: the second `r` of a set-up is `r.2`. */
  private freeName(name: string): string {
    if (name === '') throw new Error('an actor needs a name');
    if (this.rewinding) return name;
    if (LIKE_A_CHILD.test(name)) throw new Error(`an actor cannot be called ${name}: actors started by actors are`);
    let free = name;
    for (let number = 2; this.topNames.has(free); number++) free = `${name}.${number}`;
    this.topNames.add(free);
    return free;
  }

  /** Pick one of `alternatives` inside a step: enumerated by a search, drawn from the actor's stream otherwise. */
  choose(alternatives: number, label = 'choose'): number {
    if (!Number.isInteger(alternatives)) {
      throw new TypeError(
        `'${label}' expects a whole number of alternatives to choose from, not ${inWords(alternatives)}`,
      );
    }
    if (alternatives < 1) throw new Error(`'${label}' has ${alternatives} alternatives to choose from`);
    if (alternatives === 1) return 0;
    if (this.choices !== null) return this.choices.choose(this.current, alternatives, label);
    return this.streams.below(this.current === null ? 'set-up' : this.current.name, alternatives);
  }

  // ---- events, findings, end --------------------------------------------------------------------------------------

  on<T>(type: EventType<T>, listener: (payload: T) => void): void {
    const list = this.listeners.get(type.name);
    if (list === undefined) this.listeners.set(type.name, [listener as (payload: never) => void]);
    else list.push(listener as (payload: never) => void);
  }

  /** Is anybody listening? Guard the building of a payload with it. */
  hears<T>(type: EventType<T>): boolean {
    return this.listeners.has(type.name);
  }

  emit<T>(type: EventType<T>, payload: T): void {
    const list = this.listeners.get(type.name);
    if (list === undefined) return;
    this.outside++;
    try {
      for (const listener of list) (listener as (payload: T) => void)(payload);
    } finally {
      this.outside--;
    }
  }

  report(finding: Finding): void {
    this.findings.push(finding);
  }

  /** A program's own assertion failed (library use). */
  fail(message: string): void {
    this.report({
      kind: 'assertion',
      message,
      reasons: [],
      actors: this.current === null ? [] : [this.current.name],
      objects: [],
      steps: [],
      details: {},
      identity: `assertion|${message}`,
    });
  }

  /** Work that the end of a run completes: per-CPU batches, deferred frees, RCU callbacks. In order of registration. */
  onDrain(drain: () => void): void {
    this.drains.push(drain);
  }

  drain(): void {
    this.outside++;
    try {
      for (const drain of this.drains) drain();
    } finally {
      this.outside--;
    }
  }

  // ---- retry loops ------------------------------------------------------------------------------------------------

  /** Start tracking a retry loop of the current process. See `Loop`. */
  loop(name: string, bound: number): Loop {
    const loop = this.loops.start(this, name, bound);
    this.watching = true;
    return loop;
  }

  /** Only for Loop: tracking ended. */
  loopEnded(): void {
    this.watching = this.checked || this.recording || this.loops.active > 0;
  }

  /** The acted step, for loops. */
  get actingAccess(): Access | null {
    return this.acting;
  }
}

export { DID_ADD, DID_READ, DID_WRITE, READ, WRITE };
