// Who pays for locked and pinned memory: mm->locked_vm (mlock, VFIO type1; mm/util.c account_locked_vm), mm->pinned_vm
// and user->locked_vm (io_uring, iommufd). Pages of 4 KiB; the same page is charged as often as it is asked for.
import type { Cell } from '../engine/cell.ts';
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { PAGE_SIZE } from '../hw/machine.ts';
import type { CoreMm } from './core.ts';
import { refuse } from './gup/gup-flags.ts';
import { CHARGED, type Refusal } from './ledger.ts';
import type { Mm } from './mm.ts';
import type { Task, User } from './process/task.ts';

const LOCKED_VM = step('__account_locked_vm', 'op');
const USER_LOCKED_VM = step('user->locked_vm', 'op');
const PINNED_VM = step('mm->pinned_vm', 'op');

/** Name of mm->locked_vm in the ledger. */
export function lockedVmOf(mm: Mm): string {
  return `locked_vm of mm ${mm.name}`;
}

/** Name of mm->pinned_vm in the ledger. */
export function pinnedVmOf(mm: Mm): string {
  return `pinned_vm of mm ${mm.name}`;
}

/** Name of user->locked_vm in the ledger. */
export function userLockedVmOf(user: User): string {
  return `locked_vm of uid ${user.uid}`;
}

/**
 * ENOMEM of a memlock limit, with the limit that would have sufficed. `check` is the kernel function that compared;
 * `account` is the counter that stood at `chargedPages` when `pages` more were asked for; `pendingPages` are counted
 * against the limit already, and will be charged at the end of the call.
 */
export function overLimit(
  check: string,
  account: { readonly name: string; readonly counter: Cell<number> },
  chargedPages: number,
  pages: number,
  limitPages: number,
  pendingPages = 0,
): Refusal {
  const needed = (chargedPages + pendingPages + pages) * PAGE_SIZE;
  const limit = limitPages * PAGE_SIZE;
  const pending = pendingPages === 0 ? '' : `, plus ${bytes(pendingPages)} pending in this call,`;
  return refuse(
    'ENOMEM',
    `${check}: ${account.name} is ${bytes(chargedPages)}${pending} and ${bytes(pages)} more would exceed RLIMIT_MEMLOCK, ${bytes(limitPages)}`,
    `RLIMIT_MEMLOCK of at least ${needed} bytes, ${needed - limit} more than now, or CAP_IPC_LOCK`,
    {
      'limit-bytes': limit,
      'charged-bytes': chargedPages * PAGE_SIZE,
      ...(pendingPages === 0 ? {} : { 'pending-bytes': pendingPages * PAGE_SIZE }),
      'asked-bytes': pages * PAGE_SIZE,
      'needed-bytes': needed,
      'short-by': needed - limit,
    },
    [account.counter.id],
  );
}

function bytes(pages: number): string {
  return `${pages * PAGE_SIZE} bytes (${pages} page${pages === 1 ? '' : 's'})`;
}

/** Tell the ledger of a change that the caller made to a counter. */
export function tellCharge(core: CoreMm, account: string, owner: string, pages: number): void {
  if (pages !== 0 && core.sim.hears(CHARGED)) core.sim.emit(CHARGED, { account, owner, pages });
}

/**
 * __account_locked_vm, in a step that announced updating `mm.lockedVm` and reading the limit; mmap_lock is held for
 * write. `task` is the one whose limit counts; `bypass`: it has CAP_IPC_LOCK. Error: ENOMEM. A negative `pages` gives back
 * and never fails.
 */
export function accountLockedVmNow(
  core: CoreMm,
  mm: Mm,
  pages: number,
  task: Task,
  bypass: boolean,
  owner: string,
): Refusal | null {
  const charged = mm.lockedVm.value;
  const limit = task.memlockPages;
  if (pages > 0 && !bypass && charged + pages > limit) {
    return overLimit('__account_locked_vm', { name: lockedVmOf(mm), counter: mm.lockedVm }, charged, pages, limit);
  }
  mm.lockedVm.value = charged + pages;
  tellCharge(core, lockedVmOf(mm), owner, pages);
  return null;
}

/** account_locked_vm: charge (or with negative `pages` give back) on behalf of the running task. Error: ENOMEM. */
export function* accountLockedVm(core: CoreMm, mm: Mm, pages: number, owner: string): Steps<Refusal | null> {
  if (pages === 0) return null;
  const { task } = core.current;
  yield* call(mm.mmapLock.write());
  task.memlockBytes.willRead(LOCKED_VM);
  yield mm.lockedVm.willUpdate(LOCKED_VM);
  const refused = accountLockedVmNow(core, mm, pages, task, core.current.capable('CAP_IPC_LOCK'), owner);
  yield mm.mmapLock.up();
  return refused;
}

/**
 * Charge user->locked_vm as io_uring and iommufd do: one atomic compare-and-add against the limit of `limitOf`, a limit
 * of the process on a counter of the user. Error: ENOMEM.
 */
export function* chargeUser(
  core: CoreMm,
  user: User,
  pages: number,
  limitOf: Task,
  owner: string,
  check: string,
): Steps<Refusal | null> {
  if (pages === 0) return null;
  limitOf.memlockBytes.willRead(USER_LOCKED_VM);
  yield user.lockedVm.willUpdate(USER_LOCKED_VM);
  const charged = user.lockedVm.value;
  const limit = limitOf.memlockPages;
  if (charged + pages > limit)
    return overLimit(check, { name: userLockedVmOf(user), counter: user.lockedVm }, charged, pages, limit);
  user.lockedVm.value = charged + pages;
  tellCharge(core, userLockedVmOf(user), owner, pages);
  return null;
}

/** Give back what `chargeUser` charged. */
export function* unchargeUser(core: CoreMm, user: User, pages: number, owner: string): Steps<void> {
  if (pages === 0) return;
  yield user.lockedVm.willUpdate(USER_LOCKED_VM);
  user.lockedVm.value -= pages;
  tellCharge(core, userLockedVmOf(user), owner, -pages);
}

/** Add to mm->pinned_vm (negative: give back). It is shown as VmPin and limits nobody. */
export function* addPinnedVm(core: CoreMm, mm: Mm, pages: number, owner: string): Steps<void> {
  if (pages === 0) return;
  yield mm.pinnedVm.willUpdate(PINNED_VM);
  mm.pinnedVm.value += pages;
  tellCharge(core, pinnedVmOf(mm), owner, pages);
}
