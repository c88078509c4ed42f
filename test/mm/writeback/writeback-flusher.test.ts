import { describe, expect, it } from 'vitest';
import { call, type Steps } from '../../../src/engine/process.ts';
import { step } from '../../../src/engine/step.ts';
import { runTimed } from '../../../src/engine/timed.ts';
import { cpuAccess } from '../../../src/mm/fault/access.ts';
import { writePage } from '../../../src/mm/file/file-io.ts';
import { lockFolio } from '../../../src/mm/folio-lock.ts';
import { wakeFlushers } from '../../../src/mm/reclaim/pageout-hooks.ts';
import { Flusher, type FlusherParams, installWriteback } from '../../../src/mm/writeback/flusher.ts';
import { pageoutFile } from '../../../src/mm/writeback/writeback.ts';
import {
  BASE,
  cachedFrame,
  dmaWrite,
  type FileBench,
  fileBench,
  flagsOf,
  frameOf,
  pinByHand,
  touch,
  unpin,
} from '../../support/file-bench.ts';
import { tokenOf } from '../../support/tokens.ts';
import { actor, makeTask, run } from '../../support/world.ts';

const PAUSE = step('test:pause', 'none');
const LOCK = step('test:lock', 'lock');
const C = tokenOf('C');
const D = tokenOf('D');

/** Run `body` beside a flusher, until everything is idle; the simulated time at the end [ns]. */
function flushed(b: FileBench, params: Partial<FlusherParams>, body: () => Steps<void>): number {
  const flusher = new Flusher(b.core, params);
  flusher.start(makeTask(b, 'kthreadd'));
  installWriteback(b.core, flusher);
  actor(b, b.task, 'user', function* () {
    yield* call(body());
  });
  expect(runTimed(b.sim).end).toBe('done');
  return b.sim.nowNs;
}

describe('the flusher', () => {
  it('lets dirty pages grow 30 s old and then writes them', () => {
    const b = fileBench();
    const at = flushed(b, {}, function* () {
      yield* call(writePage(b.core, b.file, 1, C));
    });
    expect(at).toBe(30_000_000_000);
    expect(b.file.disk.peek(1)).toBe(C);
    expect(flagsOf(b, cachedFrame(b, 1))).not.toContain('DIRTY');
    expect(b.file.dirty.peek()).toBe(false);
  });

  it('does not wait where more than the background threshold is dirty', () => {
    const b = fileBench();
    const at = flushed(b, { backgroundPages: 2 }, function* () {
      yield* call(writePage(b.core, b.file, 0, C));
      yield* call(writePage(b.core, b.file, 1, C));
    });
    expect(at).toBe(5_000_000_000);
    expect(b.file.disk.peek(1)).toBe(C);
  });

  it('writes at once when reclaim wakes it', () => {
    const b = fileBench();
    let atOnce = 0;
    flushed(b, {}, function* () {
      yield* call(writePage(b.core, b.file, 0, C));
      yield* call(wakeFlushers(b.core));
      yield b.sim.sleep(1_000_000, PAUSE);
      atOnce = b.file.disk.peek(0);
    });
    expect(atOnce).toBe(C);
  });

  it('writes again what was dirtied after it had been written', () => {
    const b = fileBench();
    flushed(b, { intervalNs: 10, expireNs: 10 }, function* () {
      yield* call(cpuAccess(b.core, BASE, { token: C }));
      yield b.sim.sleep(1_000_000, PAUSE);
      yield* call(cpuAccess(b.core, BASE, { token: D }));
    });
    expect(b.file.disk.peek(0)).toBe(D);
  });

  it('hears of a page that only an unpin marks dirty, and writes what the device left there', () => {
    const b = fileBench();
    touch(b, 0, C);
    const pfn = frameOf(b);
    flushed(b, { intervalNs: 10, expireNs: 10 }, function* () {
      yield* call(pinByHand(b, pfn));
      yield b.sim.sleep(1_000_000, PAUSE);
      yield* call(dmaWrite(b, pfn, D));
      yield b.sim.sleep(1_000_000, PAUSE);
      expect(b.file.disk.peek(0)).toBe(C);
      yield* call(unpin(b, pfn, true));
    });
    expect(b.file.disk.peek(0)).toBe(D);
  });
});

describe('reclaim that writes one page', () => {
  it.each([
    ['v6.1.192', true],
    ['v6.12.117', false],
  ])('of ext4 on %s: %s', (kernel, writes) => {
    const b = fileBench({ kernel });
    touch(b, 0, C);
    const pfn = frameOf(b);
    const done = run(b, b.task, function* () {
      yield lockFolio(b.core, pfn, LOCK);
      return yield* call(pageoutFile(b.core, b.file, pfn));
    });
    expect(done).toBe(writes);
    expect(b.file.disk.peek(0)).toBe(writes ? C : 0);
    // Unlocked when it was started, and still the caller's otherwise.
    expect(flagsOf(b, pfn).includes('LOCKED')).toBe(!writes);
    expect(flagsOf(b, pfn).includes('DIRTY')).toBe(!writes);
  });
});
