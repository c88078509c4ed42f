// pins.c: memory mapped for DMA (or not: controls), an operation on it, and what device and CPU see afterwards.
import { call, type Steps } from '../../src/engine/process.ts';
import { forked, writes } from './image.ts';
import { MEM_BOOT, type Mem, mk } from './mem.ts';
import type { Program } from './program.ts';
import { type Boot, type Result, type Session, word } from './session.ts';
import { byteOf, IOVA0, must, PG, VR, VRW, VW, vfMap, vfNeed, vfUnmap, vmlck } from './vf.ts';

const PROT = { [VR]: 'READ', [VW]: 'WRITE', [VRW]: 'READ|WRITE' } as const;
/** What a page in use shows; none of them: it is free (F_MMAP, F_LRU, F_ANON, F_HUGE, F_SWAPBACKED). */
const IN_USE = ['MMAP', 'LRU', 'ANON', 'HUGE', 'SWAPBACKED'];

export type Observed = Record<string, unknown>;

/** struct P: one case. */
export class Pinned {
  readonly s: Session;
  readonly name: string;
  readonly flags: number;
  readonly pinned: boolean;
  readonly args: Observed = {};
  readonly observed: Observed = {};
  mem: Mem;
  /** Where the first page was when the case began. */
  f0 = 0;

  constructor(s: Session, name: string, type: string, pinned: boolean, flags = VRW) {
    this.s = s;
    this.name = `pins/${name}/${type}${pinned ? '' : '/control'}`;
    this.pinned = pinned;
    this.flags = flags;
    this.mem = { type, memory: 'm', bytes: 8n * PG, readable: true, writable: true };
  }

  /** mkid, vf_need, and the first argument. */
  *open(): Steps<void> {
    yield* call(forked(this.s));
    yield* call(writes(this.s, 'name'));
    yield* call(vfNeed(this.s));
    yield* call(writes(this.s, 'args'));
  }

  /** begin(): false when the case ends here, reported. */
  *begin(): Steps<boolean> {
    const { s, args, mem } = this;
    yield* call(this.open());
    if (mem.type.startsWith('hugetlb')) yield* call(usedBefore(s));
    args.type = mem.type;
    args.pinned = this.pinned;
    if (this.pinned) args.prot = PROT[this.flags as keyof typeof PROT];
    const made = yield* call(mk(s, mem.type));
    if ('errno' in made) {
      s.emit(this.name, made.errno, args, { stage: 'make_memory' });
      return false;
    }
    this.mem = made;
    if (this.pinned) {
      const mapped = yield* call(vfMap(s, made.memory, 0n, IOVA0, made.bytes, this.flags));
      if (mapped.errno !== null) {
        s.emit(this.name, mapped, args, { stage: 'map' });
        return false;
      }
    }
    this.f0 = yield* call(this.pfn());
    return true;
  }

  /** pfn_of of the page at `offset`; 0: not present. */
  *pfn(offset = 0n, memory = this.mem.memory): Steps<number> {
    return Number((yield* call(this.s.op('pagemap', { memory, offset, length: PG }))).shows.pfn);
  }

  /** kpf_str and kpc of a frame. */
  *kpage(pfn: number): Steps<{ readonly flags: string; readonly mapcount: number }> {
    const { flags } = (yield* call(must(this.s, 'kpage', { pfn }))).shows;
    // The first write to kpf_str's buffer takes a page: the one that was freed last.
    yield* call(writes(this.s, 'flags'));
    const { mapcount } = (yield* call(must(this.s, 'kpage', { pfn }))).shows;
    return { flags: String(flags), mapcount: Number(mapcount) };
  }

  /** A byte that the CPU reads; the errno or signal when it cannot. */
  *cpu(memory = this.mem.memory): Steps<unknown> {
    const read = yield* call(this.s.op('cpu.read', { memory }));
    return read.errno ?? byteOf(read.shows.value);
  }

  *cpuWrite(value: string): Steps<Result> {
    return yield* call(this.s.op('cpu.write', { memory: this.mem.memory, value }));
  }

  *dmaRead(offset = 0n): Steps<number> {
    const read = yield* call(this.s.op('dma.read', { device: 'edu', iova: IOVA0 + offset }));
    return byteOf(read.shows.value);
  }

  *dmaWrite(value: string, offset = 0n): Steps<void> {
    yield* call(must(this.s, 'dma.write', { device: 'edu', iova: IOVA0 + offset, value }));
  }

  /** page_obs() */
  *pageObserved(): Steps<void> {
    const { observed, mem } = this;
    const map = (yield* call(this.s.op('pagemap', { memory: mem.memory, length: PG }))).shows;
    const pfn = Number(map.pfn);
    const old = yield* call(this.kpage(this.f0));
    observed.same_pfn = pfn !== 0 && pfn === this.f0;
    observed.present_after = pfn !== 0;
    observed.swapped_after = map.swapped;
    observed.old_page_flags = old.flags;
    observed.old_page_mapcount = old.mapcount;
  }

  /** coh(): what device and CPU see of each other's writes; `writes`: the CPU may write. */
  *coherence(writes: boolean): Steps<void> {
    if (!this.pinned) return;
    const { observed } = this;
    const reads = (this.flags & VR) !== 0;
    if (reads && writes) {
      yield* call(this.cpuWrite('N'));
      observed.dma_sees_new_cpu_write = (yield* call(this.dmaRead())) === byteOf('N');
    }
    if ((this.flags & VW) !== 0) {
      yield* call(this.dmaWrite('D'));
      observed.cpu_sees_dma_write = (yield* call(this.cpu())) === byteOf('D');
      if (reads) observed.dma_write_readable_by_dma = (yield* call(this.dmaRead())) === byteOf('D');
    }
    const pfn = yield* call(this.pfn());
    observed.coherent = pfn !== 0 && pfn === this.f0;
  }

  /** fin(): unmap, and report. */
  *finish(result: Result | 'ok' | string, unsupported?: string): Steps<void> {
    const { s, observed } = this;
    if (this.pinned) {
      const unmap = yield* call(vfUnmap(s, IOVA0, this.mem.bytes));
      observed.unmap = word(unmap);
      observed.vmlck_kb_end = (yield* call(vmlck(s))) - 4;
      yield* call(must(s, 'settle', {}));
      const { flags } = yield* call(this.kpage(this.f0));
      observed.old_page_freed_after_unmap = !flags.split('|').some((flag) => IN_USE.includes(flag));
    }
    s.emit(this.name, result, this.args, observed, unsupported);
  }
}

/** Pages of the hugetlb pool keep marks of their last use, and the programs before this one used them. */
function* usedBefore(s: Session): Steps<void> {
  yield* call(must(s, 'mmap', { name: 'used', memory: 'huge', shared: false }));
  yield* call(must(s, 'touch', { memory: 'used', value: 'u' }));
  yield* call(must(s, 'munmap', { memory: 'used' }));
}

/** A program for each type, pinned or not: the C programs run each in a process of its own. */
export function pinPrograms(
  name: string,
  types: readonly string[],
  pinned: readonly boolean[],
  body: (p: Pinned) => Steps<void>,
  how: { readonly flags?: number; readonly boot?: Boot; readonly before?: (s: Session) => Steps<void> } = {},
): readonly Program[] {
  return types.flatMap((type) =>
    pinned.map((pins) => ({
      name: `pins/${name}/${type}${pins ? '' : '/control'}`,
      boot: how.boot ?? MEM_BOOT,
      *run(s: Session): Steps<void> {
        const p = new Pinned(s, name, type, pins, how.flags ?? VRW);
        yield* call(forked(s));
        if (how.before !== undefined) yield* call(how.before(s));
        if (yield* call(p.begin())) yield* call(body(p));
      },
    })),
  );
}
