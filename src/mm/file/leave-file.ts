// A folio leaves its file: told by no event, yet it decides what a write to the folio is a write to (src/check/dirty-loss.ts).
// The steps in which that may happen are ordered with writes, so that writes, of which there are many more, need not be
// ordered with them.
import type { Step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';

/** Announce that a file's folio may leave it in the step `at`. The folio is locked: whose it is stands. */
export function willLeaveFile(core: CoreMm, head: number, at: Step): void {
  if (core.rmapInode(head)?.kind !== 'file') return;
  core.frames.content.willPerhapsRange(head, head + core.folios.pagesOf(head) - 1, at);
}

/** In a step that announced it. */
export function leftFile(core: CoreMm, head: number): void {
  if (core.sim.watching) core.sim.noteLook(core.frames.content.base + head);
}
