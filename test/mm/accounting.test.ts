import { describe, expect, it } from 'vitest';
import { accountLockedVm, addPinnedVm, chargeUser, unchargeUser } from '../../src/mm/accounting.ts';
import { CHARGED, type ChargeEvent } from '../../src/mm/ledger.ts';
import { User } from '../../src/mm/process/task.ts';
import { Lab } from '../support/lab.ts';
import { makeTask, makeWorld } from '../support/world.ts';

/** An unprivileged process that may lock 16 pages. */
function limited(): Lab {
  const world = makeWorld();
  return new Lab({}, makeTask(world, 'vmm', { uid: 1000, memlockBytes: 16 * 4096 + 4095 }), world);
}

const charge = (lab: Lab, pages: number) => lab.do(() => accountLockedVm(lab.core, lab.mm, pages, 'test'));

describe('account_locked_vm', () => {
  it('charges up to the limit, which it rounds down to pages, and not a page more', () => {
    const lab = limited();
    expect(charge(lab, 10)).toBeNull();
    expect(charge(lab, 6)).toBeNull();
    expect(lab.mm.lockedVm.peek()).toBe(16);
    const refused = charge(lab, 1);
    expect(refused?.errno).toBe('ENOMEM');
    expect(refused?.details).toEqual({
      'limit-bytes': 65536,
      'charged-bytes': 65536,
      'asked-bytes': 4096,
      'needed-bytes': 69632,
      'short-by': 4096,
    });
    expect(lab.mm.lockedVm.peek()).toBe(16);
    expect(charge(lab, -16)).toBeNull();
    expect(lab.mm.lockedVm.peek()).toBe(0);
  });

  it('asks nobody with CAP_IPC_LOCK for a limit, but counts', () => {
    const lab = new Lab();
    expect(charge(lab, 1_000_000)).toBeNull();
    expect(lab.mm.lockedVm.peek()).toBe(1_000_000);
  });

  it('takes mmap_lock for writing', () => {
    const lab = limited();
    lab.world.sim.observer = {
      stepActed: (process) => {
        if (process.acted.step.label === '__account_locked_vm') held = lab.mm.mmapLock.writeHeld;
      },
    };
    let held = false;
    charge(lab, 1);
    expect(held).toBe(true);
  });
});

describe('user->locked_vm', () => {
  it('adds up over the processes of a user, each with its own limit', () => {
    const world = makeWorld();
    const user = new User(world.sim, 1000);
    const small = new Lab({}, makeTask(world, 'small', { user, memlockBytes: 8 * 4096 }), world);
    const large = new Lab({}, makeTask(world, 'large', { user, memlockBytes: 32 * 4096 }), world);
    const take = (lab: Lab, pages: number) =>
      lab.do(() => chargeUser(lab.core, user, pages, lab.task, 'test', '__io_account_mem'))?.errno ?? 'ok';
    expect(take(small, 8)).toBe('ok');
    expect(take(large, 20)).toBe('ok');
    expect(take(small, 1)).toBe('ENOMEM');
    expect(take(large, 4)).toBe('ok');
    expect(take(large, 1)).toBe('ENOMEM');
    large.do(() => unchargeUser(large.core, user, 32, 'test'));
    expect(user.lockedVm.peek()).toBe(0);
  });
});

describe('the ledger', () => {
  it('hears of every change of every counter, and of nothing that was refused', () => {
    const lab = limited();
    const heard: ChargeEvent[] = [];
    lab.world.sim.on(CHARGED, (event) => heard.push(event));
    charge(lab, 5);
    charge(lab, 100);
    lab.do(() => chargeUser(lab.core, lab.task.credentials.peek(), 3, lab.task, 'ring', 'check'));
    lab.do(() => addPinnedVm(lab.core, lab.mm, 3, 'ring'));
    lab.do(() => addPinnedVm(lab.core, lab.mm, -3, 'ring'));
    charge(lab, -5);
    expect(heard).toEqual([
      { account: 'locked_vm of mm vmm', owner: 'test', pages: 5 },
      { account: 'locked_vm of uid 1000', owner: 'ring', pages: 3 },
      { account: 'pinned_vm of mm vmm', owner: 'ring', pages: 3 },
      { account: 'pinned_vm of mm vmm', owner: 'ring', pages: -3 },
      { account: 'locked_vm of mm vmm', owner: 'test', pages: -5 },
    ]);
  });
});
