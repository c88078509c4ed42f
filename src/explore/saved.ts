// What a search has to remember to go on in another process: plain data, as JSON can hold it. Steps are kept once and
// named by number; everything else refers to those.
import { Action } from './action.ts';
import type { Identity, SavedIdentity } from './identity.ts';
import { WakeupNode } from './wakeup.ts';

/** Actor, number, choices, alternatives, and lo, hi, kind of each access. */
export type SavedStep = readonly [number, number, readonly number[], readonly number[], readonly number[]];

/** A step and the trees after it. */
export type SavedTree = readonly [number, ...SavedTree[]];

/** An optimal search between two executions. */
export interface SavedDpor {
  readonly identity: SavedIdentity;
  readonly owners: readonly number[];
  readonly steps: readonly SavedStep[];
  readonly initial: readonly number[];
  readonly initialAlternatives: readonly number[];
  /** Steps to the node that the next execution leaves the last one at. */
  readonly path: readonly number[];
  /** By depth, up to the end of the path: what sleeps there, and what is to be run from there. */
  readonly sleep: readonly (readonly number[])[];
  readonly pending: readonly (readonly SavedTree[])[];
  readonly finished: boolean;
}

/** A way to go on: actor, choices, preemptions so far. */
export type SavedBranch = readonly [number, readonly number[], number];

/** A bounded search between two executions. */
export interface SavedBounded {
  readonly identity: SavedIdentity;
  readonly initial: readonly number[];
  readonly initialAlternatives: readonly number[];
  readonly path: readonly SavedBranch[];
  /** By depth, up to the end of the path. */
  readonly untried: readonly (readonly SavedBranch[])[];
  readonly ways: readonly number[];
  readonly reached: readonly (readonly [string, number])[];
  readonly ended: readonly string[];
  readonly leftOut: number;
  readonly finished: boolean;
}

/** Steps by number, each once. */
export class StepTable {
  readonly steps: SavedStep[] = [];
  private readonly numbers = new Map<Action, number>();

  /** `step`: one of those that are shared. */
  numberOf(step: Action): number {
    let number = this.numbers.get(step);
    if (number === undefined) {
      number = this.steps.length;
      this.numbers.set(step, number);
      const accesses: number[] = [];
      for (let i = 0; i < step.count; i++) accesses.push(step.lo[i]!, step.hi[i]!, step.kind[i]!);
      this.steps.push([step.actor, step.number, [...step.choices], [...step.alternatives], accesses]);
    }
    return number;
  }

  trees(first: WakeupNode | null): SavedTree[] {
    const trees: SavedTree[] = [];
    for (let node = first; node !== null; node = node.next) {
      trees.push([this.numberOf(node.step), ...this.trees(node.firstChild)]);
    }
    return trees;
  }
}

/** The step that was saved; the caller shares it. */
export function restoreStep([actor, number, choices, alternatives, accesses]: SavedStep, identity: Identity): Action {
  const step = new Action();
  step.actor = actor;
  step.number = number;
  step.choices = choices;
  step.alternatives = alternatives;
  for (let i = 0; i < accesses.length; i += 3) {
    step.lo.push(accesses[i]!);
    step.hi.push(accesses[i + 1]!);
    step.kind.push(accesses[i + 2]!);
  }
  step.count = accesses.length / 3;
  step.summarise(identity);
  return step;
}

/** The first of the trees below `parent`. */
export function restoreTrees(
  trees: readonly SavedTree[],
  steps: readonly Action[],
  parent: WakeupNode | null = null,
): WakeupNode | null {
  let first: WakeupNode | null = null;
  for (let i = trees.length - 1; i >= 0; i--) {
    const [number, ...below] = trees[i]!;
    const node = new WakeupNode(steps[number]!);
    node.parent = parent;
    node.firstChild = restoreTrees(below, steps, node);
    node.next = first;
    first = node;
  }
  return first;
}

/** JSON has no big integers: in plain data they are objects with this key. */
const BIG = '$big';

/** `value`, made of plain data and big integers, as JSON can hold it. */
export function toPlain(value: unknown): unknown {
  if (typeof value === 'bigint') return { [BIG]: String(value) };
  if (Array.isArray(value)) return value.map(toPlain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, toPlain(inner)]));
}

/** The opposite of `toPlain`. */
export function fromPlain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(fromPlain);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value);
  if (entries.length === 1 && entries[0]![0] === BIG) return BigInt(entries[0]![1] as string);
  return Object.fromEntries(entries.map(([key, inner]) => [key, fromPlain(inner)]));
}
