// pins.c migr and zone: migration, KSM, collapse and THP splits of pinned memory; pins out of ZONE_MOVABLE.
import { call, type Steps } from '../../../src/engine/process.ts';
import { LAB_HOST, labBoot } from '../boot.ts';
import { writes } from '../image.ts';
import { MEM_BOOT, MEM_OBJECTS, mk } from '../mem.ts';
import { type Observed, Pinned, pinPrograms } from '../pinned.ts';
import type { Program } from '../program.ts';
import { type Result, type Session, word } from '../session.ts';
import { anonTouched, byteOf, IOVA0, must, PG, VR, VRW, vfMap, vfUnmap, vmlck } from '../vf.ts';

const HALF = 256n * PG;

/** The CPU reads the page, and where it is now is where the case begins. */
function* readFirst(p: Pinned): Steps<void> {
  yield* call(p.cpu());
  p.f0 = yield* call(p.pfn());
}

/** Node of the first page. */
function* nodeOf(p: Pinned): Steps<number> {
  const { zone } = (yield* call(p.s.op('pagemap', { memory: p.mem.memory, length: PG }))).shows;
  return Number(/^node(\d+)/.exec(String(zone))?.[1] ?? -1);
}

/** do_move */
function* move(p: Pinned): Steps<void> {
  const { s, observed, mem } = p;
  yield* call(readFirst(p));
  const node = yield* call(nodeOf(p));
  observed.node_before = node;
  const to = node === 1 ? 0 : 1;
  const result = yield* call(s.op('move_pages', { memory: mem.memory, length: PG, node: to }));
  const status = (result.shows.status as readonly unknown[])[0] ?? null;
  observed.page_status = status ?? -9999;
  observed.page_status_errno = status === null ? 'status not written' : typeof status === 'string' ? status : 'moved';
  observed.node_after = yield* call(nodeOf(p));
  yield* call(end(p, result));
}

function* end(p: Pinned, result: Result | 'ok'): Steps<void> {
  yield* call(p.pageObserved());
  yield* call(p.coherence(true));
  yield* call(p.finish(result));
}

/** do_mbind */
function* bind(p: Pinned): Steps<void> {
  yield* call(readFirst(p));
  yield* call(end(p, yield* call(p.s.op('mbind', { memory: p.mem.memory, nodes: [1], strict: true, move: true }))));
}

/** do_migproc */
function* migrateProcess(p: Pinned): Steps<void> {
  yield* call(readFirst(p));
  const result = yield* call(p.s.op('migrate_pages', { from: [0], to: [1] }));
  p.observed.some_pages_not_moved = result.ret > 0;
  yield* call(end(p, result.errno === null ? 'ok' : result));
}

/** ksmd for four seconds, every 20 ms over everything: until nothing changes any more. Returns pages_sharing. */
function* ksmd(s: Session): Steps<number> {
  let sharing = 0;
  for (let pass = 0; pass < 10; pass++) {
    sharing = Number((yield* call(must(s, 'ksm.scan', {}))).shows.sharing);
  }
  return sharing;
}

/** do_ksm */
function* merge(p: Pinned): Steps<void> {
  const { s, observed, mem } = p;
  yield* call(anonTouched(s, 'o', mem.bytes / PG, 'K'));
  yield* call(must(s, 'touch', { memory: mem.memory, value: 'K' }));
  yield* call(must(s, 'madvise', { memory: 'o', advice: 'MERGEABLE' }));
  p.f0 = yield* call(p.pfn());
  observed.pages_sharing = yield* call(ksmd(s));
  const [first, second] = [yield* call(p.pfn()), yield* call(p.pfn(PG))];
  const [other, next] = [yield* call(p.pfn(0n, 'o')), yield* call(p.pfn(PG, 'o'))];
  observed.page_merged = first === other || first === second;
  observed.other_copy_merged = other === next;
  observed.kpageflags_says_ksm = (yield* call(p.kpage(first))).flags.split('|').includes('KSM');
  yield* call(end(p, 'ok'));
}

/** do_ksm_prep */
function* pinMerged(s: Session, prot: 'READ' | 'READ|WRITE'): Steps<void> {
  const p = new Pinned(s, 'ksm_page_then_pin', prot, true, prot === 'READ' ? VR : VRW);
  yield* call(p.open());
  p.args.prot = prot;
  yield* call(anonTouched(s, 'm', 8n, 'K'));
  yield* call(must(s, 'madvise', { memory: 'm', advice: 'MERGEABLE' }));
  yield* call(ksmd(s));
  const merged = yield* call(p.pfn());
  p.observed.merged_before_pin = merged === (yield* call(p.pfn(PG)));
  const result = yield* call(vfMap(s, 'm', 0n, IOVA0, 8n * PG, p.flags));
  p.f0 = yield* call(p.pfn());
  p.observed.merged_after_pin = p.f0 === (yield* call(p.pfn(PG)));
  p.observed.pin_replaced_page = p.f0 !== merged;
  if (result.errno === null) yield* call(p.coherence(true));
  yield* call(p.finish(result));
}

/** anon_huge_kb of the mapping: the process has no other huge page. */
function* anonHugeKb(s: Session): Steps<number> {
  return Number((yield* call(s.op('smaps'))).shows.AnonHugePages) / 1024;
}

/** do_collapse */
function* collapse(s: Session, pinned: boolean): Steps<void> {
  const p = new Pinned(s, 'madv_collapse', 'anon', pinned);
  yield* call(p.open());
  p.args.pinned = pinned;
  p.args.note = '2 MiB of 4k pages, 8 pages pinned';
  yield* call(anonTouched(s, 'm', 512n, 'c'));
  if (pinned) yield* call(vfMap(s, 'm', 0n, IOVA0, 8n * PG));
  p.f0 = yield* call(p.pfn());
  yield* call(must(s, 'madvise', { memory: 'm', advice: 'HUGEPAGE' }));
  const result = yield* call(s.op('madvise', { memory: 'm', advice: 'COLLAPSE' }));
  p.observed.anon_huge_kb_after = yield* call(anonHugeKb(s));
  yield* call(end(p, result));
}

const THP = {
  *thp_partial_munmap(s: Session) {
    return yield* call(s.op('munmap', { memory: 'm', offset: HALF }));
  },
  *thp_partial_mprotect(s: Session) {
    return yield* call(s.op('mprotect', { memory: 'm', offset: HALF, prot: 'r' }));
  },
  *thp_debugfs_split(s: Session) {
    return yield* call(s.op('split_huge_pages', { memory: 'm' }));
  },
  *thp_partial_mremap(s: Session) {
    yield* call(must(s, 'mmap', { name: 'h', size: HALF, prot: 'none' }));
    return yield* call(s.op('mremap', { memory: 'm', offset: HALF, length: HALF, to_memory: 'h', name: 'h' }));
  },
  *thp_partial_dontneed(s: Session) {
    return yield* call(s.op('madvise', { memory: 'm', offset: HALF, advice: 'DONTNEED' }));
  },
} satisfies Record<string, (s: Session) => Steps<Result>>;

const SPLITS = ['thp_split_page', 'thp_split_page_failed', 'thp_deferred_split_page'] as const;

function* splits(s: Session): Steps<readonly number[]> {
  yield* call(writes(s, 'stdio'));
  const { shows } = yield* call(s.op('vmstat'));
  return SPLITS.map((name) => Number(shows[name]));
}

/** do_thp */
function splitting(how: (s: Session) => Steps<Result>) {
  return function* (p: Pinned): Steps<void> {
    const { s, observed } = p;
    observed.anon_huge_kb_before = yield* call(anonHugeKb(s));
    const before = yield* call(splits(s));
    const result = yield* call(how(s));
    yield* call(must(s, 'settle', {}));
    observed.anon_huge_kb_after = yield* call(anonHugeKb(s));
    const after = yield* call(splits(s));
    SPLITS.forEach((name, i) => {
      observed[name] = after[i]! - before[i]!;
    });
    yield* call(p.pageObserved());
    yield* call(p.coherence(true));
    if (p.pinned) {
      yield* call(p.dmaWrite('H', HALF));
      observed.dma_to_second_half_works = (yield* call(p.dmaRead(HALF))) === byteOf('H');
    }
    yield* call(p.finish(result.errno === null ? 'ok' : result));
  };
}

/** movablecore=768M: most of node 0 is ZONE_MOVABLE. */
export const MOVABLE_BOOT = labBoot({
  memory: MEM_OBJECTS,
  host: {
    ...LAB_HOST,
    memory: [
      { dma32: '64MiB', movable: '384MiB' },
      { dma32: '32MiB', movable: '96MiB' },
    ],
  },
});

/** do_zone */
function* zone(s: Session, type: string): Steps<void> {
  const p = new Pinned(s, 'zone_movable', type, true, type.includes('_ro') ? VR : VRW);
  const { observed } = p;
  yield* call(p.open());
  p.args.type = type;
  p.args.boot = 'movablecore=768M';
  const made = yield* call(mk(s, type));
  if ('errno' in made) {
    s.emit(p.name, made.errno, p.args);
    return;
  }
  p.mem = made;
  yield* call(p.cpu());
  const before = yield* call(p.pfn());
  observed.zone_before_pin = yield* call(zoneOf(p));
  const migrated = yield* call(migrations(s));
  const result = yield* call(vfMap(s, made.memory, 0n, IOVA0, made.bytes, p.flags));
  p.f0 = yield* call(p.pfn());
  if (p.f0 !== 0) observed.zone_after_pin = yield* call(zoneOf(p));
  observed.migrated_by_pin = p.f0 !== before;
  observed.pgmigrate_success = (yield* call(migrations(s))) - migrated;
  if (result.errno === null) yield* call(p.coherence(made.writable));
  yield* call(release(p, observed, result));
}

/** fin() unmaps whether or not there was something to unmap. */
function* release(p: Pinned, observed: Observed, result: Result): Steps<void> {
  if (result.errno === null) {
    yield* call(p.finish(result));
    return;
  }
  const unmap = yield* call(vfUnmap(p.s, IOVA0, p.mem.bytes));
  observed.unmap = word(unmap);
  observed.vmlck_kb_end = (yield* call(vmlck(p.s))) - 4;
  const { flags } = yield* call(p.kpage(p.f0));
  observed.old_page_freed_after_unmap = flags === '';
  p.s.emit(p.name, result, p.args, observed);
}

export function* zoneOf(p: Pinned): Steps<string> {
  yield* call(writes(p.s, 'zone'));
  const { zone } = (yield* call(p.s.op('pagemap', { memory: p.mem.memory, length: PG }))).shows;
  // As /proc/zoneinfo writes it.
  return String(zone).replace('MOVABLE', 'Movable').replace('NORMAL', 'Normal');
}

function* migrations(s: Session): Steps<number> {
  yield* call(writes(s, 'stdio'));
  return Number((yield* call(s.op('vmstat'))).shows.pgmigrate_success);
}

const BOTH = [true, false];
const ANON = ['anon_rw_touched'];
const MOVED = [...ANON, 'anon_thp', 'shared_anon', 'memfd_shared_rw_touched', 'hugetlb_2m'];
const ZONES = [...MOVED.slice(0, 4), 'ext4_shared_ro', 'ext4_shared_rw_touched', 'hugetlb_2m'];

export const pinsMigrate: readonly Program[] = [
  ...pinPrograms('move_pages_to_node1', MOVED, BOTH, move),
  ...pinPrograms('mbind_move_strict_node1', ANON, BOTH, bind),
  ...pinPrograms('migrate_pages_process', ANON, BOTH, migrateProcess),
  ...pinPrograms('ksm', ['anon_mergeable'], BOTH, merge),
  ...BOTH.map((pinned) => ({
    name: `pins/madv_collapse/anon${pinned ? '' : '/control'}`,
    boot: MEM_BOOT,
    run: (s: Session) => collapse(s, pinned),
  })),
  ...Object.entries(THP).flatMap(([name, how]) => pinPrograms(name, ['anon_thp'], BOTH, splitting(how))),
  ...(['READ', 'READ|WRITE'] as const).map((prot) => ({
    name: `pins/ksm_page_then_pin/${prot}`,
    boot: MEM_BOOT,
    run: (s: Session) => pinMerged(s, prot),
  })),
  ...ZONES.map((type) => ({
    name: `pins/zone_movable/${type}`,
    boot: MOVABLE_BOOT,
    run: (s: Session) => zone(s, type),
  })),
];
