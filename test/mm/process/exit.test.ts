import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import { step } from '../../../src/engine/step.ts';
import { runTimed } from '../../../src/engine/timed.ts';
import { unpinUserPages } from '../../../src/mm/gup/unpin.ts';
import { exec } from '../../../src/mm/process/exec.ts';
import { exit, mmgetNotZero, mmput } from '../../../src/mm/process/exit.ts';
import { fork } from '../../../src/mm/process/fork.ts';
import { OpenFile } from '../../../src/mm/process/task.ts';
import { lruAddDrainAll } from '../../../src/mm/reclaim/lru.ts';
import { Lab, RECORDED } from '../../support/lab.ts';
import { actor } from '../../support/world.ts';

/** A descriptor that holds the pins of the lab and drops them on its last close, as a VFIO container does. */
function holdByFile(lab: Lab, order: string[] = []): OpenFile {
  const runs = lab.pinned;
  const file = new OpenFile(lab.world.sim, {
    name: 'container',
    kind: 'vfio-container',
    object: null,
    *release() {
      order.push(`release, present ${lab.pfn() !== 0}`);
      yield* call(unpinUserPages(lab.core, runs, { owner: 'device' }));
    },
  });
  lab.world.sim.unwatched(() => {
    lab.task.files.value = [file];
  });
  return file;
}

const freeFrames = (lab: Lab) =>
  lab.core.zones.reduce((sum, zone) => sum + zone.freePages.peek(), 0) +
  lab.core.perCpu.reduce((sum, cpu) => sum + cpu.freePages.peek().length + 512 * cpu.freeBlocks.peek().length, 0);

describe.each(RECORDED)('process exit on %s', (kernel) => {
  it.each([8, 512])('releases the pins of its descriptors, after its page tables are gone (%i pages)', (pages) => {
    const lab = new Lab({ kernel });
    const before = freeFrames(lab);
    lab.map({ pages });
    if (pages === 512) lab.write('c');
    else lab.touchAll('c');
    lab.pin();
    const order: string[] = [];
    holdByFile(lab, order);
    lab.do(() => exit(lab.core));
    expect(order).toEqual(['release, present false']);
    expect(lab.core.vmstat.peek('nr_foll_pin_acquired')).toBe(pages);
    expect(lab.core.vmstat.peek('nr_foll_pin_released')).toBe(pages);
    const other = new Lab({}, undefined, lab.world);
    other.do(() => lruAddDrainAll(lab.core));
    expect(freeFrames(lab)).toBe(before);
    expect(lab.task.exited.peek()).toBe(true);
  });

  it('leaves pinned pages to a child that keeps the descriptor', () => {
    const lab = new Lab({ kernel });
    lab.map();
    lab.touchAll('c');
    lab.pin();
    holdByFile(lab);
    const { sim, core } = lab.world;
    let seen = '';
    actor(lab.world, lab.task, 'owner', function* () {
      yield* call(
        fork(core, { name: 'child' }, function* () {
          yield sim.sleep(1_000_000, step('wait', 'none'));
          yield* call(lruAddDrainAll(core));
          seen = `${lab.deviceRead()} ${lab.refcount()}`;
          yield* call(exit(core));
        }),
      );
      yield* call(exit(core));
    });
    expect(runTimed(sim).end).toBe('done');
    expect(seen).toBe('c 1024');
    expect(lab.freed).toBe(true);
  });
});

describe('exit_mmap', () => {
  it('releases secondary MMUs before the first page goes', () => {
    const lab = new Lab();
    lab.map();
    lab.touchAll('c');
    const order: string[] = [];
    lab.mm.notifiers.registerNow({
      name: 'kvm',
      *release() {
        order.push(`release ${lab.pfn() !== 0}`);
      },
      *invalidateRangeStart() {
        order.push('window');
        return true;
      },
    });
    lab.do(() => exit(lab.core));
    expect(order).toEqual(['release true']);
    expect(lab.pfn()).toBe(0);
    expect(lab.vmas).toEqual([]);
  });

  it('waits for the last user of the address space', () => {
    const lab = new Lab();
    lab.map();
    lab.touchAll('c');
    const { core } = lab.world;
    const seen: boolean[] = [];
    actor(lab.world, lab.task, 'remote', function* () {
      seen.push(yield* call(mmgetNotZero(lab.mm)));
      yield core.sim.sleep(1_000_000, step('remote pin', 'none'));
      seen.push(lab.pfn() !== 0);
      yield* call(mmput(core, lab.mm));
      seen.push(lab.pfn() !== 0, yield* call(mmgetNotZero(lab.mm)));
    });
    actor(lab.world, lab.task, 'exiting', function* () {
      yield core.sim.sleep(1_000, step('later', 'none'));
      yield* call(exit(core));
    });
    expect(runTimed(core.sim).end).toBe('done');
    expect(seen).toEqual([true, true, false, false]);
  });
});

describe('exec', () => {
  it('replaces the address space, drops its pages and keeps the pins of descriptors that stay open', () => {
    const lab = new Lab();
    lab.map();
    lab.touchAll('c');
    lab.pin();
    const kept = holdByFile(lab);
    expect(lab.do(() => exec(lab.core))).toBe('ok');
    expect(lab.task.mm.peek()).not.toBe(lab.mm);
    expect(lab.pfn()).toBe(0);
    expect(lab.read()).toBe('SIGSEGV');
    expect(lab.deviceRead()).toBe('c');
    expect(kept.references.peek()).toBe(1);
  });

  it('closes descriptors marked close-on-exec after the address space changed', () => {
    const lab = new Lab();
    lab.map();
    lab.touchAll('c');
    lab.pin();
    const order: string[] = [];
    holdByFile(lab, order);
    lab.do(() => exec(lab.core, (file) => file.kind === 'vfio-container'));
    expect(order).toEqual(['release, present false']);
    expect(lab.task.files.peek()).toEqual([]);
  });
});
