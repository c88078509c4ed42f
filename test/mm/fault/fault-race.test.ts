// Page faults against each other and against those who change the entry, in random orders: whoever wins, the books add
// up, nobody reads what is not his, and steps that announced nothing in common commute.
import { describe, expect, it } from 'vitest';
import { call, type Steps } from '../../../src/engine/process.ts';
import { exploreSim } from '../../../src/explore/explore.ts';
import { swapTest } from '../../../src/explore/swap.ts';
import { type AccessResult, cpuAccess } from '../../../src/mm/fault/access.ts';
import { handleMmFault } from '../../../src/mm/fault/fault.ts';
import { uffdCopy } from '../../../src/mm/fault/uffd.ts';
import { madviseDontneed } from '../../../src/mm/madvise/madvise-zap.ts';
import { uffdModes } from '../../../src/mm/mapping/vma.ts';
import { PMD_TABLE, PTE_SWAP, PTE_WRITE } from '../../../src/mm/pte.ts';
import { tokenOf, tokenText } from '../../support/tokens.ts';
import { actor, type WorldOptions } from '../../support/world.ts';
import { audit } from './fault-audit.ts';
import {
  BASE,
  type Bench,
  bench,
  family,
  inode,
  mapped,
  mappedFamily,
  other,
  shareAsForkDoes,
  touch,
} from './fault-bench.ts';

const OLD = tokenOf('old');

interface Race {
  readonly b: Bench;
  readonly all: readonly Bench[];
  readonly pages: number;
  /** Who saw what, in the order in which they finished. */
  seen: string[];
  /** Judges an execution that ended, beyond the books. */
  judge?: (race: Race) => void;
}

type Setting = () => Race;

function race(b: Bench, all: readonly Bench[] = [b], pages = 8): Race {
  return { b, all, pages, seen: [] };
}

function record(r: Race, who: string, result: AccessResult): void {
  r.seen.push(`${who} ${'token' in result ? tokenText(result.token) : result.signal}`);
}

function reader(r: Race, name: string, by = r.b, vpn = BASE): void {
  actor(r.b, by.task, name, function* () {
    record(r, name, yield* call(cpuAccess(r.b.core, vpn, null)));
  });
}

function writer(r: Race, name: string, by = r.b, vpn = BASE): void {
  actor(r.b, by.task, name, function* () {
    record(r, name, yield* call(cpuAccess(r.b.core, vpn, { token: tokenOf(name) })));
    record(r, name, yield* call(cpuAccess(r.b.core, vpn, null)));
  });
}

function zapper(r: Race, by = r.b, vpn = BASE, pages = 1): void {
  const vma = by.mm.vmas.entries()[0]![1];
  actor(r.b, by.task, 'zapper', function* () {
    yield* call(madviseDontneed(r.b.core, by.mm, vma, vpn, vpn + pages, false));
  });
}

/** A read-only pin's fault: unshare, as GUP asks for it. */
function unsharer(r: Race): void {
  actor(r.b, r.b.task, 'unsharer', () => unshare(r));
}

function* unshare(r: Race): Steps<void> {
  const { core, mm } = r.b;
  yield* call(mm.mmapLock.read());
  const vma = r.b.sim.unwatched(() => mm.vmas.entries()[0]![1]);
  const flags = { write: false, unshare: true, remote: false, allowRetry: false, killable: false, memallocPin: false };
  r.seen.push(`unsharer ${yield* call(handleMmFault(core, mm, vma, BASE, flags))}`);
  yield mm.mmapLock.up();
}

/** Two processes that share a page since fork. */
function forked(options: WorldOptions = {}): Race {
  const b = bench(options);
  const child = other(b, 'child');
  const anonVma = family(b);
  mappedFamily(b, anonVma);
  mappedFamily(child, anonVma);
  touch(b, BASE, OLD);
  shareAsForkDoes(b, child, BASE);
  b.sim.finishSetUp();
  return race(b, [b, child]);
}

function swappedOut(options: WorldOptions = {}): Race {
  const b = bench({ ...options, params: { swapSlots: 4, ...options.params } });
  const child = other(b, 'child');
  const anonVma = family(b);
  for (const each of [b, child]) {
    mappedFamily(each, anonVma);
    each.mm.pageTable.setPmd(BASE / 512, 1, PMD_TABLE, 0);
    each.mm.pageTable.setPte(BASE, 0, PTE_SWAP, 0);
  }
  b.core.swap.take();
  b.core.swap.map.set(0, 2);
  b.core.swap.content.set(0, OLD);
  return race(b, [b, child]);
}

const SETTINGS: Readonly<Record<string, Setting>> = {
  'two threads touch a page first, reading and writing'() {
    const b = bench();
    mapped(b);
    const r = race(b);
    reader(r, 'R');
    writer(r, 'W');
    r.judge = ({ seen }) => expect(seen.filter((s) => s === 'W W')).toHaveLength(2);
    return r;
  },
  'two threads write a fresh page'() {
    const b = bench();
    mapped(b);
    const r = race(b);
    writer(r, 'W1');
    writer(r, 'W2');
    r.judge = ({ seen }) => expect(seen.every((s) => !s.includes('zero'))).toBe(true);
    return r;
  },
  'two threads touch two pages of one new VMA'() {
    const b = bench();
    mapped(b);
    const r = race(b);
    writer(r, 'W1', b, BASE);
    writer(r, 'W2', b, BASE + 1);
    r.judge = () => {
      const [first, second] = [0, 1].map((i) => b.core.rmapAnon(b.mm.pageTable.peekFrame(BASE + i)));
      expect(first).toBe(second);
    };
    return r;
  },
  'parent and child write the page they share'() {
    const r = forked();
    writer(r, 'P');
    writer(r, 'C', r.all[1]);
    r.judge = ({ seen }) => {
      expect(seen.filter((s) => s === 'P P')).toHaveLength(2);
      expect(seen.filter((s) => s === 'C C')).toHaveLength(2);
    };
    return r;
  },
  'two threads write a page shared with a child that reads'() {
    const r = forked();
    writer(r, 'P1');
    writer(r, 'P2');
    reader(r, 'C', r.all[1]);
    r.judge = ({ seen }) => expect(seen).toContain('C old');
    return r;
  },
  'a write and an unshare fault of a shared page'() {
    const r = forked();
    writer(r, 'P');
    unsharer(r);
    r.judge = () => {
      const pfn = r.b.mm.pageTable.peekFrame(BASE);
      expect(r.b.core.folios.anonExclusive.peek(pfn)).toBe(1);
    };
    return r;
  },
  'a write of a shared page and its zap in the other process'() {
    const r = forked();
    writer(r, 'P');
    zapper(r, r.all[1]);
    return r;
  },
  'a write and a zap of the same address'() {
    const r = forked();
    writer(r, 'P');
    zapper(r);
    return r;
  },
  'both processes swap a page in, one writing'() {
    const r = swappedOut();
    writer(r, 'P');
    reader(r, 'C', r.all[1]);
    r.judge = ({ seen }) => expect(seen).toContain('C old');
    return r;
  },
  'two threads swap a page in past the swap cache'() {
    const r = swappedOut();
    r.b.core.swap.map.set(0, 1);
    r.all[1]!.mm.pageTable.clearPte(BASE);
    writer(r, 'P1');
    reader(r, 'P2');
    r.judge = ({ seen }) => expect(seen.some((s) => s === 'P2 old' || s === 'P2 P1')).toBe(true);
    return r;
  },
  'a swap-in and a zap of its entry'() {
    const r = swappedOut();
    reader(r, 'P');
    zapper(r);
    reader(r, 'C', r.all[1]);
    r.judge = ({ seen }) => expect(seen).toContain('C old');
    return r;
  },
  'two processes touch a page of a memfd first'() {
    const b = bench();
    const second = other(b, 'second');
    const file = inode(b);
    mapped(b, { file, shared: true });
    mapped(second, { file, shared: true });
    const r = race(b, [b, second]);
    writer(r, 'A');
    writer(r, 'B', second);
    r.judge = () => {
      expect(b.mm.pageTable.peekFrame(BASE)).toBe(second.mm.pageTable.peekFrame(BASE));
    };
    return r;
  },
  'two processes write a file page, one through a private mapping'() {
    const b = bench();
    const second = other(b, 'second');
    const file = inode(b, { kind: 'file', fs: 'ext4', sizePages: 2 });
    for (let i = 0; i < 2; i++) file.disk.set(i, OLD);
    mapped(b, { file, shared: true }, 2);
    mapped(second, { file }, 2);
    const r = race(b, [b, second], 2);
    writer(r, 'S');
    writer(r, 'P', second);
    r.judge = ({ seen }) => {
      expect(seen.filter((s) => s === 'P P')).toHaveLength(2);
      expect(seen.filter((s) => s === 'S S')).toHaveLength(2);
      expect(b.core.frames.content.peek(file.pages.peek(0) - 1)).toBe(tokenOf('S'));
    };
    return r;
  },
  'two threads touch the last page of the hugetlb pool'() {
    const b = bench({ params: { hugePages: { 9: 1 } } });
    mapped(b, { file: inode(b, { kind: 'hugetlb', hugeOrder: 9, sizePages: 512 }) }, 512);
    const r = race(b, [b], 512);
    writer(r, 'W1', b, BASE);
    writer(r, 'W2', b, BASE + 3);
    // The fault mutex: nobody is told that the pool is empty.
    r.judge = ({ seen }) => expect(seen.some((s) => s.includes('SIGBUS'))).toBe(false);
    return r;
  },
  'two threads touch a huge page first'() {
    const b = bench();
    mapped(b, { hugepage: 'always' }, 512);
    const r = race(b, [b], 512);
    reader(r, 'R', b, BASE + 1);
    writer(r, 'W', b, BASE + 3);
    r.judge = ({ seen }) => expect(seen).toContain('R zero');
    return r;
  },
  'a read-only huge page is written by two threads'() {
    const b = bench();
    mapped(b, { hugepage: 'always' }, 512);
    touch(b, BASE, OLD);
    const { pfn, bits, generation } = b.mm.pageTable.peekPmd(BASE / 512);
    b.mm.pageTable.setPmd(BASE / 512, pfn, bits & ~PTE_WRITE, generation);
    b.core.folios.anonExclusive.set(pfn, 0);
    for (const cpu of b.core.cpus) cpu.tlb.value = [];
    b.sim.finishSetUp();
    const r = race(b, [b], 512);
    writer(r, 'W1', b, BASE);
    writer(r, 'W2', b, BASE + 1);
    return r;
  },
  'a userfault, its handler and another thread'() {
    const b = bench();
    mapped(b, { uffd: uffdModes(['missing'], null) });
    const r = race(b);
    reader(r, 'R1');
    reader(r, 'R2');
    actor(b, b.task, 'handler', function* () {
      yield* call(uffdCopy(b.core, b.mm, BASE, OLD));
    });
    r.judge = ({ seen }) => expect([...seen].sort()).toEqual(['R1 old', 'R2 old']);
    return r;
  },
};

function inodesOf(r: Race) {
  return [...new Set(r.all.flatMap((each) => each.mm.vmas.entries().map(([, vma]) => vma.fields.file)))].filter(
    (file) => file !== null,
  );
}

describe('page faults racing', () => {
  for (const [name, setting] of Object.entries(SETTINGS)) {
    it(`${name}: the books add up`, { timeout: 60_000 }, () => {
      const r = setting();
      const { sim, core } = r.b;
      sim.onRewind(() => {
        r.seen = [];
      });
      const mms = r.all.map((each) => each.mm);
      const inodes = inodesOf(r);
      const result = exploreSim(sim, {
        strategy: 'random',
        runs: 60,
        atEnd: () =>
          sim.unwatched(() => {
            expect(audit(core, { mms, inodes, from: BASE, pages: r.pages })).toEqual([]);
            r.judge?.(r);
          }),
      });
      expect(result.findings.map((f) => f.message)).toEqual([]);
      expect(result.limits).toEqual([]);
    });

    it(`${name}: independent steps commute`, { timeout: 60_000 }, () => {
      const r = setting();
      const result = swapTest(r.b.sim, { runs: 12, seed: 'fault' });
      expect(result.failure?.message ?? null).toBeNull();
    });
  }
});
