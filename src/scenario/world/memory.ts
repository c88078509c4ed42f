// Memory objects of a scenario: the inodes and raw frames behind them, and the set-up that maps and fills them by
// running the same kernel code as a script would.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import { ZERO_TOKEN } from '../../hw/token.ts';
import type { SwitchId } from '../../kernel/index.ts';
import type { CoreMm } from '../../mm/core.ts';
import { cpuAccess } from '../../mm/fault/access.ts';
import { mmPopulate } from '../../mm/fault/populate.ts';
import { userfaultfdRegister } from '../../mm/fault/uffd-register.ts';
import { Inode, type InodeOptions } from '../../mm/file/inode.ts';
import { mmapReadahead, unlockFolio } from '../../mm/file/page-cache.ts';
import { shmemGetFolio } from '../../mm/file/shmem.ts';
import { SuperBlock } from '../../mm/file/super-block.ts';
import { hugetlbfsFallocate } from '../../mm/hugetlb/hugetlb-fallocate.ts';
import { type Advice, madvise } from '../../mm/madvise/madvise.ts';
import { mlock } from '../../mm/mapping/mlock.ts';
import { type MmapRequest, mmap } from '../../mm/mapping/mmap.ts';
import { mprotect } from '../../mm/mapping/mprotect.ts';
import {
  makeDriverFrames,
  makeHeapFrames,
  makeSpecialFrames,
  makeSpecialMapping,
} from '../../mm/mapping/special-mapping.ts';
import { type UffdMode, uffdModes } from '../../mm/mapping/vma.ts';
import { folioPut } from '../../mm/refcount.ts';
import { ScenarioError, type Where } from '../file/diagnostic.ts';
import type { Mapping, Memory, Process } from '../file/scenario.ts';
import type { MemoryKind } from '../file/schema-memory.ts';
import type { MemoryObject, World } from './world.ts';

const PAGE = 4096n;
const FILL = step('set-up:fill', 'none');
const SEAL = step('set-up:seal', 'none');
/** What the handler of a userfaultfd fills in, as the recorded programs do. */
const UFFD_FILL = 'uffd';

export function toPages(bytes: bigint): number {
  return Number((bytes + PAGE - 1n) / PAGE);
}

/** Frames handed out of the DEVICE zone while the world is built. */
export class DeviceFrames {
  private next: number;
  private readonly end: number;

  constructor(world: World) {
    const zone = world.machine.zones.find(({ kind }) => kind === 'DEVICE');
    this.next = zone?.firstPfn ?? 0;
    this.end = zone === undefined ? 0 : zone.firstPfn + zone.pages;
  }

  take(pages: number): number | undefined {
    const first = Math.ceil(this.next / PMD_PAGES) * PMD_PAGES;
    if (first + pages > this.end) return undefined;
    this.next = first + pages;
    return first;
  }

  /** Frames for something of the scenario; a mistake of the scenario when the host has too few. */
  mustTake(pages: number, name: string, where: Where): number {
    const first = this.take(pages);
    if (first !== undefined) return first;
    throw new ScenarioError([
      {
        where,
        message: `\`${name}\` does not fit the device memory of the host`,
        hint: 'leave out `device` in host.memory, or make it larger',
      },
    ]);
  }
}

/** Make the objects; nothing is mapped yet. BARs come with their devices. */
export function addMemory(world: World): void {
  for (const memory of world.scenario.memory) world.memory.set(memory.name, makeObject(world, memory));
}

function makeObject(world: World, memory: Memory): MemoryObject {
  const { name, spec } = memory;
  const { sim, core } = world;
  checkKernelHas(world, memory);
  if (spec.kind === 'guest_memfd' && spec.content !== undefined) {
    const hint = 'leave out `content`: its pages are zeroes until the guest writes them';
    throw new ScenarioError([
      { where: memory.where, message: `a guest_memfd cannot be filled, \`${name}\` is one`, hint },
    ]);
  }
  const options = inodeOptions(world, memory);
  if (options !== null) {
    const inode = core.addInode(new Inode(sim, options));
    const token = contentOf(world, spec.content);
    if (inode.kind === 'file' || inode.kind === 'fsdax') {
      const pages = inode.sizePages.peek();
      inode.allocated.fill(0, pages - 1, 1);
      if (token !== ZERO_TOKEN) inode.disk.fill(0, pages - 1, token);
    }
    return { name, spec, inode, pfnMapping: null };
  }
  if (spec.kind === 'vdso' || spec.kind === 'vvar') {
    const token = contentOf(world, spec.content);
    const tokens = new Array<number>(toPages(spec.size)).fill(token);
    if (spec.kind === 'vdso') return { name, spec, inode: makeSpecialMapping(core, name, tokens), pfnMapping: null };
    return { name, spec, inode: null, pfnMapping: makeSpecialFrames(core, name, tokens) };
  }
  if (spec.kind === 'driver') {
    const tokens = new Array<number>(toPages(spec.size)).fill(contentOf(world, spec.content));
    return { name, spec, inode: null, pfnMapping: makeDriverFrames(core, name, tokens) };
  }
  if (spec.kind === 'dmabuf') {
    const tokens = new Array<number>(toPages(spec.size)).fill(contentOf(world, spec.content));
    return { name, spec, inode: null, pfnMapping: makeHeapFrames(core, name, tokens) };
  }
  return { name, spec, inode: null, pfnMapping: null };
}

/** Kinds of memory that came with some release: what makes them, and the behaviour that tells whether a kernel has it. */
const KIND_NEEDS: Readonly<Partial<Record<MemoryKind, readonly [string, SwitchId]>>> = {
  secret: ['memfd_secret()', 'secretmem.syscall'],
  dmabuf: ['the system heap that maps its buffers with remap_pfn_range', 'dmabuf.heap-pfnmap'],
};

function checkKernelHas({ kernel }: World, { name, spec, where }: Memory): void {
  const needs = KIND_NEEDS[spec.kind];
  if (needs === undefined || kernel.has(needs[1])) return;
  const message = `${kernel.profile.name} has no memory of kind \`${spec.kind}\`, as \`${name}\` is: ${needs[0]} is missing there`;
  throw new ScenarioError([{ where, message, hint: `\`pinsim explain ${needs[1]}\` says which kernels have it` }]);
}

/** The token of a content; zeroes when none is given. */
export function contentOf(world: World, text: string | undefined): number {
  return text === undefined ? ZERO_TOKEN : world.core.frames.tokens.of(text);
}

/** The inode behind a kind; null for private anonymous memory and raw frames. */
function inodeOptions(world: World, { name, spec }: Memory): InodeOptions | null {
  const sizePages = toPages('file_size' in spec && spec.file_size !== undefined ? spec.file_size : spec.size);
  // Files that were opened by a path have a name that can be unlinked.
  const linked = true;
  const bound = spec.node === undefined ? {} : { bindNode: spec.node };
  switch (spec.kind) {
    case 'shmem':
    case 'sysv':
      return { kind: 'shmem', name, sizePages, ...bound };
    case 'tmpfs':
      return { kind: 'shmem', name, sizePages, linked, ...ownedBy(spec.owner), ...bound };
    case 'dev-zero':
    case 'anon':
      return spec.shared === true ? { kind: 'shmem', name, sizePages, ...bound } : null;
    case 'hugetlb':
      return { kind: 'hugetlb', name, sizePages, hugeOrder: spec.page_size === '1GiB' ? 18 : 9, ...bound };
    case 'file':
      return {
        kind: 'file',
        name,
        sizePages,
        linked,
        fs: spec.fs ?? 'ext4',
        ...ownedBy(spec.owner),
        ...mountOf(world, spec.mount),
      };
    case 'text':
      return { kind: 'file', name, sizePages, linked, fs: 'ext4', ...ownedBy(0) };
    case 'fsdax':
      return { kind: 'fsdax', name, sizePages, linked, ...mountOf(world, spec.mount) };
    case 'secret':
      return { kind: 'secret', name, sizePages };
    default:
      return null;
  }
}

function ownedBy(uid: number | undefined): { readonly ownerUid?: number } {
  return uid === undefined ? {} : { ownerUid: uid };
}

/** The filesystem of that name, made with its first file. */
function mountOf(world: World, mount: string | undefined): { readonly superBlock?: SuperBlock } {
  if (mount === undefined) return {};
  const known = world.mounts.get(mount) ?? new SuperBlock(world.sim, mount);
  world.mounts.set(mount, known);
  return { superBlock: known };
}

/** The pages that the objects hold before any process maps them. Runs as a thread of any process. */
export function* fillObjects(world: World): Steps<void> {
  for (const object of world.memory.values()) {
    const { inode, spec } = object;
    if (inode === null) continue;
    const pages = inode.sizePages.peek();
    const token = contentOf(world, spec.content);
    if (inode.kind === 'file') {
      // A file that was written and synced a moment ago: its pages are cached and clean.
      for (let index = 0; index < pages; index++) {
        if (inode.pages.peek(index) === 0) yield* call(mmapReadahead(world.core, inode, index, true));
      }
    } else if (inode.kind === 'shmem' && token !== ZERO_TOKEN) {
      for (let index = 0; index < pages; index++) yield* call(fillShmem(world.core, inode, index, token));
    } else if (heldFromStart(object) && inode.kind === 'hugetlb' && token !== ZERO_TOKEN) {
      yield* call(fillHugetlb(world, object.name, inode, token));
    }
    const seals = 'sealed' in spec ? (spec.sealed ?? []) : [];
    if (seals.length > 0) {
      yield inode.seals.willWrite(SEAL);
      inode.seals.value = seals;
    }
  }
}

function* fillShmem(core: CoreMm, inode: Inode, index: number, token: number): Steps<void> {
  const got = yield* call(shmemGetFolio(core, inode, index, true, true));
  if (typeof got === 'string') return;
  yield core.frames.content.willWrite(got.head, FILL);
  core.frames.content.set(got.head, token);
  yield* call(unlockFolio(core, got.head));
  yield* call(folioPut(core, got.head, 1, 'set-up'));
}

/** Does the object itself hold its content? Other pages get it when a process maps them. */
function heldFromStart({ inode, pfnMapping, spec }: MemoryObject): boolean {
  if (inode?.kind === 'hugetlb') return spec.kind === 'hugetlb' && spec.memfd === true;
  return pfnMapping !== null || (inode !== null && inode.kind !== 'secret');
}

/** The pages of a memfd that somebody wrote before the story begins. */
function* fillHugetlb(world: World, name: string, inode: Inode, token: number): Steps<void> {
  const { core } = world;
  const pages = inode.sizePages.peek();
  if ((yield* call(hugetlbfsFallocate(core, inode, 0, pages))) !== 'ok') {
    const where = world.scenario.memory.find((memory) => memory.name === name)!.where;
    const message = `the pool of huge pages cannot hold the content of \`${name}\``;
    throw new ScenarioError([{ where, message, hint: 'more pages in `hugepages` of the host' }]);
  }
  const huge = 2 ** inode.hugeOrder;
  for (let index = 0; index < pages; index += huge) {
    const head = inode.pages.peek(index) - 1;
    yield core.frames.content.willUpdateRange(head, head + huge - 1, FILL);
    core.frames.content.fill(head, head + huge - 1, token);
  }
}

/** Map, advise and fill everything that a process has from the start. Runs as a thread of it. */
export function* setUpProcess(world: World, process: Process): Steps<void> {
  for (const mapping of process.maps) {
    if (world.memory.get(mapping.memory)!.spec.kind !== 'bar') yield* call(setUpMapping(world, process, mapping));
  }
}

function* setUpMapping(world: World, process: Process, mapping: Mapping): Steps<void> {
  const { core } = world;
  const object = world.memory.get(mapping.memory)!;
  const pages = toPages(mapping.length);
  const pgoff = Number(mapping.offset / PAGE);
  const file = fileOf(world, process, mapping, object);
  const backed = file !== null || object.pfnMapping !== null;
  // A page that is written before its protection is lowered: the kind's content, or populate by writing.
  const token = object.spec.content === undefined ? undefined : contentOf(world, object.spec.content);
  const writes =
    (token !== undefined && !(file === object.inode && heldFromStart(object))) || mapping.populate === 'write';
  const { prot } = mapping;
  const lowered = writes && !prot.write;
  const result = yield* call(
    mmap(core, {
      name: mapping.memory,
      pages,
      ...(mapping.at === undefined ? {} : { at: Number(mapping.at / PAGE), fixed: true }),
      read: prot.read || lowered,
      write: prot.write || lowered,
      exec: prot.exec,
      shared: mapping.shared,
      ...(file === null ? {} : { file }),
      ...(object.pfnMapping === null ? {} : { pfnMapping: object.pfnMapping }),
      ...vmFileOf(object, mapping.shared),
      ...(backed || object.spec.kind === 'dev-zero' ? { pgoff } : {}),
      readOnlyFd: readOnlyFd(world, process.name, object),
      noReserve: mapping.noreserve,
      ...policyOf(object),
    }),
  );
  if ('errno' in result) {
    const message = `mmap of \`${mapping.memory}\` by \`${process.name}\` fails with ${result.errno}`;
    const pool = file?.kind === 'hugetlb' && result.errno === 'ENOMEM';
    fail(mapping, message, pool ? 'more pages in `hugepages` of the host, or `noreserve: true`' : undefined);
  }
  const { vpn } = result as { vpn: number };
  world.addPlace(process.name, mapping, { mapping: mapping.name, memory: object, vpn, pages, pgoff });
  const fill = writes ? (token ?? contentOf(world, process.name)) : undefined;
  yield* call(finishMapping(world, mapping, vpn, fill, lowered));
}

/**
 * What a mapping has from the start beside its place: advice, lock, pages (written when `token` says with what), the
 * protection that it was not mapped with, userfaultfd.
 */
export function* finishMapping(
  world: World,
  mapping: Mapping,
  vpn: number,
  token: number | undefined,
  lowered: boolean,
): Steps<void> {
  const { core } = world;
  const pages = toPages(mapping.length);
  for (const advice of mapping.advice) {
    if (advice === 'DONTDUMP') continue;
    const errno = yield* call(madvise(core, vpn, pages, advice as Advice));
    if (errno !== 'ok') fail(mapping, `madvise(MADV_${advice}) of \`${mapping.name}\` fails with ${errno}`);
  }
  if (mapping.locked) {
    const errno = yield* call(mlock(core, vpn, pages));
    if (errno !== 'ok') fail(mapping, `mlock of \`${mapping.name}\` fails with ${errno}`);
  }
  yield* call(populate(world, mapping, vpn, pages, token));
  if (lowered) yield* call(mprotect(core, vpn, pages, mapping.prot));
  if (mapping.uffd.length > 0) yield* call(registerUffd(world, vpn, mapping));
}

/** The policy of memory without a file goes with its mapping; a file has its own. */
export function policyOf({ spec, inode }: MemoryObject): Pick<MmapRequest, 'bindNode'> {
  return spec.node === undefined || inode !== null ? {} : { bindNode: spec.node };
}

/** Is the descriptor through which the process reaches the object open for reading only? */
export function readOnlyFd(world: World, process: string, { name, spec }: MemoryObject): boolean {
  const own = world.scenario.processes.find((one) => one.name === process)?.spec.fds ?? {};
  const fds = Object.values(own).filter(({ memory }) => memory.name === name);
  if (fds.length > 0) return fds.every(({ readonly }) => readonly === true);
  return 'readonly_fd' in spec && spec.readonly_fd === true;
}

/** The vm_file of a mapping whose pages come from elsewhere: /dev/zero mapped private, SysV shared memory, drivers. */
export function vmFileOf({ spec }: MemoryObject, shared: boolean): Pick<MmapRequest, 'vmFile'> {
  if (spec.kind === 'driver' || spec.kind === 'dmabuf') return { vmFile: 'device' };
  if (spec.kind === 'dev-zero' && !shared) return { vmFile: 'dev-zero' };
  return spec.kind === 'sysv' ? { vmFile: 'sysv' } : {};
}

/** The file to map; private hugetlb and shared anonymous mappings get one of their own per mapping. */
function fileOf(world: World, process: Process, mapping: Mapping, object: MemoryObject): Inode | null {
  if (object.inode !== null) return object.inode;
  const { spec } = object;
  if (mapping.shared && (spec.kind === 'anon' || spec.kind === 'dev-zero')) {
    const name = `${process.name}:${mapping.name}`;
    const bound = spec.node === undefined ? {} : { bindNode: spec.node };
    return world.core.addInode(new Inode(world.sim, { kind: 'shmem', name, sizePages: toPages(spec.size), ...bound }));
  }
  return null;
}

function* populate(world: World, mapping: Mapping, vpn: number, pages: number, token: number | undefined): Steps<void> {
  const { core } = world;
  if (mapping.populate === 'none' && token === undefined) return;
  if (mapping.populate === 'map' && token === undefined) {
    yield* call(mmPopulate(core, core.current.task.mm.peek()!, vpn, vpn + pages));
    return;
  }
  for (let i = 0; i < pages; i++) {
    const access = yield* call(cpuAccess(core, vpn + i, token === undefined ? null : { token }));
    if ('signal' in access) fail(mapping, `touching page ${i} of \`${mapping.name}\` raises ${access.signal}`);
  }
}

function* registerUffd(world: World, vpn: number, mapping: Mapping): Steps<void> {
  const { core } = world;
  const context = `uffd of ${core.current.task.name}`;
  const registration = uffdModes(mapping.uffd as readonly UffdMode[], contentOf(world, UFFD_FILL), context);
  const mm = core.current.task.mm.peek()!;
  const errno = yield* call(userfaultfdRegister(core, mm, vpn, vpn + toPages(mapping.length), registration));
  if (errno !== 'ok') fail(mapping, `UFFDIO_REGISTER of \`${mapping.name}\` fails with ${errno}`);
}

function fail(mapping: Mapping, message: string, hint = 'the world cannot be built as described'): never {
  throw new ScenarioError([{ where: mapping.where, message, hint }]);
}
