import { expect, test } from 'vitest';
import { call } from '../../src/engine/process.ts';
import { tokenOf } from '../support/tokens.ts';
import {
  deviceReads,
  deviceWrites,
  IOVA0,
  load,
  makeLab,
  makeStation,
  mapMemory,
  openStation,
  play,
  touch,
  vfMap,
  vfUnmap,
  vmlck,
} from '../support/vfio-world.ts';

test('pages of a populated anonymous mapping are pinned, charged and reached by the device, and given back by UNMAP', () => {
  const lab = makeLab();
  const station = makeStation(lab, 'edu');
  const { folios } = lab.core;
  const seen = play(lab, function* () {
    const { container, dma } = yield* call(openStation(lab, station, 'container0'));
    const p = yield* call(mapMemory(lab, { pages: 4 }));
    yield* call(touch(lab, p, 4, 'A'));
    const mapped = yield* call(vfMap(container, p, IOVA0, 4));
    const pfn = lab.task.mm.peek()!.pageTable.peekFrame(p);
    const pinned = { refs: folios.refcount.peek(pfn), kb: vmlck(lab.task) };
    const read = yield* call(deviceReads(dma, IOVA0));
    yield* call(deviceWrites(dma, IOVA0 + 4096n, 'D'));
    const cpu = yield* call(load(lab, p + 1));
    const unmapped = yield* call(vfUnmap(container, IOVA0, 0x4000n));
    const after = { refs: folios.refcount.peek(pfn), kb: vmlck(lab.task) };
    return { mapped, pinned, read, cpu, unmapped, after, blocked: yield* call(deviceReads(dma, IOVA0)) };
  });
  expect(seen.mapped).toBe('ok');
  expect(seen.pinned.refs - seen.after.refs).toBe(1024);
  expect(seen.pinned.kb).toBe(16);
  expect(seen.read).toBe(tokenOf('A'));
  expect(seen.cpu).toBe(tokenOf('D'));
  expect(seen.unmapped).toEqual(['ok', 16384]);
  expect(seen.after.kb).toBe(0);
  expect(seen.blocked).toBe('blocked');
});
