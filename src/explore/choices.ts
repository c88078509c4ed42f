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
  for (let choice = 0; choice < alternatives; choice++) {
    const alike = sleepers.filter((sleeper) => sleeper.choices[at] === choice);
    const found = alike.length === 0 ? [...soFar, choice] : untaken(alike, [...soFar, choice]);
    if (found !== null) return found;
  }
  return null;
}
