// The last steps of a run with what they announced and changed, so that a finding can tell its story. A ring: a run of
// a billion steps keeps the newest few thousand.
import type { FindingStep } from '../engine/finding.ts';
import type { Process } from '../engine/process.ts';
import type { Sim, StepObserver } from '../engine/sim.ts';
import { ADD, READ } from '../engine/step.ts';
import { tokenText } from '../hw/token.ts';

/** A place in the ring, written again and again. */
interface LoggedStep {
  actor: string;
  label: string;
  timeNs: number;
  /** Announced objects: the first `count` of lo, hi and kind. */
  count: number;
  readonly lo: number[];
  readonly hi: number[];
  readonly kind: number[];
  changed: string;
}

const KEPT_STEPS = 4096;
/** Steps shown per finding. */
const STORY_STEPS = 24;
/** Changes of one step put in words. */
const CHANGES_SHOWN = 4;

export class StepLog implements StepObserver {
  private readonly sim: Sim;
  private readonly ring: LoggedStep[] = [];
  private next = 0;
  /** Labels acted, for coverage and `reaches`. */
  readonly labels = new Set<string>();
  /** Called with every step, in order. */
  listener: ((line: { timeNs: number; actor: string; label: string; changed: string }) => void) | null = null;
  private readonly keepJournal: boolean;
  private lastLabel = '';

  /** `keepJournal`: the run will be rewound, so its journal must stay. */
  constructor(sim: Sim, keepJournal: boolean) {
    this.sim = sim;
    this.keepJournal = keepJournal;
    sim.onRewind(() => {
      this.ring.length = 0;
      this.next = 0;
    });
  }

  stepActed(process: Process, changesFrom: number): void {
    const { acted } = process;
    const { label } = acted.step;
    if (label !== this.lastLabel) {
      this.labels.add(label);
      this.lastLabel = label;
    }
    let logged = this.ring[this.next];
    if (logged === undefined) {
      logged = { actor: '', label, timeNs: 0, count: 0, lo: [], hi: [], kind: [], changed: '' };
      this.ring[this.next] = logged;
    }
    logged.actor = process.name;
    logged.label = label;
    logged.timeNs = this.sim.nowNs;
    const { count } = acted;
    logged.count = count;
    for (let i = 0; i < count; i++) {
      logged.lo[i] = acted.lo[i]!;
      logged.hi[i] = acted.hi[i]!;
      logged.kind[i] = acted.kind[i]!;
    }
    logged.changed = this.changesInWords(changesFrom);
    this.next = (this.next + 1) % KEPT_STEPS;
    const { actor, timeNs, changed } = logged;
    this.listener?.({ timeNs, actor, label, changed });
    if (!this.keepJournal) this.sim.dropJournal();
  }

  private changesInWords(from: number): string {
    const { sim } = this;
    if (!sim.journaled) return '';
    const shown: string[] = [];
    let more = 0;
    for (const { store, row, old } of sim.changes(from)) {
      const words = changeInWords(store, row, old);
      if (words === undefined) continue;
      if (shown.length < CHANGES_SHOWN) shown.push(words);
      else more++;
    }
    return shown.join(', ') + (more > 0 ? `, and ${more} more` : '');
  }

  /** Steps in order, oldest first. */
  *steps(): Generator<LoggedStep> {
    for (let i = 0; i < this.ring.length; i++) yield this.ring[(this.next + i) % this.ring.length]!;
  }

  /** The steps that touched any of the objects, oldest first: writes and adds always, reads of the last actor too. */
  story(about: readonly number[]): readonly FindingStep[] {
    if (about.length === 0) return [];
    const told: FindingStep[] = [];
    for (const logged of this.steps()) {
      if (!touches(logged, about)) continue;
      const { actor, label, timeNs, changed } = logged;
      told.push({ actor, label, timeNs, ...(changed === '' ? {} : { changed }) });
    }
    return told.slice(-STORY_STEPS);
  }
}

function touches(logged: LoggedStep, about: readonly number[]): boolean {
  for (let i = 0; i < logged.count; i++) {
    const wide = logged.hi[i]! - logged.lo[i]! > 1024;
    if (wide && (logged.kind[i] === READ || logged.kind[i] === ADD)) continue;
    for (const id of about) if (id >= logged.lo[i]! && id <= logged.hi[i]!) return true;
  }
  return false;
}

/** `refcount of pfn 1536: 1 -> 1025`. */
function changeInWords(store: unknown, row: number, old: unknown): string | undefined {
  const named = store as { nameOf?(row: number): string; name?: string; peek?(row: number): unknown };
  if (named.nameOf === undefined || named.peek === undefined) return undefined;
  const now = named.peek(row);
  if (now === old) return undefined;
  const field = named.name?.includes('.') === true ? (named.name.split('.').pop() ?? '') : '';
  const where = named.nameOf(row);
  const what = field !== '' && !where.includes(field.split('_')[0]!) ? `${field} of ${where}` : where;
  const words = named.name === 'frame.content' ? (token: unknown) => tokenText(token as number) : valueInWords;
  return `${what}: ${words(old)} -> ${words(now)}`;
}

function valueInWords(value: unknown): string {
  if (value === null || value === undefined) return 'none';
  if (Array.isArray(value)) return `[${value.length}]`;
  if (typeof value === 'object') return String((value as { name?: unknown }).name ?? 'changed');
  return String(value);
}
