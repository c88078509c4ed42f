// tools/testing/selftests/mm/cow.c: who sees whose writes after fork, with references and pins around. The rows that
// collapse huge pages are not here.

import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import { step } from '../../../src/engine/step.ts';
import { pinUserPagesRemote } from '../../../src/mm/gup/gup.ts';
import { getUserPagesFast, pinUserPagesFast } from '../../../src/mm/gup/gup-fast.ts';
import { unpinUserPages } from '../../../src/mm/gup/unpin.ts';
import { munmap } from '../../../src/mm/mapping/mmap.ts';
import { mprotect } from '../../../src/mm/mapping/mprotect.ts';
import { PG_DIRTY as DIRTY } from '../../../src/mm/page-flags.ts';
import { exit } from '../../../src/mm/process/exit.ts';
import { fork } from '../../../src/mm/process/fork.ts';
import { lruAddDrainAll } from '../../../src/mm/reclaim/lru.ts';
import { type Kind, makeKind } from '../../support/kinds.ts';
import { Lab, RECORDED } from '../../support/lab.ts';
import { tokenText } from '../../support/tokens.ts';

const BACKINGS = ['anon_rw_touched', 'swapped_out', 'anon_thp', 'hugetlb_2m'] as const;
type Backing = (typeof BACKINGS)[number];

function made(kind: Kind, kernel: string): Lab {
  return makeKind(kind, { kernel, params: { hugePages: { 9: 4 } } });
}

/** A child that acts when told to. */
function forked(lab: Lab): Lab {
  const result = lab.do(() =>
    fork(lab.core, {}, function* () {
      yield lab.world.sim.local(step('pause', 'none'));
    }),
  );
  if ('errno' in result) throw new Error(`fork: ${result.errno}`);
  const child = new Lab({}, result.task, lab.world);
  child.vpn = lab.vpn;
  child.pages = lab.pages;
  return child;
}

const unmap = (lab: Lab) => expect(lab.do(() => munmap(lab.core, lab.vpn, lab.pages))).toBe('ok');
const protect = (lab: Lab, write: boolean) =>
  expect(lab.do(() => mprotect(lab.core, lab.vpn, lab.pages, { read: true, write }))).toBe('ok');

/** vmsplice: a plain reference for reading. Returns how to look through it. */
function vmsplice(lab: Lab): () => string {
  const got = lab.do(() => getUserPagesFast(lab.core, lab.vpn, 1, { owner: 'pipe', write: false }));
  expect(got.pinned).toBe(1);
  const { pfn } = got.runs[0]!;
  return () => tokenText(lab.core.frames.content.peek(pfn));
}

/** A pin of the first page. Returns how to look through it. */
function pin(lab: Lab, how: { write: boolean; fast: boolean; longterm?: boolean }): () => string {
  const { core, mm, vpn } = lab;
  const request = { owner: 'device', write: how.write, longterm: how.longterm ?? true };
  const result = lab.do(function* () {
    if (how.fast) return yield* call(pinUserPagesFast(core, vpn, 1, request));
    yield* call(mm.mmapLock.read());
    const pinned = yield* call(pinUserPagesRemote(core, mm, vpn, 1, request));
    yield mm.mmapLock.up();
    return pinned;
  });
  expect(result.errno).toBeUndefined();
  const { pfn } = result.runs[0]!;
  return () => tokenText(core.frames.content.peek(pfn));
}

describe.each(RECORDED)('after fork on %s', (kernel) => {
  describe.each(BACKINGS)('%s', (backing: Backing) => {
    // hugetlb reuses a page that nobody else maps, whoever else refers to it.
    const leaks = backing === 'hugetlb_2m';

    it('the child keeps what was there when the parent writes', () => {
      const lab = made(backing, kernel);
      const child = forked(lab);
      lab.write('new');
      expect(child.read()).toBe('c');
      expect(lab.read()).toBe('new');
    });

    it('the child keeps it when mprotect gave the parent its write permission back', () => {
      const lab = made(backing, kernel);
      const child = forked(lab);
      protect(lab, false);
      protect(lab, true);
      lab.write('new');
      expect(child.read()).toBe('c');
    });

    it(`a pipe of the child ${leaks ? 'sees' : 'does not see'} what the parent writes after the child unmapped`, () => {
      const lab = made(backing, kernel);
      const child = forked(lab);
      const look = vmsplice(child);
      unmap(child);
      lab.write('new');
      expect(look()).toBe(leaks ? 'new' : 'c');
    });

    it(`a pipe filled before fork ${leaks ? 'sees' : 'does not see'} what the child writes`, () => {
      const lab = made(backing, kernel);
      const look = vmsplice(lab);
      const child = forked(lab);
      unmap(lab);
      child.write('new');
      expect(look()).toBe(leaks ? 'new' : 'c');
    });

    it(`a pipe filled after fork ${leaks ? 'sees' : 'does not see'} what the child writes once the parent unmapped`, () => {
      const lab = made(backing, kernel);
      const child = forked(lab);
      const look = vmsplice(lab);
      unmap(lab);
      child.write('new');
      expect(look()).toBe(leaks ? 'new' : 'c');
    });
  });
});

describe.each(RECORDED)('a pin on %s', (kernel) => {
  describe.each(BACKINGS)('of %s', (backing: Backing) => {
    it('for writing sees writes after the page was mapped read-only for a while', () => {
      const lab = made(backing, kernel);
      const look = pin(lab, { write: true, fast: true });
      protect(lab, false);
      protect(lab, true);
      lab.write('new');
      expect(look()).toBe('new');
    });

    it('for writing stays with the parent over a fork, and the child gets a copy', () => {
      const lab = made(backing, kernel);
      const look = pin(lab, { write: true, fast: true });
      const pfn = lab.pfn();
      const child = forked(lab);
      expect(child.pfn()).not.toBe(pfn);
      lab.write('new');
      expect(look()).toBe('new');
      expect(child.read()).toBe('c');
      expect(lab.pfn()).toBe(pfn);
    });

    describe.each([
      ['GUP-slow', false],
      ['GUP-fast', true],
    ] as const)('for reading by %s', (_, fast) => {
      it('of a page shared with a child sees later writes: the pin took a copy', () => {
        const lab = made(backing, kernel);
        const child = forked(lab);
        const look = pin(lab, { write: false, fast });
        expect(lab.pfn()).not.toBe(child.pfn());
        lab.write('new');
        expect(look()).toBe('new');
        expect(child.read()).toBe('c');
      });

      it('of a page that was shared with a child sees later writes', () => {
        const lab = made(backing, kernel);
        const child = forked(lab);
        child.do(() => exit(lab.core));
        const look = pin(lab, { write: false, fast });
        lab.write('new');
        expect(look()).toBe('new');
      });

      it('of a page mapped read-only but not shared takes that page', () => {
        const lab = made(backing, kernel);
        lab.read();
        const pfn = lab.pfn();
        protect(lab, false);
        const look = pin(lab, { write: false, fast });
        expect(lab.pfn()).toBe(pfn);
        protect(lab, true);
        lab.write('new');
        expect(look()).toBe('new');
      });
    });
  });

  it('survives the fork, the life and the exit of a child unchanged', () => {
    const lab = made('anon_rw_touched', kernel);
    expect(lab.pin(true, 1)).toBe('ok');
    // The exit of the child would put a page that still waits in an LRU batch, and drop that batch's reference.
    lab.do(() => lruAddDrainAll(lab.core));
    const before = lab.refcount();
    const child = forked(lab);
    child.write('theirs');
    child.do(() => exit(lab.core));
    expect(lab.refcount()).toBe(before);
    expect(lab.core.folios.anonExclusive.peek(lab.f0)).toBe(1);
    lab.write('new');
    expect(lab.deviceRead()).toBe('new');
  });

  it('makes fork copy pages that only look pinned: 1024 plain references', () => {
    const lab = made('anon_rw_touched', kernel);
    // Any pin on the mm sets MMF_HAS_PINNED.
    expect(lab.pin(true, 1)).toBe('ok');
    const { refcount } = lab.core.folios;
    const pfn = lab.pfn(4);
    lab.world.sim.unwatched(() => refcount.set(pfn, refcount.peek(pfn) + 1024));
    const child = forked(lab);
    expect(child.pfn(4)).not.toBe(pfn);
    expect(child.pfn(5)).toBe(lab.pfn(5));
  });
});

describe('a private mapping of something else', () => {
  const KINDS = ['anon_rw_zeropage', 'memfd_private_rw', 'ext4_private_rw'] as const;

  it.each(KINDS)('%s: writing does not reach the original', (kind) => {
    const lab = made(kind, 'v6.12.117');
    const before = lab.read();
    const original = lab.pfn();
    lab.write('new');
    expect(lab.pfn()).not.toBe(original);
    expect(tokenText(lab.core.frames.content.peek(original))).toBe(before);
  });

  it.each(KINDS)('%s: a read-only long-term pin is reliable since 6.2, by either way in', (kind) => {
    for (const [kernel, reliable] of [
      ['v6.12.117', true],
      ['v6.1.192', false],
    ] as const) {
      for (const fast of [false, true]) {
        const lab = made(kind, kernel);
        lab.read();
        const look = pin(lab, { write: false, fast });
        lab.write('new');
        expect(look() === 'new').toBe(reliable);
      }
    }
  });

  it('of hugetlb: the same', () => {
    for (const [kernel, reliable] of [
      ['v6.12.117', true],
      ['v6.1.192', false],
    ] as const) {
      const lab = new Lab({ kernel, params: { hugePages: { 9: 4 } } });
      // Read through one mapping, so that the page cache has the page.
      const file = lab.inode({ kind: 'hugetlb', hugeOrder: 9, sizePages: 512 });
      lab.map({ pages: 512, shared: true, file });
      lab.write('c');
      lab.map({ pages: 512, file });
      expect(lab.read()).toBe('c');
      const look = pin(lab, { write: false, fast: true });
      lab.write('new');
      expect(look() === 'new').toBe(reliable);
    }
  });
});

describe('unpinning', () => {
  it('marks a page dirty that writeback has cleaned meanwhile, on demand only', () => {
    for (const dirty of [false, true]) {
      const lab = made('memfd_shared_rw_touched', 'v6.12.117');
      expect(lab.pin()).toBe('ok');
      const { flags } = lab.core.folios;
      lab.world.sim.unwatched(() => flags.set(lab.f0, flags.peek(lab.f0) & ~DIRTY));
      const runs = lab.pinned;
      lab.do(() => unpinUserPages(lab.core, runs, { owner: 'device', dirty }));
      expect((flags.peek(lab.f0) & DIRTY) !== 0).toBe(dirty);
    }
  });
});
