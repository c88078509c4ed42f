// Pages that scripts hold by name (gup.pin, gup.get, memfd.pin_folios), as a driver holds those of its users. Holds under
// one name stack: each is given back by a gup.unpin of its own. At the end of a run a hold is still in use while the
// process it was taken for lives; it is a leak when that process has exited, and when a holder who gives back what it
// holds under a name has not given back all.
import { Cell } from '../../engine/cell.ts';
import { hashText, mix } from '../../engine/hash.ts';
import type { Steps } from '../../engine/process.ts';
import { type Step, step } from '../../engine/step.ts';
import type { CoreMm } from '../../mm/core.ts';
import {
  type FrameRun,
  OWNER_GONE,
  REFERENCE_DROPPED,
  REFERENCE_TAKEN,
  VIEW_ADDED,
  VIEW_REMOVED,
  type View,
} from '../../mm/ledger.ts';
import { willLookAtProcess } from '../../mm/view-look.ts';
import { Declared, type Script, visitNames } from '../file/reference.ts';
import type { ScriptStep } from '../file/step.ts';
import { operationsIn } from '../file/wait-targets.ts';
import type { World } from './world.ts';

const HOLD = step('gup-user:hold', 'none');
const LET_GO = step('gup-user:let-go', 'none');
const LOOK = step('gup-user:look-up', 'none');

/** Pages that somebody holds. */
export class Hold {
  readonly owner: string;
  /** The process whose pages they were asked for by. */
  readonly process: string;
  readonly grab: 'pin' | 'get' | 'folios';
  readonly runs: readonly FrameRun[];
  readonly view: View | null;
  readonly identity: number;
  /** Generations of the frames held, which are theirs until they are let go. */
  private readonly generations: ReadonlyMap<number, number>;

  constructor(
    core: CoreMm,
    process: string,
    name: string,
    grab: Hold['grab'],
    runs: readonly FrameRun[],
    view: View | null,
  ) {
    this.owner = ownerOf(name, process);
    this.process = process;
    this.grab = grab;
    this.runs = runs;
    this.view = view;
    this.identity = runs.reduce((hash, run) => mix(mix(hash, run.pfn), run.pages), hashText(this.owner));
    const generations = new Map<number, number>();
    for (const { pfn, pages } of runs) {
      for (let at = pfn; at < pfn + pages; at++) generations.set(at, core.frames.peekGeneration(at));
    }
    this.generations = generations;
  }

  get pages(): number {
    return this.runs.reduce((sum, run) => sum + run.pages, 0);
  }

  frame(page: number): { readonly pfn: number; readonly generation: number } | undefined {
    let left = page;
    for (const { pfn, pages } of this.runs) {
      if (left < pages) return { pfn: pfn + left, generation: this.generations.get(pfn + left)! };
      left -= pages;
    }
    return undefined;
  }
}

/** All that is held under one name. Immutable. */
class Stack {
  readonly holds: readonly Hold[];
  readonly givenBack: number;
  readonly identity: number;

  constructor(holds: readonly Hold[], givenBack: number) {
    this.holds = holds;
    this.givenBack = givenBack;
    this.identity = holds.reduce((hash, hold) => mix(hash, hold.identity), givenBack);
  }

  get last(): Hold | undefined {
    return this.holds.at(-1);
  }
}

/** What is held by name: one cell each, as any actor may use the name that another gave. */
export class Holds {
  private readonly core: CoreMm;
  private readonly byName = new Map<string, Cell<Stack>>();

  /** `scripts`: all that a world performs. Names are made before it starts. */
  constructor(core: CoreMm, scripts: readonly Script<ScriptStep>[]) {
    this.core = core;
    for (const script of scripts) {
      for (const { args } of operationsIn(script)) {
        visitNames(args, [], (found) => {
          if (found instanceof Declared && found.kinds.includes('pin') && !this.byName.has(found.name))
            this.byName.set(found.name, new Cell(core.sim, `pages held as ${found.name}`, new Stack([], 0)));
        });
      }
    }
  }

  has(name: string): boolean {
    return this.byName.has(name);
  }

  private cell(name: string): Cell<Stack> {
    const cell = this.byName.get(name);
    if (cell === undefined) throw new Error(`nothing is ever held as ${name}`);
    return cell;
  }

  /** From now on `hold` is what was last taken under that name. */
  *add(name: string, hold: Hold): Steps<void> {
    const { sim } = this.core;
    const { view } = hold;
    const cell = this.cell(name);
    view?.mm.vmas.willRead(HOLD);
    yield cell.willUpdate(HOLD);
    cell.value = new Stack([...cell.value.holds, hold], cell.value.givenBack);
    // The ledger hears of pins from GUP itself; plain references are mostly dropped again before anybody looks.
    if (hold.grab === 'get' && sim.hears(REFERENCE_TAKEN)) {
      sim.emit(REFERENCE_TAKEN, { runs: hold.runs, owner: hold.owner });
    }
    if (view !== null && sim.hears(VIEW_ADDED)) sim.emit(VIEW_ADDED, view);
  }

  /** What was last taken under that name is given back by the caller, who calls `gone` then; undefined: nothing is held. */
  *take(name: string): Steps<Hold | undefined> {
    const { sim } = this.core;
    const cell = this.cell(name);
    for (;;) {
      // The look tells what to announce; the act looks again.
      const seen = cell.peek().last;
      if (seen !== undefined && seen.view !== null) willLookAtProcess(this.core, seen.view, LET_GO);
      yield cell.willUpdate(LET_GO);
      const { holds, givenBack, last } = cell.value;
      if (last !== seen) continue;
      if (last === undefined) return undefined;
      cell.value = holds.length === 1 ? new Stack([], 0) : new Stack(holds.slice(0, -1), givenBack + 1);
      if (last.view !== null && sim.hears(VIEW_REMOVED)) sim.emit(VIEW_REMOVED, last.view);
      return last;
    }
  }

  /** The pages are given back. */
  gone(hold: Hold): void {
    const { sim } = this.core;
    if (hold.grab === 'get' && sim.hears(REFERENCE_DROPPED)) {
      sim.emit(REFERENCE_DROPPED, { runs: hold.runs, owner: hold.owner });
    }
  }

  /** What was last taken under that name, for a step that announces reading `id` and looks with `isLast` again. */
  *last(name: string): Steps<Hold | undefined> {
    const cell = this.cell(name);
    const seen = cell.peek().last;
    if (seen !== undefined) return seen;
    yield cell.willRead(LOOK);
    return cell.value.last;
  }

  willRead(name: string, at: Step): void {
    this.cell(name).willRead(at);
  }

  /** In a step that announced `willRead`. */
  isLast(name: string, hold: Hold): boolean {
    return this.cell(name).value.last === hold;
  }

  /** At the end of a run. */
  left(): readonly { readonly hold: Hold; readonly held: number; readonly givenBack: number }[] {
    return [...this.byName.values()].flatMap((cell) => {
      const { holds, givenBack } = cell.peek();
      return holds.map((hold) => ({ hold, held: holds.length, givenBack }));
    });
  }
}

/** Who holds, for the ledger. */
export function ownerOf(name: string, process: string): string {
  return `${name} of ${process}`;
}

/** At the end of a run: say which holders will not drop what they hold. */
export function tellLeftHolds(world: World): void {
  const { sim } = world;
  if (!sim.hears(OWNER_GONE)) return;
  for (const { hold, held, givenBack } of world.holds.left()) {
    const { owner, process } = hold;
    if (world.task(process).exited.peek()) sim.emit(OWNER_GONE, { owner, why: `${process} has exited` });
    else if (givenBack > 0) {
      const times = givenBack + held;
      sim.emit(OWNER_GONE, { owner, why: `${owner} took pages ${times} times and gave back ${givenBack}` });
    }
  }
}
