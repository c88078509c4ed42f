// Pins of present memory: what is counted, how it is given back, and what GUP-slow and GUP-fast refuse.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { call, type Steps } from '../../../src/engine/process.ts';
import type { CoreMm } from '../../../src/mm/core.ts';
import { pinUserPagesRemote } from '../../../src/mm/gup/gup.ts';
import { getUserPagesFast, pinUserPagesFast } from '../../../src/mm/gup/gup-fast.ts';
import type { GupRequest, GupResult } from '../../../src/mm/gup/gup-flags.ts';
import { putUserPages, unpinUserPages } from '../../../src/mm/gup/unpin.ts';
import { PIN_DROPPED, PIN_TAKEN } from '../../../src/mm/ledger.ts';
import type { Vma, VmaFields } from '../../../src/mm/mapping/vma.ts';
import type { Mm } from '../../../src/mm/mm.ts';
import type { Task } from '../../../src/mm/process/task.ts';
import { placeAnonPages, placeAnonVma, placeHugePage, reserveFrames } from '../../support/memory.ts';
import { makeTask, makeWorld, run, type TestWorld, type WorldOptions } from '../../support/world.ts';

const VPN = 0x10000;
const RW: GupRequest = { owner: 'test', write: true };
const RO: GupRequest = { owner: 'test', write: false };

interface Scene {
  readonly world: TestWorld;
  readonly core: CoreMm;
  readonly task: Task;
  readonly mm: Mm;
  readonly vma: Vma;
  readonly pfn: number;
}

/** A task with `pages` present anonymous pages, or with one 2 MiB page. */
function scene(options: WorldOptions & { pages?: number; huge?: boolean; vma?: Partial<VmaFields> } = {}): Scene {
  const world = makeWorld(options);
  const { core } = world;
  const task = makeTask(world, 'vmm');
  const mm = task.mm.peek()!;
  const pages = options.huge === true ? 512 : (options.pages ?? 4);
  const pfn = reserveFrames(core, 0, options.huge === true ? 512 : pages, options.huge === true ? 512 : 1);
  const vma = placeAnonVma(core, mm, VPN, pages, options.vma);
  if (options.huge === true) placeHugePage(core, mm, vma, VPN, pfn);
  else placeAnonPages(core, mm, vma, VPN, pfn, pages);
  return { world, core, task, mm, vma, pfn };
}

function* pinSlow(s: Scene, vpn: number, pages: number, request: GupRequest): Steps<GupResult> {
  yield* call(s.mm.mmapLock.read());
  const result = yield* call(pinUserPagesRemote(s.core, s.mm, vpn, pages, request));
  if (result.locked) yield s.mm.mmapLock.up();
  return result;
}

const slow = (s: Scene, vpn: number, pages: number, request: GupRequest) =>
  run(s.world, s.task, () => pinSlow(s, vpn, pages, request));
const fast = (s: Scene, vpn: number, pages: number, request: GupRequest) =>
  run(s.world, s.task, () => pinUserPagesFast(s.core, vpn, pages, request));
const unpin = (s: Scene, result: GupResult, dirty = false) =>
  run(s.world, s.task, () => unpinUserPages(s.core, result.runs, { owner: 'test', dirty }));

describe.each([
  ['slow', slow],
  ['fast', fast],
] as const)('a pin taken by GUP-%s', (_, pin) => {
  it('adds 1024 references to each small page, as one run of frames', () => {
    const s = scene();
    const result = pin(s, VPN + 1, 3, RW);
    expect(result).toMatchObject({ runs: [{ pfn: s.pfn + 1, pages: 3 }], pinned: 3 });
    expect([0, 1, 2, 3].map((i) => s.core.folios.refcount.peek(s.pfn + i))).toEqual([1, 1025, 1025, 1025]);
    expect(s.core.vmstat.peek('nr_foll_pin_acquired')).toBe(3);
    expect(s.mm.hasPinned.peek()).toBe(true);
  });

  it('adds a reference and a pin per page to a 2 MiB page', () => {
    const s = scene({ huge: true });
    expect(pin(s, VPN + 100, 300, RW)).toMatchObject({ runs: [{ pfn: s.pfn + 100, pages: 300 }], pinned: 300 });
    expect(s.core.folios.refcount.peek(s.pfn)).toBe(301);
    expect(s.core.folios.pincount.peek(s.pfn)).toBe(300);
  });

  it('comes back to the counts it started from', () => {
    for (const huge of [false, true]) {
      const s = scene({ huge });
      const result = pin(s, VPN, 4, RW);
      unpin(s, result, true);
      expect(s.core.folios.refcount.peek(s.pfn)).toBe(1);
      expect(s.core.folios.pincount.peek(s.pfn)).toBe(0);
      expect(s.core.vmstat.peek('nr_foll_pin_released')).toBe(4);
    }
  });

  it('stops at the end of the mapping with what it has, and says why', () => {
    const s = scene();
    const result = pin(s, VPN + 2, 8, RW);
    expect(result.pinned).toBe(2);
    expect(result.errno).toBeUndefined();
    expect(result.reason?.errno).toBe('EFAULT');
    expect(result.reason?.reasons.at(-1)).toContain('gup_vma_lookup: nothing is mapped at 0x10004000');
    // The next call finds nothing first.
    expect(pin(s, VPN + 4, 1, RW)).toMatchObject({ pinned: 0, errno: 'EFAULT', runs: [] });
  });

  it('tells the ledger what it holds and what it gave back', () => {
    const s = scene();
    const heard: unknown[] = [];
    s.world.sim.on(PIN_TAKEN, (pin) => heard.push(pin));
    s.world.sim.on(PIN_DROPPED, (pin) => heard.push(pin));
    const result = pin(s, VPN, 2, { ...RW, longterm: true });
    unpin(s, result);
    const runs = [{ pfn: s.pfn, pages: 2 }];
    expect(heard).toEqual([
      { runs, owner: 'test', mm: 'vmm', vpn: VPN, longterm: true, write: true },
      { runs, owner: 'test', dirty: false },
    ]);
  });

  it('frees the pages at the last unpin when nothing else holds them', () => {
    const s = scene({ pages: 2 });
    const result = pin(s, VPN, 2, RW);
    // As a zap would: the mapping and its reference go away.
    for (const page of [0, 1]) s.core.folios.refcount.set(s.pfn + page, 1024);
    const generation = s.core.frames.peekGeneration(s.pfn + 1);
    unpin(s, result);
    expect(s.core.folios.refcount.peek(s.pfn + 1)).toBe(0);
    expect(s.core.frames.peekGeneration(s.pfn + 1)).toBe(generation + 1);
  });
});

describe('GUP-fast', () => {
  it('takes plain references without the bias', () => {
    const s = scene();
    const result = run(s.world, s.task, () => getUserPagesFast(s.core, VPN, 4, RW));
    expect(result.pinned).toBe(4);
    expect(s.core.folios.refcount.peek(s.pfn)).toBe(2);
    expect(s.core.vmstat.peek('nr_foll_pin_acquired')).toBe(0);
    run(s.world, s.task, () => putUserPages(s.core, result.runs, 'test'));
    expect(s.core.folios.refcount.peek(s.pfn)).toBe(1);
  });

  it('reads memory that the VMA only lets write, which GUP-slow refuses', () => {
    const s = scene({ vma: { read: false } });
    expect(fast(s, VPN, 1, RO).pinned).toBe(1);
    expect(slow(s, VPN, 1, RO)).toMatchObject({ errno: 'EFAULT', pinned: 0 });
  });

  it('leaves interrupts on', () => {
    const s = scene();
    fast(s, VPN, 4, RW);
    expect(s.core.cpus.every((cpu) => !cpu.irqsOff.peek())).toBe(true);
  });

  it('does not start while fork copies the page tables, and GUP-slow takes the pages then', () => {
    const s = scene();
    s.mm.writeProtectSeq.value = 1;
    const result = run(s.world, s.task, () => pinUserPagesFast(s.core, VPN, 1, { ...RW, fastOnly: true }));
    expect(result).toMatchObject({ pinned: 0 });
    expect(fast(s, VPN, 1, RW).pinned).toBe(1);
  });
});

describe('counting', () => {
  it('is conserved over any sequence of pins and unpins, whatever a step covers', () => {
    const operation = fc.record({
      from: fc.nat(15),
      pages: fc.integer({ min: 1, max: 16 }),
      fast: fc.boolean(),
      write: fc.boolean(),
      stepPages: fc.constantFrom(1, 3, 512),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 6 }), fc.constantFrom(1, 3, 512), (operations, stepPages) => {
        const s = scene({ pages: 16, params: { stepPages } });
        const held: GupResult[] = [];
        for (const o of operations) {
          held.push((o.fast ? fast : slow)(s, VPN + o.from, Math.min(o.pages, 16 - o.from), { ...RW, write: o.write }));
        }
        const pins = held.reduce((sum, result) => sum + result.pinned, 0);
        const sum = () =>
          Array.from({ length: 16 }, (_, i) => s.core.folios.refcount.peek(s.pfn + i)).reduce((a, b) => a + b, 0);
        expect(sum()).toBe(16 + 1024 * pins);
        for (const result of held) unpin(s, result);
        expect(sum()).toBe(16);
        expect(s.core.vmstat.peek('nr_foll_pin_released')).toBe(s.core.vmstat.peek('nr_foll_pin_acquired'));
      }),
      { numRuns: 40 },
    );
  });

  it('refuses with ENOMEM once the reference count has wrapped', () => {
    const s = scene();
    s.core.folios.refcount.set(s.pfn, 2 ** 31 - 1024);
    expect(slow(s, VPN, 1, RW).pinned).toBe(1);
    expect(s.core.folios.refcount.peek(s.pfn)).toBe(-(2 ** 31));
    const result = slow(s, VPN, 1, RW);
    expect(result).toMatchObject({ errno: 'ENOMEM', pinned: 0 });
    expect(result.reason?.reasons.at(-1)).toContain('it has wrapped');
  });
});
