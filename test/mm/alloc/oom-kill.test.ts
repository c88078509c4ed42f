import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import { runTimed } from '../../../src/engine/timed.ts';
import { tokenOf } from '../../../src/hw/token.ts';
import { OOM_KILL, type OomKill } from '../../../src/mm/alloc/oom-kill.ts';
import { cpuAccess } from '../../../src/mm/fault/access.ts';
import type { Task } from '../../../src/mm/process/task.ts';
import { startReclaim } from '../../../src/mm/reclaim/kswapd.ts';
import { anonArea } from '../../support/pages.ts';
import { actor, makeTask, makeWorld } from '../../support/world.ts';

const KERNELS = ['v5.4', 'v6.1.192', 'v6.12.117'] as const;
const AREA = 10000;

/** 8 MiB, of which the zero pages take 4; every access is checked. */
function pressedWorld(kernel: string, swapSlots: number) {
  const world = makeWorld({
    kernel,
    zones: [{ kind: 'NORMAL', node: 0, pages: 2048 }],
    params: { swapSlots, thp: 'never', stepPages: 1 },
    sim: { journaled: false, digested: false, checked: true },
  });
  const tasks: Task[] = [];
  const kills: OomKill[] = [];
  startReclaim(world.core, { tasks: () => tasks });
  world.sim.on(OOM_KILL, (kill) => kills.push(kill));
  return { ...world, tasks, kills };
}

type Pressed = ReturnType<typeof pressedWorld>;

/** A process that writes each of `pages` pages, then reads them all; how it ended. */
function toucher(world: Pressed, name: string, pages: number) {
  const task = makeTask(world, name);
  world.tasks.push(task);
  anonArea(world, task, AREA, pages);
  const seen = { task, signal: null as string | null, wrong: 0 };
  actor(world, task, name, function* () {
    for (const write of [true, false]) {
      for (let i = 0; i < pages; i++) {
        const token = tokenOf(`${name} ${i}`);
        const done = yield* call(cpuAccess(world.core, AREA + i, write ? { token } : null));
        if ('signal' in done) {
          seen.signal = done.signal;
          return;
        }
        if (done.token !== token) seen.wrong++;
      }
    }
  });
  return seen;
}

describe.each(KERNELS)('more memory in use than there is, on %s', (kernel) => {
  it.each([1, 2])('goes to swap and comes back, with %i processes at it', (processes) => {
    const world = pressedWorld(kernel, 8192);
    const all = Array.from({ length: processes }, (_, i) => toucher(world, `p${i}`, 2600 / processes));
    expect(runTimed(world.sim).end).toBe('done');
    expect(all.map(({ signal, wrong }) => [signal, wrong])).toEqual(all.map(() => [null, 0]));
    expect(world.kills).toEqual([]);
  });

  it('without swap costs the one that has most of it its life, and nobody else', () => {
    const world = pressedWorld(kernel, 0);
    const hog = toucher(world, 'hog', 3000);
    const bystander = toucher(world, 'bystander', 100);
    expect(runTimed(world.sim).end).toBe('done');
    expect(world.kills.map(({ victim }) => victim?.name)).toEqual(['hog']);
    expect(hog.signal).toBe('SIGKILL');
    expect(hog.task.exited.peek()).toBe(true);
    expect(hog.task.mm.peek()).toBe(null);
    expect([bystander.signal, bystander.wrong]).toEqual([null, 0]);
    expect(world.core.vmstat.peek('oom_kill')).toBe(1);
  });

  it('spares who is exempt by oom_score_adj', () => {
    const world = pressedWorld(kernel, 0);
    const exempt = toucher(world, 'exempt', 700);
    exempt.task.oomScoreAdj.value = -1000;
    const other = toucher(world, 'other', 500);
    expect(runTimed(world.sim).end).toBe('done');
    expect(world.kills.map(({ victim }) => victim?.name)).toEqual(['other']);
    expect([exempt.signal, exempt.task.exited.peek()]).toEqual([null, false]);
    expect(other.task.exited.peek()).toBe(true);
  });

  it('ends in a panic where nobody may be killed', () => {
    const world = pressedWorld(kernel, 0);
    toucher(world, 'exempt', 3000).task.oomScoreAdj.value = -1000;
    expect(() => runTimed(world.sim)).toThrow('exempt finds no memory and nobody to kill for it: the kernel panics');
  });
});
