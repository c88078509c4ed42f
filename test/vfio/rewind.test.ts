import { expect, test } from 'vitest';
import { call } from '../../src/engine/process.ts';
import { munmap } from '../../src/mm/mapping/mmap.ts';
import {
  deviceReads,
  IOVA0,
  makeLab,
  makeStation,
  mapMemory,
  openStation,
  PAGE,
  play,
  touch,
  vfMap,
  vfUnmap,
} from '../support/vfio-world.ts';
import { actor } from '../support/world.ts';

/** Act the live processes in turns until the actors have ended. */
function turns(lab: ReturnType<typeof makeLab>, seed: number): number {
  const { sim } = lab;
  let steps = 0;
  for (let at = seed; ; at = (at * 1103515245 + 12345) % 2147483648) {
    const ready = sim.processes.filter((p) => p.state !== 'ended' && p.enabled && !p.daemon);
    if (ready.length === 0) return steps;
    sim.act(ready[at % ready.length]!);
    steps++;
  }
}

test('in any order every step touches only what it announced, and nothing is left behind', () => {
  const lab = makeLab({ params: { thp: 'never' } });
  const station = makeStation(lab, 'edu');
  const { container, dma } = play(lab, () => openStation(lab, station, 'container0'));
  const p = play(lab, function* () {
    const vpn = yield* call(mapMemory(lab, { pages: 2 }));
    yield* call(touch(lab, vpn, 2));
    return vpn;
  });
  const { sim, task, core } = lab;
  sim.finishSetUp();
  actor(lab, task, 'vmm', function* () {
    yield* call(vfMap(container, p, IOVA0, 2));
    yield* call(vfUnmap(container, IOVA0, 2n * PAGE));
  });
  actor(lab, task, 'device', function* () {
    for (let i = 0; i < 3; i++) yield* call(deviceReads(dma, IOVA0 + BigInt(i % 2) * PAGE));
  });
  actor(lab, task, 'other', function* () {
    yield* call(munmap(core, p, 1));
  });
  sim.mark();
  const frames = [0, 1].map((i) => task.mm.peek()!.pageTable.peekFrame(p + i));
  for (let seed = 0; seed < 150; seed++) {
    sim.rewind();
    turns(lab, seed);
    expect(core.vmstat.peek('nr_foll_pin_acquired')).toBe(core.vmstat.peek('nr_foll_pin_released'));
    for (const pfn of frames) expect(core.frames.translations.peek(pfn)).toBeLessThanOrEqual(1);
  }
});

test('a rewound world runs again to the same state', () => {
  const lab = makeLab();
  const station = makeStation(lab, 'edu');
  const { container, dma } = play(lab, () => openStation(lab, station, 'container0'));
  const p = play(lab, function* () {
    const vpn = yield* call(mapMemory(lab, { pages: 2 }));
    yield* call(touch(lab, vpn, 2));
    return vpn;
  });
  const { sim, task } = lab;
  sim.finishSetUp();
  actor(lab, task, 'vmm', function* () {
    yield* call(vfMap(container, p, IOVA0, 2));
    yield* call(vfUnmap(container, IOVA0, 2n * PAGE));
  });
  actor(lab, task, 'device', function* () {
    for (let i = 0; i < 4; i++) yield* call(deviceReads(dma, IOVA0));
  });
  actor(lab, task, 'guest', () => touch(lab, p, 2, 'g'));

  sim.mark();
  const start = sim.stateDigest;
  const digests = new Map<number, string>();
  for (const round of [1, 2]) {
    for (const seed of [1, 22, 333]) {
      sim.rewind();
      expect(sim.stateDigest).toBe(start);
      const steps = turns(lab, seed);
      expect(steps).toBeGreaterThan(30);
      if (round === 1) digests.set(seed, sim.stateDigest);
      else expect(sim.stateDigest).toBe(digests.get(seed));
    }
  }
});
