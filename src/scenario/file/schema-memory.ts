// Memory objects and how they are mapped. A kind is what backs the pages; mapping options may stand on the object, as
// the default of all its mappings, or on one mapping.
import * as z from 'zod';
import { zRef } from './reference.ts';
import { zAddress, zContent, zCount, zProt, zSize } from './scalar.ts';

/** What may be said of an object (for all its mappings) and of one mapping. */
const MAP_OPTIONS = {
  prot: zProt.optional().describe('Accesses allowed: r, rw, rwx, none; default rw.'),
  shared: z.boolean().optional().describe('MAP_SHARED or MAP_PRIVATE; the default is that of the kind.'),
  populate: z
    .union([z.boolean(), z.enum(['read', 'write'])])
    .optional()
    .describe('Pages present from the start: true as MAP_POPULATE does, or by reading or by writing each page.'),
  advice: z
    .array(z.enum(['HUGEPAGE', 'NOHUGEPAGE', 'DONTFORK', 'MERGEABLE', 'WIPEONFORK', 'DONTDUMP']))
    .optional()
    .describe('madvise() given right after mmap().'),
  uffd: z
    .array(z.enum(['missing', 'wp', 'minor']))
    .optional()
    .describe('Registered with userfaultfd in these modes.'),
  locked: z.boolean().optional().describe('mlock()ed.'),
  noreserve: z.boolean().optional().describe('MAP_NORESERVE: huge pages are not reserved.'),
};

const COMMON = {
  size: zSize,
  content: zContent.optional().describe('What every page holds at first; default zero.'),
  node: zCount(0, 63).optional().describe('NUMA node that pages come from.'),
  ...MAP_OPTIONS,
};

const HUGE_PAGE_SIZE = z.enum(['2MiB', '1GiB']).optional().describe('Default 2MiB.');
const SEALS = z
  .array(z.enum(['write', 'future_write', 'shrink', 'grow', 'seal']))
  .optional()
  .describe('F_SEAL_*; write seals are put on after the content is written.');
const MOUNT = z
  .string()
  .regex(/^[a-z][a-z0-9_-]*$/i)
  .optional()
  .describe('The mounted filesystem it lies on, for fsfreeze and remount_ro; objects with the same one share it.');
const READONLY_FD = z.boolean().optional().describe('The descriptor was opened O_RDONLY.');
const OWNER = zCount(0, 0xffffffff)
  .optional()
  .describe('The uid that owns the file and alone may write it, apart from root; default: anybody may.');

const KIND_TYPES = [
  z.strictObject({ kind: z.literal('anon'), ...COMMON }).describe('Anonymous memory.'),
  z
    .strictObject({ kind: z.literal('shmem'), ...COMMON, sealed: SEALS, readonly_fd: READONLY_FD })
    .describe('A memfd: shmem pages behind a descriptor.'),
  z
    .strictObject({ kind: z.literal('hugetlb'), ...COMMON, page_size: HUGE_PAGE_SIZE, memfd: z.boolean().optional() })
    .describe('hugetlb pages, anonymous or behind a memfd.'),
  z
    .strictObject({
      kind: z.literal('file'),
      ...COMMON,
      fs: z.enum(['ext4', 'xfs', 'btrfs']).optional().describe('Default ext4.'),
      file_size: zSize.optional().describe('Length of the file when it is not `size` (mappings may go past its end).'),
      readonly_fd: READONLY_FD,
      owner: OWNER,
      mount: MOUNT,
    })
    .describe('A regular file whose file system tracks dirty pages.'),
  z
    .strictObject({
      kind: z.literal('tmpfs'),
      ...COMMON,
      file_size: zSize.optional(),
      readonly_fd: READONLY_FD,
      owner: OWNER,
    })
    .describe('A file on tmpfs.'),
  z
    .strictObject({
      kind: z.literal('fsdax'),
      ...COMMON,
      file_size: zSize.optional(),
      readonly_fd: READONLY_FD,
      mount: MOUNT,
    })
    .describe('A file on a DAX file system: pages are persistent memory.'),
  z
    .strictObject({ kind: z.literal('secret'), ...COMMON })
    .describe('memfd_secret() (since 5.14): no kernel mapping, no pins.'),
  z.strictObject({ kind: z.literal('sysv'), ...COMMON }).describe('A System V shared memory segment.'),
  z.strictObject({ kind: z.literal('dev-zero'), ...COMMON }).describe('/dev/zero.'),
  z
    .strictObject({
      kind: z.literal('bar'),
      ...COMMON,
      device: zRef('device'),
      index: zCount(0, 5).optional().describe('Which BAR; default 0.'),
    })
    .describe('A BAR of a device: VM_IO | VM_PFNMAP, no struct page.'),
  z.strictObject({ kind: z.literal('heap'), ...COMMON }).describe('The heap (brk).'),
  z.strictObject({ kind: z.literal('stack'), ...COMMON }).describe('The main stack.'),
  z.strictObject({ kind: z.literal('text'), ...COMMON }).describe('Program text: a private file mapping, r-x.'),
  z.strictObject({ kind: z.literal('vdso'), ...COMMON }).describe('[vdso]: special mapping of kernel pages.'),
  z.strictObject({ kind: z.literal('vvar'), ...COMMON }).describe('[vvar]: special PFN mapping.'),
  z
    .strictObject({ kind: z.literal('driver'), ...COMMON })
    .describe('Pages of a driver, mapped by remap_pfn_range: they have struct pages, but no count of their own.'),
  z
    .strictObject({
      kind: z.literal('guest_memfd'),
      ...COMMON,
      vm: zRef('vm'),
      mmap: z.boolean().optional().describe('Made with GUEST_MEMFD_FLAG_MMAP.'),
    })
    .describe('guest_memfd: private memory of a VM.'),
  z
    .strictObject({ kind: z.literal('dmabuf'), ...COMMON })
    .describe(
      'A dma-buf from the system heap: VM_IO | VM_PFNMAP over ordinary pages; CPU access works, GUP is EFAULT.',
    ),
] as const;

export const zMemory = z.discriminatedUnion('kind', KIND_TYPES).describe('A memory object.');
export type MemorySpec = z.output<typeof zMemory>;
export type MemoryKind = MemorySpec['kind'];

/** Every kind with its meaning, in the order in which `pinsim list memory-kinds` shows them. */
export const MEMORY_KINDS: readonly { readonly name: MemoryKind; readonly summary: string }[] = KIND_TYPES.map(
  (type) => ({
    name: [...type.shape.kind.values][0] as MemoryKind,
    summary: type.description ?? '',
  }),
);

/** How a process maps a memory object. */
export const zMap = z
  .strictObject({
    memory: zRef('memory').optional().describe('Which object; default: the one named like the mapping.'),
    at: zAddress.optional().describe('Address; default: the kernel chooses.'),
    offset: zAddress.optional().describe('First byte of the object that is mapped; default 0.'),
    length: zSize.optional().describe('Default: to the end of the object.'),
    ...MAP_OPTIONS,
  })
  .describe('A mapping of a memory object.');
export type MapSpec = z.output<typeof zMap>;
