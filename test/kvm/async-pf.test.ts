// Asynchronous page faults: the guest goes on while a worker waits for its page (here: for a userfaultfd handler, as in
// post-copy migration).
import { describe, expect, it } from 'vitest';
import { call } from '../../src/engine/process.ts';
import { exploreSim } from '../../src/explore/explore.ts';
import { vcpuRead } from '../../src/guest/vcpu.ts';
import { createVcpu, destroyVm } from '../../src/kvm/create.ts';
import { tdpPageFault } from '../../src/kvm/page-fault.ts';
import { loadRoot } from '../../src/kvm/root-load.ts';
import { uffdModes } from '../../src/mm/mapping/vma.ts';
import { lruAddDrainAll } from '../../src/mm/reclaim/lru.ts';
import { tokenOf } from '../support/tokens.ts';
import { actor } from '../support/world.ts';
import { addSlot, as, GFN, type Guest, guestRead, makeGuest, mapMemory, VPN } from './guest.ts';

const COPY = tokenOf('copied');

function postCopy(asyncPf: boolean, without: readonly string[] = []): Guest {
  const guest = makeGuest({ changes: { without } }, { asyncPf });
  mapMemory(guest, 8, { uffd: uffdModes(['missing'], COPY) });
  addSlot(guest);
  return guest;
}

describe('a guest page fault that has to wait', () => {
  it.each([
    ['waits', false],
    ['is left to a worker, which keeps no reference', true],
  ])('%s, and finds the contents', (_, asyncPf) => {
    const guest = postCopy(asyncPf);
    expect(guestRead(guest)).toEqual({ token: COPY });
    as(guest, () => lruAddDrainAll(guest.core));
    expect(guest.core.folios.refcount.peek(guest.mm.pageTable.peekFrame(VPN))).toBe(1);
    expect([guest.vcpu.asyncQueue.peek(), guest.vcpu.asyncDone.peek()]).toEqual([[], []]);
  });

  it('is queued once per frame, and told to the guest', () => {
    const guest = postCopy(true);
    guest.mm.vmas.set(VPN, guest.mm.vmas.floor(VPN)![1].with({ uffd: uffdModes(['missing'], null) }));
    const seen: string[] = [];
    actor(guest.world, guest.task, 'vmm', function* () {
      yield* call(loadRoot(guest.vm, guest.vcpu));
      for (let i = 0; i < 2; i++) {
        seen.push(yield* call(tdpPageFault(guest.vm, guest.vcpu, { gfn: GFN, write: false, present: false })));
      }
    });
    const { sim } = guest.world;
    const vmm = sim.processes[sim.processes.length - 1]!;
    while (vmm.state === 'live') sim.act(vmm);
    expect(seen).toEqual(['async', 'async']);
    expect(guest.vcpu.asyncQueue.peek()).toHaveLength(1);
  });
});

describe('B32: a VM that ends while the worker of a page fault runs', () => {
  const race = (without: readonly string[]) => {
    const guest = postCopy(true, without);
    const second = as(guest, () => createVcpu(guest.vm));
    guest.world.sim.finishSetUp();
    actor(guest.world, guest.task, 'vmm', function* () {
      yield* call(vcpuRead(guest.vm, second, GFN));
      yield* call(destroyVm(guest.vm));
    });
    return exploreSim(guest.world.sim, { maxExecutions: 4000 });
  };

  it('is outlived by the worker when finished work is not waited for', () => {
    expect(race(['kvm.async-pf-flushes-work']).findings.map(({ message }) => message)).toContain(
      'the worker of an asynchronous page fault wakes vCPU 1 of vm after vm was destroyed',
    );
  });

  it('waits for its workers', () => {
    expect(race([])).toMatchObject({ findings: [], complete: true });
  });
});
