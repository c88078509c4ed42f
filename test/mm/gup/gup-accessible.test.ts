// s390: a pin makes secure pages accessible first, and what happens when one cannot be.
import { describe, expect, it } from 'vitest';
import { call, type Steps } from '../../../src/engine/process.ts';
import { step } from '../../../src/engine/step.ts';
import type { CoreMm } from '../../../src/mm/core.ts';
import { installMakeAccessible } from '../../../src/mm/gup/accessible-hooks.ts';
import { type GupResult, pinUserPagesRemote } from '../../../src/mm/gup/gup.ts';
import { pinUserPagesFast } from '../../../src/mm/gup/gup-fast.ts';
import { refuse } from '../../../src/mm/gup/gup-flags.ts';
import type { Refusal } from '../../../src/mm/ledger.ts';
import type { Mm } from '../../../src/mm/mm.ts';
import { placeAnonPages, placeAnonVma, reserveFrames } from '../../support/memory.ts';
import { makeTask, makeWorld, run } from '../../support/world.ts';

const UV = step('arch_make_folio_accessible', 'op');
/** The range spans two page tables: four pages in the first, eight in the second. */
const VPN = 0x10000 - 4;

/** Pin 12 pages of which the third refuses to be shared by the ultravisor. */
function pinAround(fast: boolean, changes: { with?: string[] } = {}) {
  const world = makeWorld({ kernel: 'v6.12+s390x', arch: 's390x', changes });
  const { core } = world;
  const task = makeTask(world, 'vmm');
  const mm = task.mm.peek()!;
  const pfn = reserveFrames(core, 0, 12);
  const vma = placeAnonVma(core, mm, VPN, 12);
  placeAnonPages(core, mm, vma, VPN, pfn, 12);
  installMakeAccessible(core, function* (_: CoreMm, head: number): Steps<Refusal | null> {
    yield world.sim.local(UV);
    return head === pfn + 2 ? refuse('EFAULT', 'uv_pin_shared: the page is not shared', 'a shared page') : null;
  });
  const result = run(world, task, () => pinBy(core, mm, fast));
  const pinned = Array.from({ length: 12 }, (_, i) => core.folios.refcount.peek(pfn + i) > 1024);
  return { result, pfn, pinned };
}

function* pinBy(core: CoreMm, mm: Mm, fast: boolean): Steps<GupResult> {
  const request = { owner: 'test', write: true };
  if (fast) return yield* call(pinUserPagesFast(core, VPN, 12, { ...request, fastOnly: true }));
  yield* call(mm.mmapLock.read());
  const result = yield* call(pinUserPagesRemote(core, mm, VPN, 12, request));
  yield mm.mmapLock.up();
  return result;
}

describe('a page that cannot be made accessible', () => {
  it('ends GUP-slow with the pages before it', () => {
    const { result, pfn, pinned } = pinAround(false);
    expect(result.runs).toEqual([{ pfn, pages: 2 }]);
    expect(result.reason?.reasons.at(-1)).toContain('uv_pin_shared');
    expect(pinned).toEqual([true, true, ...Array(10).fill(false)]);
  });

  it('makes GUP-fast skip the rest of the page table, so that wrong pages follow', () => {
    const { result, pfn, pinned } = pinAround(true);
    // Ten pages are reported; the third of them is the fifth of the range.
    expect(result.runs).toEqual([
      { pfn, pages: 2 },
      { pfn: pfn + 4, pages: 8 },
    ]);
    expect(pinned).toEqual([true, true, false, false, ...Array(8).fill(true)]);
  });

  it('ends GUP-fast since 7.2', () => {
    const { result, pfn, pinned } = pinAround(true, { with: ['gup.fast.accessible-error-stops'] });
    expect(result.runs).toEqual([{ pfn, pages: 2 }]);
    expect(pinned).toEqual([true, true, ...Array(10).fill(false)]);
  });
});
