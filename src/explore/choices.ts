// Vectors of choices, and which of them come next.
import type { Action } from './action.ts';

/** The next vector in the order of counting, cut after the choice that went up; null after the last. */
export function nextChoices(choices: readonly number[], alternatives: readonly number[]): readonly number[] | null {
  for (let i = choices.length - 1; i >= 0; i--) {
    if (choices[i]! + 1 < alternatives[i]!) return [...choices.slice(0, i), choices[i]! + 1];
  }
  return null;
}

/** Choices that none of `sleepers`, which all chose alike so far, has taken; null when all are taken. */
export function untaken(sleepers: readonly Action[], soFar: readonly number[]): readonly number[] | null {
  const at = soFar.length;
  const alternatives = sleepers[0]!.alternatives[at];
  if (alternatives === undefined) return null;
  const alike: Action[][] = [];
  for (const sleeper of sleepers) {
    const choice = sleeper.choices[at] ?? 0;
    alike[choice] ??= [];
    alike[choice].push(sleeper);
  }
  for (let choice = 0; choice < alternatives; choice++) {
    const there = alike[choice];
    const found = there === undefined ? [...soFar, choice] : untaken(there, [...soFar, choice]);
    if (found !== null) return found;
  }
  return null;
}
