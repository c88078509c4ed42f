// Pages that scripts hold by name (gup.pin, gup.get, memfd.pin_folios), as a driver holds those of its users. Holds under
// one name stack: each is given back by a gup.unpin of its own. At the end of a run a hold is still in use while the
// process it was taken for lives; it is a leak when that process has exited, and when a holder who gives back what it
// holds under a name has not given back all.
import type { CoreMm } from '../mm/core.ts';
import { type FrameRun, OWNER_GONE, REFERENCE_DROPPED, REFERENCE_TAKEN, type View } from '../mm/ledger.ts';
import type { World } from './world.ts';

/** Pages that somebody holds. */
export class Hold {
  readonly owner: string;
  /** The process whose pages they were asked for by. */
  readonly process: string;
  readonly grab: 'pin' | 'get' | 'folios';
  readonly runs: readonly FrameRun[];
  readonly view: View | null;
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

/** All that is held under one name. Never changed, only replaced: the names of a world are put back as they were. */
class Stack {
  readonly holds: readonly Hold[];
  readonly givenBack: number;

  constructor(holds: readonly Hold[], givenBack: number) {
    this.holds = holds;
    this.givenBack = givenBack;
  }
}

/** Who holds, for the ledger. */
export function ownerOf(name: string, process: string): string {
  return `${name} of ${process}`;
}

function stackOf(world: World, name: string): Stack {
  return (world.named.get(`pin:${name}`) as Stack | undefined) ?? new Stack([], 0);
}

/** What was last taken under that name; undefined: nothing was, or all has been given back. */
export function holdNamed(world: World, name: string): Hold | undefined {
  return stackOf(world, name).holds.at(-1);
}

export function addHold(world: World, name: string, hold: Hold): void {
  const { holds, givenBack } = stackOf(world, name);
  world.named.set(`pin:${name}`, new Stack([...holds, hold], givenBack));
  const { sim } = world;
  // The ledger hears of pins from GUP itself; plain references are mostly dropped again before anybody looks.
  if (hold.grab === 'get' && sim.hears(REFERENCE_TAKEN)) {
    sim.emit(REFERENCE_TAKEN, { runs: hold.runs, owner: hold.owner });
  }
}

/** The newest hold under that name is given back. */
export function dropHold(world: World, name: string, hold: Hold): void {
  const { holds, givenBack } = stackOf(world, name);
  const left = holds.filter((other) => other !== hold);
  world.named.set(`pin:${name}`, left.length === 0 ? new Stack([], 0) : new Stack(left, givenBack + 1));
  const { sim } = world;
  if (hold.grab === 'get' && sim.hears(REFERENCE_DROPPED)) {
    sim.emit(REFERENCE_DROPPED, { runs: hold.runs, owner: hold.owner });
  }
}

/** At the end of a run: say which holders will not drop what they hold. */
export function tellLeftHolds(world: World): void {
  const { sim } = world;
  if (!sim.hears(OWNER_GONE)) return;
  for (const [key, value] of world.named) {
    if (!key.startsWith('pin:') || !(value instanceof Stack)) continue;
    for (const { owner, process } of value.holds) {
      if (world.task(process).exited.peek()) sim.emit(OWNER_GONE, { owner, why: `${process} has exited` });
      else if (value.givenBack > 0) {
        const times = value.givenBack + value.holds.length;
        sim.emit(OWNER_GONE, { owner, why: `${owner} took pages ${times} times and gave back ${value.givenBack}` });
      }
    }
  }
}
