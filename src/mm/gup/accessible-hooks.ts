// arch_make_folio_accessible (6.1: arch_make_page_accessible): on s390 a pin first makes a secure guest's page
// accessible to the host. The architecture installs itself here; it lies above core mm.
import { call, type Steps } from '../../engine/process.ts';
import type { CoreMm } from '../core.ts';
import type { Refusal } from '../ledger.ts';

/** Null: accessible. Called with the pin already counted; it must not sleep. */
export type MakeAccessible = (core: CoreMm, head: number) => Steps<Refusal | null>;

const installed = new WeakMap<CoreMm, MakeAccessible>();

export function installMakeAccessible(core: CoreMm, hook: MakeAccessible): void {
  installed.set(core, hook);
}

/** Does this machine have to ask? */
export function mustMakeAccessible(core: CoreMm): boolean {
  return installed.has(core) && core.kernel.has('gup.arch-accessible');
}

/** Make `head` accessible. Large folios are never secure. */
export function* makeAccessible(core: CoreMm, head: number): Steps<Refusal | null> {
  const hook = installed.get(core);
  if (hook === undefined || core.folios.isLarge(head)) return null;
  return yield* call(hook(core, head));
}
