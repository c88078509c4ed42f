// The kernels next to one that was asked: what a counterexample is run again with, to find what would have prevented it.
import { findBehaviour } from './catalogue.ts';
import { KernelError } from './error.ts';
import { Kernel, type KernelChanges } from './kernel.ts';

/** A kernel that differs from another in one behaviour (and in what that requires). */
export interface Alternative {
  /** The behaviour, as `--with` takes it. */
  readonly argument: string;
  /** All changes to build it with, those of the original kernel included. */
  readonly changes: KernelChanges;
}

/**
 * For every question answered no, the kernel with that behaviour; for every question with ways, each other way.
 * In catalogue order; proposals and combinations that cannot exist are left out.
 */
export function alternatives(kernel: Kernel): readonly Alternative[] {
  const found: Alternative[] = [];
  for (const [id, answer] of kernel.asked()) {
    const behaviour = findBehaviour(id);
    if (behaviour === undefined || behaviour.proposal === true || answer === true) continue;
    const ways = Object.keys(behaviour.ways ?? {}).filter((way) => way !== answer);
    for (const argument of behaviour.ways === undefined ? [id] : ways.map((way) => `${id}=${way}`)) {
      const changes = changesFor(kernel, argument);
      if (exists(kernel, changes)) found.push({ argument, changes });
    }
  }
  return found;
}

/** The changes of the kernel with one more behaviour, and with what it requires and the kernel lacks. */
export function changesFor(kernel: Kernel, argument: string): KernelChanges {
  const added = new Map<string, string>();
  collect(kernel, argument, added);
  const untouched = (other: string) => !added.has(idOf(other));
  return {
    ...kernel.changes,
    with: [...(kernel.changes.with ?? []).filter(untouched), ...added.values()],
    without: (kernel.changes.without ?? []).filter(untouched),
  };
}

function collect(kernel: Kernel, argument: string, added: Map<string, string>): void {
  const behaviour = findBehaviour(idOf(argument));
  if (behaviour === undefined || added.has(behaviour.id)) return;
  added.set(behaviour.id, argument);
  for (const condition of behaviour.requires ?? []) if (!kernel.meets(condition)) collect(kernel, condition, added);
}

function idOf(argument: string): string {
  return argument.split('=')[0]!;
}

function exists(kernel: Kernel, changes: KernelChanges): boolean {
  try {
    new Kernel(kernel.profile, changes);
    return true;
  } catch (error) {
    if (error instanceof KernelError) return false;
    throw error;
  }
}
