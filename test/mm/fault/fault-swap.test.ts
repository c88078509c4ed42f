// Swap-in, waiting for a migration, poisoned pages, userfaultfd, raw frames.

import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import { step } from '../../../src/engine/step.ts';
import { runTimed } from '../../../src/engine/timed.ts';
import { cpuAccess } from '../../../src/mm/fault/access.ts';
import { uffdCopy, uffdWriteProtect } from '../../../src/mm/fault/uffd.ts';
import { unlockNow, willUnlock } from '../../../src/mm/folio-lock.ts';
import { munmap } from '../../../src/mm/mapping/mmap.ts';
import { makeSpecialMapping } from '../../../src/mm/mapping/special-mapping.ts';
import { uffdModes } from '../../../src/mm/mapping/vma.ts';
import { PG_HWPOISON, PG_LOCKED, PG_RESERVED, PG_SWAPCACHE, PG_WRITEBACK } from '../../../src/mm/page-flags.ts';
import {
  PMD_TABLE,
  PTE_DIRTY,
  PTE_EXCLUSIVE,
  PTE_HWPOISON,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_SPECIAL,
  PTE_SWAP,
  PTE_UFFD_WP,
  PTE_WRITE,
} from '../../../src/mm/pte.ts';
import { tokenOf } from '../../support/tokens.ts';
import { actor, run, type WorldOptions } from '../../support/world.ts';
import {
  BASE,
  type Bench,
  bench,
  family,
  fault,
  frameAt,
  inode,
  mapped,
  mappedFamily,
  other,
  present,
  touch,
} from './fault-bench.ts';

const A = tokenOf('A');
const B = tokenOf('B');

/** A page swapped out to slot 0; `users` entries name the slot. */
function swapped(options: WorldOptions & { users?: number; exclusive?: boolean } = {}): Bench {
  const b = bench({ ...options, params: { swapSlots: 4, ...options.params } });
  mappedFamily(b, family(b));
  b.mm.pageTable.setPmd(BASE / 512, 1, PMD_TABLE, 0);
  b.mm.pageTable.setPte(BASE, 0, PTE_SWAP | (options.exclusive === true ? PTE_EXCLUSIVE : 0), 0);
  const slot = b.core.swap.take();
  expect(slot).toBe(0);
  b.core.swap.map.set(0, options.users ?? 1);
  b.core.swap.content.set(0, A);
  return b;
}

describe('a swap-in', () => {
  it('by the only user of the slot bypasses the swap cache on zram and frees the slot', () => {
    const b = swapped();
    expect(touch(b, BASE)).toEqual({ token: A });
    const pfn = frameAt(b);
    expect(b.core.folios.has(pfn, PG_SWAPCACHE)).toBe(false);
    expect(b.core.folios.anonExclusive.peek(pfn)).toBe(1);
    expect(b.core.swap.usedSlots).toBe(0);
    // Mapping and LRU batch.
    expect(b.core.folios.refcount.peek(pfn)).toBe(2);
  });

  it.each([
    ['v6.12.117', true],
    ['v6.1.192', false],
  ] as const)('on a read maps the page of one process writable on %s: %s', (kernel, writable) => {
    const b = swapped({ kernel });
    touch(b, BASE);
    expect((b.mm.pageTable.peekPte(BASE).bits & PTE_WRITE) !== 0).toBe(writable);
    expect(touch(b, BASE, B)).toEqual({ token: B });
  });

  it('of a slot that another process names too goes through the swap cache; both share the page', () => {
    const b = swapped({ users: 2 });
    const child = other(b, 'child');
    mappedFamily(child, b.mm.vmas.entries()[0]![1].fields.anonVma!);
    child.mm.pageTable.setPmd(BASE / 512, 1, PMD_TABLE, 0);
    child.mm.pageTable.setPte(BASE, 0, PTE_SWAP, 0);
    touch(b, BASE);
    const pfn = frameAt(b);
    expect(b.core.folios.has(pfn, PG_SWAPCACHE)).toBe(true);
    expect(b.core.folios.anonExclusive.peek(pfn)).toBe(0);
    expect(touch(child, BASE)).toEqual({ token: A });
    expect(frameAt(child)).toBe(pfn);
    expect(b.core.folios.mapcount.peek(pfn)).toBe(2);
    // The child's write copies, and the parent still reads its own.
    expect(touch(child, BASE, B)).toEqual({ token: B });
    expect(frameAt(child)).not.toBe(pfn);
    expect(touch(b, BASE)).toEqual({ token: A });
  });

  it('of an exclusive entry keeps the page exclusive through the swap cache', () => {
    const b = swapped({ exclusive: true, params: { swapSynchronousIo: false } });
    expect(touch(b, BASE, B)).toEqual({ token: B });
    expect(b.core.folios.anonExclusive.peek(frameAt(b))).toBe(1);
    expect(b.core.swap.usedSlots).toBe(0);
  });

  it('does not make a page writable that is being written to a device with stable pages', () => {
    const b = swapped({ exclusive: true, params: { swapStableWrites: true, swapSynchronousIo: false } });
    touch(b, BASE);
    const pfn = frameAt(b);
    expect(b.core.folios.anonExclusive.peek(pfn)).toBe(1);
    // Swapped out again, still under writeback: refault from the swap cache.
    const again = swapped({ exclusive: true, params: { swapStableWrites: true, swapSynchronousIo: false } });
    const { folios, swap } = again.core;
    run(again, again.task, () => cpuAccess(again.core, BASE + 1, { token: B }));
    const page = frameAt(again, BASE + 1);
    again.mm.pageTable.clearPte(BASE + 1);
    folios.mapcount.set(page, 0);
    folios.anonExclusive.set(page, 0);
    folios.index.set(page, 0);
    folios.change(page, PG_SWAPCACHE | PG_WRITEBACK);
    folios.swapEntry.set(page, 1);
    swap.cache.set(0, page + 1);
    for (const cpu of again.core.cpus) cpu.tlb.value = [];
    touch(again, BASE);
    expect(frameAt(again)).toBe(page);
    expect(folios.anonExclusive.peek(page)).toBe(0);
    expect(again.mm.pageTable.peekPte(BASE).bits & PTE_WRITE).toBe(0);
  });

  it('of a shmem page puts it back into the page cache, dirty', () => {
    const b = bench({ params: { swapSlots: 4 } });
    const file = inode(b);
    mapped(b, { file, shared: true });
    b.core.swap.take();
    b.core.swap.map.set(0, 1);
    b.core.swap.content.set(0, A);
    file.pages.set(2, -1);
    expect(touch(b, BASE + 2)).toEqual({ token: A });
    expect(file.pages.peek(2) - 1).toBe(frameAt(b, BASE + 2));
    expect(b.core.swap.usedSlots).toBe(0);
    // Page cache, mapping, LRU batch.
    expect(b.core.folios.refcount.peek(frameAt(b, BASE + 2))).toBe(3);
  });

  it('is out of memory when there is none', () => {
    const b = swapped();
    b.core.zones[0]!.freeRuns.value = [];
    expect(fault(b, BASE, {})).toBe('oom');
  });
});

describe('a fault on an entry that is no page', () => {
  it('waits for a migration without a reference, and goes on when the folio is unlocked', () => {
    const b = bench();
    mappedFamily(b, family(b));
    touch(b, BASE, A);
    const pfn = frameAt(b);
    const { folios } = b.core;
    const { bits, generation } = b.mm.pageTable.peekPte(BASE);
    b.mm.pageTable.setPte(BASE, pfn, PTE_MIGRATION | PTE_WRITE, 0);
    for (const cpu of b.core.cpus) cpu.tlb.value = [];
    folios.change(pfn, PG_LOCKED);
    const references = folios.refcount.peek(pfn);
    const order: string[] = [];
    actor(b, b.task, 'toucher', function* () {
      yield* call(cpuAccess(b.core, BASE, null));
      order.push('touched');
    });
    actor(b, b.task, 'migrator', function* () {
      yield b.sim.sleep(1_000_000, step('copy', 'none'));
      expect(folios.refcount.peek(pfn)).toBe(references);
      yield b.mm.pageTable.willUpdatePte(BASE, step('restore', 'none'));
      b.mm.pageTable.setPte(BASE, pfn, bits, generation);
      yield willUnlock(b.core, pfn, step('unlock', 'none'));
      unlockNow(b.core, pfn);
      order.push('migrated');
    });
    expect(runTimed(b.sim).end).toBe('done');
    expect(order).toEqual(['migrated', 'touched']);
  });

  it('is fatal on a poisoned page, as an entry or in the page cache', () => {
    const b = bench();
    mapped(b);
    b.mm.pageTable.setPmd(BASE / 512, 1, PMD_TABLE, 0);
    b.mm.pageTable.setPte(BASE, 5, PTE_HWPOISON, 0);
    expect(touch(b, BASE)).toEqual({ signal: 'SIGBUS' });
    expect(fault(b, BASE, {})).toBe('hwpoison');
    const c = bench();
    const file = inode(c);
    mapped(c, { file, shared: true });
    touch(c, BASE);
    c.core.folios.change(frameAt(c), PG_HWPOISON);
    c.mm.pageTable.clearPte(BASE);
    expect(fault(c, BASE, {})).toBe('hwpoison');
  });
});

describe('userfaultfd', () => {
  it('missing: a fault that may not wait is SIGBUS at once, as type1 sees it', () => {
    const b = bench();
    mapped(b, { uffd: uffdModes(['missing'], A) });
    expect(fault(b, BASE, { write: true })).toBe('sigbus');
    expect(present(b)).toBe(0);
  });

  it('missing: a fault that may wait drops mmap_lock; the handler fills the page', () => {
    const b = bench();
    mapped(b, { uffd: uffdModes(['missing'], A) });
    expect(fault(b, BASE, { allowRetry: true })).toBe('retry');
    expect(touch(b, BASE)).toEqual({ token: A });
    expect(present(b)).toBe(1);
  });

  it('missing: without an answering handler it waits for UFFDIO_COPY', () => {
    const b = bench();
    mapped(b, { uffd: uffdModes(['missing'], null) });
    const order: string[] = [];
    actor(b, b.task, 'toucher', function* () {
      const seen = yield* call(cpuAccess(b.core, BASE, null));
      order.push(JSON.stringify(seen));
    });
    actor(b, b.task, 'handler', function* () {
      yield b.sim.sleep(1_000_000, step('think', 'none'));
      order.push('copy');
      expect(yield* call(uffdCopy(b.core, b.mm, BASE, B))).toBe(null);
      expect(yield* call(uffdCopy(b.core, b.mm, BASE, B))).toBe('EEXIST');
    });
    expect(runTimed(b.sim).end).toBe('done');
    expect(order).toEqual(['copy', JSON.stringify({ token: B })]);
  });

  it('missing on shmem: the page is made by the handler, in the file', () => {
    const b = bench();
    const file = inode(b);
    mapped(b, { file, shared: true, uffd: uffdModes(['missing'], A) });
    expect(fault(b, BASE, { write: true })).toBe('sigbus');
    expect(touch(b, BASE + 1)).toEqual({ token: A });
    expect(file.pages.peek(1) - 1).toBe(frameAt(b, BASE + 1));
    expect(file.pages.peek(0)).toBe(0);
    expect(b.core.folios.refcount.peek(frameAt(b, BASE + 1))).toBe(3);
    expect(run(b, b.task, () => uffdCopy(b.core, b.mm, BASE + 1, B))).toBe('EEXIST');
    expect(touch(b, BASE + 1)).toEqual({ token: A });
  });

  it('wp: a write to a protected page waits until the handler resolves it', () => {
    const b = bench();
    mapped(b, { uffd: uffdModes(['wp'], 0) });
    touch(b, BASE, A);
    expect(run(b, b.task, () => uffdWriteProtect(b.core, b.mm, BASE, BASE + 1, true))).toBe(null);
    expect(b.mm.pageTable.peekPte(BASE).bits & (PTE_WRITE | PTE_UFFD_WP)).toBe(PTE_UFFD_WP);
    const pfn = frameAt(b);
    expect(fault(b, BASE, { write: true })).toBe('sigbus');
    expect(touch(b, BASE)).toEqual({ token: A });
    expect(touch(b, BASE, B)).toEqual({ token: B });
    expect(frameAt(b)).toBe(pfn);
  });
});

describe('raw frames of a device', () => {
  const zones = [
    { kind: 'NORMAL', node: 0, pages: 2048 },
    { kind: 'DEVICE', node: 0, pages: 512 },
  ] as const;

  function bar(enabled: () => boolean): Bench {
    const b = bench({ zones });
    const first = b.core.machine.zones[1]!.firstPfn;
    mapped(b, {
      shared: true,
      pfnMapping: { name: 'BAR 0', frameAt: (i) => (enabled() ? first + i : undefined), writable: true, eager: false },
    });
    return b;
  }

  it('are mapped special and writable on the first touch, without any count', () => {
    const b = bar(() => true);
    expect(touch(b, BASE + 2)).toEqual({ token: 0 });
    const { pfn, bits } = b.mm.pageTable.peekPte(BASE + 2);
    expect(pfn).toBe(b.core.machine.zones[1]!.firstPfn + 2);
    expect(bits & (PTE_PRESENT | PTE_SPECIAL)).toBe(PTE_PRESENT | PTE_SPECIAL);
    expect(b.core.folios.refcount.peek(pfn)).toBe(0);
    expect(touch(b, BASE + 2, A)).toEqual({ token: A });
    expect(b.mm.pageTable.peekPte(BASE + 2).bits & PTE_DIRTY).toBe(PTE_DIRTY);
  });

  it.each([
    ['page', 1],
    ['area', 520],
    ['leaf', 512],
  ] as const)('are inserted by the %s at a fault', (inserts, expected) => {
    const b = bench({ zones: [zones[0], { kind: 'DEVICE', node: 0, pages: 1024 }] });
    const first = b.core.machine.zones[1]!.firstPfn;
    const pfnMapping = { name: 'BAR 2', frameAt: (i: number) => first + i, writable: true, eager: false, inserts };
    mapped(b, { shared: true, pfnMapping }, 520);
    expect(touch(b, BASE + 7)).toEqual({ token: 0 });
    expect(present(b, 520)).toBe(expected);
    expect(frameAt(b, BASE + 7)).toBe(first + 7);
  });

  it('come back page by page after a part of their leaf was unmapped', () => {
    const b = bench({ zones: [zones[0], { kind: 'DEVICE', node: 0, pages: 1024 }] });
    const first = b.core.machine.zones[1]!.firstPfn;
    const frameOf = (i: number) => first + i;
    const pfnMapping = { name: 'BAR 2', frameAt: frameOf, writable: true, eager: false, inserts: 'leaf' } as const;
    mapped(b, { shared: true, pfnMapping }, 512);
    touch(b, BASE);
    expect(run(b, b.task, () => munmap(b.core, BASE, 8))).toBe('ok');
    expect(present(b, 512)).toBe(0);
    expect(touch(b, BASE + 8)).toEqual({ token: 0 });
    expect(present(b, 512)).toBe(1);
    expect(b.core.folios.refcount.peek(first)).toBe(0);
  });

  it('are inserted as pages where a leaf does not fit', () => {
    const b = bench({ zones: [zones[0], { kind: 'DEVICE', node: 0, pages: 1024 }] });
    const first = b.core.machine.zones[1]!.firstPfn + 1;
    const frameAt = (i: number) => first + i;
    mapped(
      b,
      { shared: true, pfnMapping: { name: 'BAR 2', frameAt, writable: true, eager: false, inserts: 'leaf' } },
      512,
    );
    touch(b, BASE);
    expect(present(b, 512)).toBe(1);
  });

  it('are SIGBUS while the device does not decode memory', () => {
    let on = false;
    const b = bar(() => on);
    expect(touch(b, BASE)).toEqual({ signal: 'SIGBUS' });
    on = true;
    expect(touch(b, BASE)).toEqual({ token: 0 });
  });
});

describe('the vdso', () => {
  it('maps the same reserved page in every process; an unshare fault copies it on 6.12 and leaves it on 6.1', () => {
    for (const [kernel, copied] of [
      ['v6.12.117', true],
      ['v6.1.192', false],
    ] as const) {
      const b = bench({ kernel });
      const file = makeSpecialMapping(b.core, 'vdso', [tokenOf('ELF')]);
      mapped(b, { file, write: false, exec: true }, 1);
      expect(touch(b, BASE)).toEqual({ token: tokenOf('ELF') });
      const pfn = frameAt(b);
      expect(b.core.folios.has(pfn, PG_RESERVED)).toBe(true);
      // The kernel's own reference and the mapping's.
      expect(b.core.folios.refcount.peek(pfn)).toBe(2);
      expect(touch(b, BASE, A)).toEqual({ signal: 'SIGSEGV' });
      expect(fault(b, BASE, { unshare: true })).toBe('ok');
      expect(b.core.folios.isAnon(frameAt(b))).toBe(copied);
      expect(touch(b, BASE)).toEqual({ token: tokenOf('ELF') });
    }
  });
});

describe('memory that the OOM reaper has been at', () => {
  it('gives SIGBUS rather than pages of zeros', () => {
    const b = bench();
    mapped(b);
    b.mm.unstable.value = true;
    expect(touch(b, BASE, A)).toEqual({ signal: 'SIGBUS' });
    expect(touch(b, BASE)).toEqual({ signal: 'SIGBUS' });
  });
});
