// The last steps of a run with what they announced and changed, so that a finding can tell its story. A ring: a run of
// a billion steps keeps the newest few thousand.
import type { FindingStep } from '../engine/finding.ts';
import { mix } from '../engine/hash.ts';
import type { Process } from '../engine/process.ts';
import type { Sim, StepObserver } from '../engine/sim.ts';
import { ADD, READ, type Step } from '../engine/step.ts';
import { changesSince } from './changes.ts';

const KEPT_STEPS = 4096;
/** Announced objects kept beside them; a step may announce dozens. */
const KEPT_ACCESSES = 1 << 15;
/** Steps shown per finding. */
const STORY_STEPS = 24;
/** Changes of one step put in words. */
const CHANGES_SHOWN = 4;

/** A step that a story must not leave out, with what it did in words. */
export interface Moment extends FindingStep {
  /** Number of the step; -1: before the clock started. */
  readonly step: number;
}

/** What a listener is told of every step. */
export interface LoggedStep {
  readonly timeNs: number;
  readonly actor: string;
  readonly label: string;
  readonly changed: string;
}

export class StepLog implements StepObserver {
  private readonly sim: Sim;
  // Columns written one after the other, so that a run of millions of steps keeps no object per step.
  private readonly actors: string[] = [];
  private readonly steps: Step[] = [];
  private readonly changed: string[] = [];
  private readonly timeNs = new Float64Array(KEPT_STEPS);
  /** Number of the step's first access, counted over the whole run. */
  private readonly firstAccess = new Float64Array(KEPT_STEPS);
  private readonly accessCount = new Int32Array(KEPT_STEPS);
  private readonly lo = new Float64Array(KEPT_ACCESSES);
  private readonly hi = new Float64Array(KEPT_ACCESSES);
  private readonly kind = new Uint8Array(KEPT_ACCESSES);
  private total = 0;
  /** Number of the first step of an execution: what was logged before is the set-up. */
  private start = 0;
  private accesses = 0;
  private frozenAt = 0;
  private readonly acted = new Set<Step>();
  private lastStep: Step | null = null;
  /** Called with every step, in order. */
  listener: ((line: LoggedStep) => void) | null = null;
  private readonly keepJournal: boolean;
  /** Digest of the path: who acted what, and when. */
  pathDigest = 0;

  /** `keepJournal`: the run will be rewound, so its journal must stay. */
  constructor(sim: Sim, keepJournal: boolean) {
    this.sim = sim;
    this.keepJournal = keepJournal;
    sim.onRewind(() => {
      // Long executions have written over the set-up's steps.
      this.start = this.frozenAt;
      this.total = this.frozenAt;
      this.accesses = 0;
      this.pathDigest = 0;
    });
  }

  /** The set-up is over: executions are rewound to here. */
  freeze(): void {
    this.frozenAt = this.total;
  }

  /** Labels acted, for coverage and `reaches`. */
  get labels(): ReadonlySet<string> {
    return new Set([...this.acted].map(({ label }) => label));
  }

  stepActed(process: Process, changesFrom: number): void {
    const { acted, name } = process;
    const { step, count } = acted;
    const { nowNs } = this.sim;
    if (step !== this.lastStep) {
      this.acted.add(step);
      this.lastStep = step;
    }
    this.pathDigest = mix(mix(mix(this.pathDigest, process.identity), step.hash), nowNs | 0);
    const at = this.total++ % KEPT_STEPS;
    this.actors[at] = name;
    this.steps[at] = step;
    this.timeNs[at] = nowNs;
    this.firstAccess[at] = this.accesses;
    this.accessCount[at] = count;
    for (let i = 0; i < count; i++) {
      const to = this.accesses++ % KEPT_ACCESSES;
      this.lo[to] = acted.lo[i]!;
      this.hi[to] = acted.hi[i]!;
      this.kind[to] = acted.kind[i]!;
    }
    const changed = this.sim.journaled ? this.changesInWords(changesFrom) : '';
    this.changed[at] = changed;
    this.listener?.({ timeNs: nowNs, actor: name, label: step.label, changed });
    if (!this.keepJournal) this.sim.dropJournal();
  }

  private changesInWords(from: number): string {
    if (this.sim.journalSize === from) return '';
    const { changes, more } = changesSince(this.sim, from, CHANGES_SHOWN);
    return changes.map(({ text }) => text).join(', ') + (more > 0 ? `, and ${more} more` : '');
  }

  /** The step that acts now, which is logged when it has acted. */
  moment(changed: string): Moment {
    const { current, actingAccess, nowNs } = this.sim;
    return {
      step: this.total,
      actor: current?.name ?? 'end of the run',
      label: actingAccess?.step.label ?? 'drain',
      timeNs: nowNs,
      ...(changed === '' ? {} : { changed }),
    };
  }

  /**
   * The steps that touched any of the objects, oldest first: writes and adds always, reads of the last actor too; and
   * all of `moments`, which stay where a long story is cut to its last steps.
   */
  story(about: readonly number[], moments: readonly Moment[] = []): readonly FindingStep[] {
    if (about.length === 0 && moments.length === 0) return [];
    const told: Moment[] = [...moments];
    const known = new Set(moments.map(({ step }) => step));
    const looks = new Set<number>();
    for (let step = Math.max(this.start, this.total - KEPT_STEPS); step < this.total; step++) {
      const at = step % KEPT_STEPS;
      const touched = known.has(step) ? 'not' : this.touches(at, about);
      if (touched === 'not') continue;
      const changed = this.changed[at]!;
      if (touched === 'looks' || (this.sim.journaled && changed === '')) looks.add(step);
      told.push({
        step,
        actor: this.actors[at]!,
        label: this.steps[at]!.label,
        timeNs: this.timeNs[at]!,
        ...(changed === '' ? {} : { changed }),
      });
    }
    // Who looked is worth telling beside who changed what was seen.
    if (told.every(({ step }) => looks.has(step))) return [];
    told.sort((a, b) => a.step - b.step);
    // Who does the same again and again, with nothing to tell it apart, is told once.
    const once = told.filter((moment, i) => known.has(moment.step) || !isRepeated(moment, told[i + 1]));
    const from = once.length - STORY_STEPS;
    return once.filter((moment, i) => i >= from || moments.includes(moment)).map(({ step: _, ...shown }) => shown);
  }

  /** Did the step announce any of the objects? Not, when it is so old that its accesses have been written over. */
  private touches(at: number, about: readonly number[]): 'not' | 'looks' | 'changes' {
    const first = this.firstAccess[at]!;
    if (first < this.accesses - KEPT_ACCESSES) return 'not';
    let looks = false;
    for (let access = first; access < first + this.accessCount[at]!; access++) {
      const i = access % KEPT_ACCESSES;
      const lo = this.lo[i]!;
      const hi = this.hi[i]!;
      const wide = hi - lo > 1024;
      if (wide && (this.kind[i] === READ || this.kind[i] === ADD)) continue;
      if (!about.some((id) => id >= lo && id <= hi)) continue;
      if (this.kind[i] !== READ) return 'changes';
      looks = true;
    }
    return looks ? 'looks' : 'not';
  }
}

function isRepeated(one: Moment, next: Moment | undefined): boolean {
  if (next === undefined || one.changed !== undefined || next.changed !== undefined) return false;
  return one.actor === next.actor && one.label === next.label;
}
