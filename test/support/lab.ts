// A process with pinned memory, as the recorded pins/* cases have it: make a kind of memory, pin it as type1 does, do
// something to it, and look. The device is whoever reads and writes the pinned frames directly.
import { call, type Steps } from '../../src/engine/process.ts';
import { cpuAccess } from '../../src/mm/fault/access.ts';
import { Inode, type InodeOptions } from '../../src/mm/file/inode.ts';
import { pinUserPagesRemote } from '../../src/mm/gup/gup.ts';
import { unpinUserPages } from '../../src/mm/gup/unpin.ts';
import type { FrameRun } from '../../src/mm/ledger.ts';
import { type MmapRequest, mmap } from '../../src/mm/mapping/mmap.ts';
import type { Vma } from '../../src/mm/mapping/vma.ts';
import type { Mm } from '../../src/mm/mm.ts';
import type { Task } from '../../src/mm/process/task.ts';
import { tokenOf, tokenText } from './tokens.ts';
import { makeTask, makeWorld, run, type TestWorld, type WorldOptions } from './world.ts';

/** Kernels that the cases were recorded on. */
export const RECORDED = ['v6.1.192', 'v6.12.117'] as const;

export class Lab {
  readonly world: TestWorld;
  readonly task: Task;
  readonly mm: Mm;
  vpn = 0;
  pages = 0;
  file: Inode | null = null;
  pinned: readonly FrameRun[] = [];
  /** The frame behind the first page when it was pinned. */
  f0 = 0;

  constructor(options: WorldOptions = {}, task?: Task, world?: TestWorld) {
    this.world = world ?? makeWorld({ cpus: 2, ...options });
    this.task = task ?? makeTask(this.world, 'vmm');
    this.mm = this.task.mm.peek()!;
  }

  get core() {
    return this.world.core;
  }

  /** Run one operation to its end. */
  do<R>(body: () => Steps<R>): R {
    return run(this.world, this.task, body);
  }

  inode(options: Partial<InodeOptions> & Pick<InodeOptions, 'kind'>): Inode {
    const inode = this.core.addInode(new Inode(this.world.sim, { name: 'file', sizePages: 8, ...options }));
    this.file = inode;
    return inode;
  }

  /** mmap; the address is that of the lab from then on. */
  map(request: Partial<MmapRequest> = {}): number {
    const pages = request.pages ?? 8;
    const mapped = this.do(() => mmap(this.core, { name: 'mem', ...request, pages }));
    if (!('vpn' in mapped)) throw new Error(`mmap: ${mapped.errno}`);
    this.vpn = mapped.vpn;
    this.pages = pages;
    return mapped.vpn;
  }

  vma(vpn = this.vpn): Vma {
    const vma = this.world.sim.unwatched(() => this.mm.vmaAt(vpn));
    if (vma === undefined) throw new Error(`no VMA at ${vpn}`);
    return vma;
  }

  get vmas(): readonly Vma[] {
    return this.world.sim.unwatched(() => this.mm.vmas.entries().map(([, vma]) => vma));
  }

  /** Store by the CPU; the signal if it gets one. */
  write(text: string, page = 0): string {
    const result = this.do(() => cpuAccess(this.core, this.vpn + page, { token: tokenOf(text) }));
    return 'token' in result ? 'ok' : result.signal;
  }

  /** Load by the CPU: the text of what it sees, or the signal. */
  read(page = 0): string {
    const result = this.do(() => cpuAccess(this.core, this.vpn + page, null));
    return 'token' in result ? tokenText(result.token) : result.signal;
  }

  touchAll(text: string): void {
    for (let i = 0; i < this.pages; i++) this.write(text, i);
  }

  pfn(page = 0): number {
    return this.mm.pageTable.peekFrame(this.vpn + page);
  }

  /** Pin as vfio_iommu_type1 does: remote, long-term, mmap_lock held. Returns the errno, or 'ok'. */
  pin(write = true, pages = this.pages): string {
    const result = this.do(() => this.pinSteps(write, pages));
    if (result !== 'ok') return result;
    this.f0 = this.pinned[0]!.pfn;
    return 'ok';
  }

  *pinSteps(write: boolean, pages: number): Steps<string> {
    const { mm, core } = this;
    yield* call(mm.mmapLock.read());
    const request = { owner: 'device', write, longterm: true };
    const result = yield* call(pinUserPagesRemote(core, mm, this.vpn, pages, request));
    yield mm.mmapLock.up();
    if (result.errno !== undefined) return result.errno;
    this.pinned = result.runs;
    return 'ok';
  }

  unpin(dirty = true): void {
    const runs = this.pinned;
    this.do(() => unpinUserPages(this.core, runs, { owner: 'device', dirty }));
    this.pinned = [];
  }

  deviceRead(): string {
    return tokenText(this.core.frames.content.peek(this.f0));
  }

  deviceWrite(text: string): void {
    this.world.sim.unwatched(() => this.core.frames.content.set(this.f0, tokenOf(text)));
  }

  /** The observations of `coh` in the recorded programs: does each side see what the other writes? */
  coherence(cpuMayWrite = true): Record<string, boolean> {
    const seen: Record<string, boolean> = {};
    if (cpuMayWrite) {
      this.write('N');
      seen.dma_sees_new_cpu_write = this.deviceRead() === 'N';
    }
    this.deviceWrite('D');
    seen.cpu_sees_dma_write = this.read() === 'D';
    seen.coherent = this.pfn() === this.f0;
    return seen;
  }

  /** `page_obs` of the recorded programs. */
  pageState(): { same_pfn: boolean; present_after: boolean; old_page_mapcount: number } {
    const now = this.pfn();
    return {
      same_pfn: now !== 0 && now === this.f0,
      present_after: now !== 0,
      old_page_mapcount: this.core.folios.peekMapcount(this.core.folios.headOf(this.f0)),
    };
  }

  refcount(pfn = this.f0): number {
    return this.core.folios.refcount.peek(this.core.folios.headOf(pfn));
  }

  /** Has the pinned frame gone back to the allocator? LRU batches are drained first, as time would. */
  get freed(): boolean {
    return this.refcount() === 0;
  }
}
