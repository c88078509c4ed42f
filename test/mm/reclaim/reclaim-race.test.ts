// Reclaim, migration, collapse and KSM against those who pin, write and drop the same page, in random orders: what must
// hold whoever wins, and that switching a guard off lets the known bug through.
import { describe, expect, it } from 'vitest';
import { call, type Steps } from '../../../src/engine/process.ts';
import { step } from '../../../src/engine/step.ts';
import { exploreSim } from '../../../src/explore/explore.ts';
import { cpuAccess } from '../../../src/mm/fault/access.ts';
import type { GupResult } from '../../../src/mm/gup/gup.ts';
import { pinUserPagesFast } from '../../../src/mm/gup/gup-fast.ts';
import { Ksm } from '../../../src/mm/ksm/ksm.ts';
import { madviseDontneed } from '../../../src/mm/madvise/madvise-zap.ts';
import { migratePages, putbackMovablePages } from '../../../src/mm/migrate/migrate.ts';
import { PG_KSM, PG_LOCKED, PG_SWAPCACHE } from '../../../src/mm/page-flags.ts';
import { fork } from '../../../src/mm/process/fork.ts';
import { PTE_MIGRATION, PTE_PRESENT, PTE_SWAP } from '../../../src/mm/pte.ts';
import { folioIsolateLru, lruAddDrainAll } from '../../../src/mm/reclaim/lru.ts';
import { reclaimPages } from '../../../src/mm/reclaim/reclaim.ts';
import { madviseCollapse } from '../../../src/mm/thp/collapse.ts';
import { type Kind, makeKind } from '../../support/kinds.ts';
import { Lab } from '../../support/lab.ts';
import { tokenOf } from '../../support/tokens.ts';
import { actor, type WorldOptions } from '../../support/world.ts';

const REST = step('test:pause', 'none');

interface Race {
  readonly lab: Lab;
  /** The frame of the first page at the start. */
  readonly pfn: number;
  pinned: GupResult | null;
  moved: boolean;
}

function race(kind: Kind, options: WorldOptions = {}): Race {
  const lab = makeKind(kind, { cpus: 4, ...options });
  lab.do(() => lruAddDrainAll(lab.core));
  const r: Race = { lab, pfn: lab.pfn(), pinned: null, moved: false };
  lab.world.sim.finishSetUp();
  lab.world.sim.onRewind(() => {
    r.pinned = null;
    r.moved = false;
  });
  return r;
}

function pinner({ lab }: Race, r: Race): void {
  actor(lab.world, lab.task, 'pinner', function* () {
    r.pinned = yield* call(pinUserPagesFast(lab.core, lab.vpn, 1, { owner: 'test', write: true }));
  });
}

function reclaimer({ lab, pfn }: Race): void {
  actor(lab.world, lab.task, 'reclaimer', function* () {
    if (yield* call(folioIsolateLru(lab.core, pfn))) yield* call(reclaimPages(lab.core, [pfn]));
  });
}

function migrator({ lab, pfn }: Race, r: Race): void {
  const request = { mode: 'sync', reason: 'syscall', target: { movable: true, zero: false } } as const;
  actor(lab.world, lab.task, 'migrator', function* () {
    if (!(yield* call(folioIsolateLru(lab.core, pfn)))) return;
    const { failed } = yield* call(migratePages(lab.core, [pfn], request));
    r.moved = failed.length === 0;
    yield* call(putbackMovablePages(lab.core, failed));
  });
}

function writer({ lab }: Race): void {
  actor(lab.world, lab.task, 'writer', function* () {
    yield* call(cpuAccess(lab.core, lab.vpn, { token: tokenOf('new') }));
  });
}

function zapper({ lab }: Race): void {
  actor(lab.world, lab.task, 'zapper', function* () {
    yield* call(madviseDontneed(lab.core, lab.mm, lab.vma(), lab.vpn, lab.vpn + 1, false));
  });
}

function forker({ lab }: Race): void {
  actor(lab.world, lab.task, 'forker', function* () {
    yield* call(
      fork(lab.core, {}, function* (): Steps<void> {
        yield lab.world.sim.local(REST);
      }),
    );
  });
}

/** What `judge` says at the end of each of many orders, once each; and how many different ends there were. */
function ends(r: Race, judge: () => string, runs = 300): Set<string> {
  const found = new Set<string>();
  const result = exploreSim(r.lab.world.sim, {
    strategy: 'random',
    runs,
    seed: 'reclaim',
    atEnd: () => {
      found.add(r.lab.world.sim.unwatched(judge));
    },
  });
  expect(result.findings).toEqual([]);
  expect(result.executions).toBe(runs);
  return found;
}

/** Where the contents of the first page are now. */
function content({ lab }: Race): number {
  const { core, mm, vpn } = lab;
  const pte = mm.pageTable.peekPte(vpn);
  if ((pte.bits & PTE_PRESENT) !== 0) return core.frames.content.peek(pte.pfn);
  if ((pte.bits & PTE_SWAP) === 0) return 0;
  const cached = core.swap.cache.peek(pte.pfn);
  return cached > 0 ? core.frames.content.peek(cached - 1) : core.swap.content.peek(pte.pfn);
}

/** References that mappings, caches, pins and batches explain; the difference to the count. */
function unexplained({ lab, pinned }: Race, pfn: number): number {
  const { folios, perCpu } = lab.core;
  if (folios.refcount.peek(pfn) === 0) return 0;
  const pins = pinned?.runs.some((run) => run.pfn === pfn) === true ? 1024 : 0;
  const batches = perCpu.reduce(
    (sum, c) => sum + [...c.lruAdd.peek(), ...c.lruLazyfree.peek()].filter((h) => h === pfn).length,
    0,
  );
  return folios.refcount.peek(pfn) - folios.expectedRefs(pfn) - pins - batches;
}

describe('a pin against reclaim', () => {
  it('keeps the page mapped where it is, or comes too late and pins what the fault brings back', () => {
    const r = race('anon_rw_touched');
    pinner(r, r);
    reclaimer(r);
    const found = ends(r, () => {
      const pte = r.lab.mm.pageTable.peekPte(r.lab.vpn);
      const held = r.pinned?.runs[0]?.pfn;
      if (held === undefined) return `pin failed: ${r.pinned?.errno}`;
      if ((pte.bits & PTE_PRESENT) === 0 || pte.pfn !== held) return 'the process sees another page than the pinner';
      if (unexplained(r, held) !== 0) return `refcount off by ${unexplained(r, held)}`;
      return held === r.pfn ? 'first page' : 'page from swap';
    });
    expect([...found].sort()).toEqual(['first page', 'page from swap']);
  });

  it('was undermined when the share test could pass the clearing of the entry (R7, before 088b8aa537c2)', () => {
    const guarded = ['v6.12.117', []] as const;
    const open = ['v6.12.117', ['cow.share-barriers']] as const;
    const seen = [guarded, open].map(([kernel, without]) => {
      const r = race('anon_rw_touched', { kernel, changes: { without } });
      pinner(r, r);
      reclaimer(r);
      // Another CPU runs the process, so that the flush is put off.
      writer(r);
      return ends(
        r,
        () => {
          const held = r.pinned?.runs[0]?.pfn;
          const { core, mm, vpn } = r.lab;
          if (held === undefined) return 'no pin';
          const pte = mm.pageTable.peekPte(vpn);
          const visible = (pte.bits & PTE_PRESENT) !== 0 && pte.pfn === held;
          const exclusive = core.folios.anonExclusive.peek(held) === 1;
          return visible && exclusive ? 'kept' : 'pinned page taken away';
        },
        1500,
      );
    });
    expect(seen[0]!.has('pinned page taken away')).toBe(false);
    expect(seen[1]!.has('pinned page taken away')).toBe(true);
  });

  it.each(['v6.1.192', 'v6.12.117'])('never loses what the CPU writes meanwhile (%s)', (kernel) => {
    const r = race('anon_rw_touched', { kernel });
    writer(r);
    reclaimer(r);
    expect([...ends(r, () => (content(r) === tokenOf('new') ? 'kept' : 'lost'))]).toEqual(['kept']);
  });

  it('and DONTNEED leaves nothing behind: no slot, no reference', () => {
    const r = race('anon_rw_touched');
    zapper(r);
    reclaimer(r);
    const found = ends(r, () => {
      const { swap, folios } = r.lab.core;
      // The kernel leaves a locked swap-cache page to a later reclaim.
      const cached = folios.has(r.pfn, PG_SWAPCACHE);
      if (!cached && swap.usedSlots !== 0) return `${swap.usedSlots} slots leaked`;
      return unexplained(r, r.pfn) === 0 || cached ? 'clean' : `refcount off by ${unexplained(r, r.pfn)}`;
    });
    expect([...found]).toEqual(['clean']);
  });

  it('of a shared page: the device and the file keep the same page', () => {
    const r = race('memfd_shared_rw_touched');
    pinner(r, r);
    reclaimer(r);
    const found = ends(r, () => {
      const held = r.pinned?.runs[0]?.pfn;
      if (held === undefined) return 'no pin';
      const cached = r.lab.file!.pages.peek(0) - 1;
      return cached === held ? (held === r.pfn ? 'first page' : 'page from swap') : 'orphan';
    });
    expect([...found].sort()).toEqual(['first page', 'page from swap']);
  });
});

describe('a pin against migration', () => {
  it.each(['v6.1.192', 'v6.12.117'])('gets the old page and stops it, or the new one (%s)', (kernel) => {
    for (const kind of ['anon_rw_touched', 'memfd_shared_rw_touched'] as const) {
      const r = race(kind, { kernel });
      pinner(r, r);
      migrator(r, r);
      const found = ends(r, () => {
        const held = r.pinned?.runs[0]?.pfn;
        if (held === undefined) return `pin failed: ${r.pinned?.errno}`;
        const pte = r.lab.mm.pageTable.peekPte(r.lab.vpn);
        if (pte.pfn !== held || (pte.bits & (PTE_PRESENT | PTE_MIGRATION)) !== PTE_PRESENT) return 'another page';
        if (unexplained(r, held) !== 0) return `refcount off by ${unexplained(r, held)}`;
        if (r.lab.core.folios.has(held, PG_LOCKED)) return 'left locked';
        return r.moved === (held !== r.pfn) ? (r.moved ? 'new' : 'old') : 'torn';
      });
      expect([...found].sort()).toEqual(['new', 'old']);
    }
  });

  it('does not lose a write, whichever page it meets', () => {
    const r = race('anon_rw_touched');
    writer(r);
    migrator(r, r);
    expect([...ends(r, () => (content(r) === tokenOf('new') ? 'kept' : 'lost'))]).toEqual(['kept']);
  });

  it('and DONTNEED or fork of an entry in flight leave the counts right', () => {
    for (const other of [zapper, forker]) {
      const r = race('anon_rw_touched');
      other(r);
      migrator(r, r);
      const found = ends(r, () => {
        const pte = r.lab.mm.pageTable.peekPte(r.lab.vpn);
        if ((pte.bits & PTE_MIGRATION) !== 0) return 'entry left';
        for (const pfn of [r.pfn, pte.pfn])
          if (pfn !== 0 && unexplained(r, pfn) !== 0) return `off by ${unexplained(r, pfn)}`;
        return 'clean';
      });
      expect([...found]).toEqual(['clean']);
    }
  });
});

describe('a pin against KSM', () => {
  function ksmRace(): { r: Race; ksm: Ksm } {
    const r = race('anon_rw_touched');
    const { lab } = r;
    const ksm = new Ksm(lab.core);
    ksm.mms.value = [lab.mm];
    lab.mm.vmas.set(lab.vma().start, lab.vma().with({ mergeable: true }));
    // The checksums of the first pass; the second may merge.
    lab.do(() => ksm.scan());
    lab.world.sim.finishSetUp();
    return { r, ksm };
  }

  it('ends with a page of the pinner alone, whoever was first', () => {
    const { r, ksm } = ksmRace();
    pinner(r, r);
    actor(r.lab.world, r.lab.task, 'ksmd', function* () {
      yield* call(ksm.scan());
    });
    const found = ends(
      r,
      () => {
        const held = r.pinned?.runs[0]?.pfn;
        if (held === undefined) return `pin failed: ${r.pinned?.errno}`;
        const pte = r.lab.mm.pageTable.peekPte(r.lab.vpn);
        if (pte.pfn !== held) return 'the process sees another page than the pinner';
        if (r.lab.core.folios.has(held, PG_KSM)) return 'a pinned KSM page';
        if (unexplained(r, held) !== 0) return `refcount off by ${unexplained(r, held)}`;
        return held === r.pfn ? 'own page' : 'unshared page';
      },
      150,
    );
    expect(found.has('own page')).toBe(true);
    expect([...found].filter((end) => end !== 'own page' && end !== 'unshared page')).toEqual([]);
  });

  it('loses no write', () => {
    const { r, ksm } = ksmRace();
    writer(r);
    actor(r.lab.world, r.lab.task, 'ksmd', function* () {
      yield* call(ksm.scan());
    });
    expect([...ends(r, () => (content(r) === tokenOf('new') ? 'kept' : 'lost'), 150)]).toEqual(['kept']);
  });
});

describe('a pin against a collapse', () => {
  it('stops it, or holds a page of the huge one; the counts are right either way', () => {
    const lab = new Lab({ cpus: 4, params: { stepPages: 512 } });
    lab.map({ pages: 512, at: 1024 * 512, fixed: true });
    lab.mm.vmas.set(lab.vma().start, lab.vma().with({ hugepage: 'never' }));
    for (const page of [0, 1, 2]) lab.write('c', page);
    lab.mm.vmas.set(lab.vma().start, lab.vma().with({ hugepage: 'always' }));
    lab.do(() => lruAddDrainAll(lab.core));
    const r: Race = { lab, pfn: lab.pfn(), pinned: null, moved: false };
    lab.world.sim.finishSetUp();
    lab.world.sim.onRewind(() => {
      r.pinned = null;
    });
    pinner(r, r);
    actor(lab.world, lab.task, 'collapser', function* () {
      yield* call(lab.mm.mmapLock.read());
      yield* call(madviseCollapse(lab.core, lab.mm, lab.vma(), lab.vpn, lab.vpn + 512));
      yield lab.mm.mmapLock.up();
    });
    const found = ends(
      r,
      () => {
        const held = r.pinned?.runs[0]?.pfn;
        if (held === undefined) return `pin failed: ${r.pinned?.errno}`;
        if (lab.pfn() !== held) return 'the process sees another page than the pinner';
        const huge = lab.core.folios.isLarge(lab.core.folios.headOf(held));
        if (!huge && unexplained(r, held) !== 0) return `refcount off by ${unexplained(r, held)}`;
        return huge ? 'huge page' : 'small page';
      },
      1000,
    );
    expect([...found].sort()).toEqual(['huge page', 'small page']);
  });
});
