// What cells of programs hold must not change within them: a search undoes assignments, and nothing else. Lists and plain
// objects are frozen, so that changing one throws where it happens.
import { isPlain } from '../engine/hash.ts';
import type { Named } from '../engine/names.ts';
import { inWords } from '../engine/yielded.ts';

/** What is frozen with all that is in it. Being frozen is not enough: a list that a program froze may hold others that can change. */
const kept = new WeakSet<object>();

/** Freeze what `cell` is to hold. Throws TypeError for what can change and cannot be frozen. */
export function freezeKept(cell: Named, value: unknown): void {
  if (typeof value !== 'object' || value === null || kept.has(value)) return;
  if (cannotFreeze(value)) {
    throw new TypeError(
      `${cell.nameOf(0)} cannot hold ${inWords(value)}, as a search could not undo what is changed in it; expected a ` +
        `primitive, a list or a plain object; or make a cell of each of its entries`,
    );
  }
  // A class of the program's own may keep to itself what it likes.
  if (!Array.isArray(value) && !isPlain(value)) return;
  Object.freeze(value);
  kept.add(value);
  for (const inner of Object.values(value)) freezeKept(cell, inner);
}

function cannotFreeze(value: object): boolean {
  return value instanceof Map || value instanceof Set || value instanceof Date || ArrayBuffer.isView(value);
}

/** What to do about an error of V8 that says that something frozen was to be changed; empty for others. */
export function frozenRemedy(thrown: unknown): string {
  if (!(thrown instanceof TypeError)) return '';
  if (!/read only property|not extensible|Cannot delete property|Cannot redefine property/.test(thrown.message))
    return '';
  return ' (what a cell holds is frozen: assign a changed copy, as in x.value = [...x.value, 4])';
}
