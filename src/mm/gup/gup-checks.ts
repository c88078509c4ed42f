// check_vma_flags (mm/gup.c): which VMAs GUP-slow refuses, in the kernel's order, each refusal with its reason and what
// would pass. Protection keys and shadow stacks are not modelled.
import type { CoreMm } from '../core.ts';
import type { Refusal } from '../ledger.ts';
import type { Vma } from '../mapping/vma.ts';
import { hex } from '../page-table.ts';
import { type GupFlags, refuse } from './gup-flags.ts';

/** Errors: EFAULT, EOPNOTSUPP; null: the VMA may be walked. */
export function checkVmaFlags(core: CoreMm, vma: Vma, flags: GupFlags): Refusal | null {
  const { kernel } = core;
  const { fields } = vma;
  const file = fields.file;
  if (fields.pfnMapping !== null || fields.io) {
    return refuse(
      'EFAULT',
      `check_vma_flags: ${where(vma)} is ${fields.pfnMapping !== null ? 'VM_PFNMAP' : 'VM_IO'}: its frames have no struct page to count`,
      'look the frames up with follow_pfnmap_start (follow_pte before 6.12) and track them with an mmu notifier, or map ordinary memory',
    );
  }
  if (flags.anon && !vma.anonymous) {
    return refuse('EFAULT', `check_vma_flags: FOLL_ANON, and ${where(vma)} is not anonymous`, 'anonymous memory');
  }
  if (flags.longterm && file?.kind === 'fsdax') {
    return refuse(
      'EOPNOTSUPP',
      `check_vma_flags: FOLL_LONGTERM, and ${where(vma)} maps the DAX file ${file.name}, whose blocks the filesystem must be able to move`,
      'device-dax instead of filesystem DAX, or a pin without FOLL_LONGTERM',
    );
  }
  if (flags.splitPmd && vma.hugetlb && kernel.has('gup.hugetlb-split-pmd-refused')) {
    return refuse('EOPNOTSUPP', `check_vma_flags: FOLL_SPLIT_PMD on hugetlb ${where(vma)}`, 'no FOLL_SPLIT_PMD');
  }
  if (file?.kind === 'secret' && kernel.has('gup.secretmem-refused')) {
    return refuse(
      'EFAULT',
      `check_vma_flags: ${where(vma)} is memfd_secret: its pages are not in the direct map`,
      'memfd_create instead of memfd_secret',
    );
  }
  return flags.write ? checkWrite(core, vma, flags) : checkRead(vma, flags);
}

function checkWrite(core: CoreMm, vma: Vma, flags: GupFlags): Refusal | null {
  const { fields } = vma;
  if (flags.grab === 'pin' && flags.longterm && needsDirtyTracking(vma)) {
    if (core.kernel.has('gup.slow.longterm-file-check')) {
      return refuse(
        'EFAULT',
        `writable_file_mapping_allowed: FOLL_WRITE|FOLL_LONGTERM, and ${where(vma)} maps the ${fields.file?.fs ?? fields.file?.kind} file ${fields.file?.name} MAP_SHARED and writable, whose filesystem must see every write`,
        'a read-only pin, MAP_PRIVATE, or memory of shmem (memfd, tmpfs) or hugetlbfs',
      );
    }
  }
  if (fields.write) return null;
  if (!flags.force) {
    return refuse(
      'EFAULT',
      `check_vma_flags: FOLL_WRITE, and ${where(vma)} has no VM_WRITE`,
      'mprotect(PROT_READ|PROT_WRITE), or a read-only request',
    );
  }
  if (vma.hugetlb && core.kernel.has('gup.force.hugetlb-write-refused')) {
    return refuse('EFAULT', `check_vma_flags: FOLL_FORCE|FOLL_WRITE on hugetlb ${where(vma)}`, 'a writable mapping');
  }
  if (!vma.cow) {
    return refuse(
      'EFAULT',
      `check_vma_flags: FOLL_FORCE|FOLL_WRITE on ${where(vma)}, which is no COW mapping`,
      'a private mapping that may become writable, or a writable one',
    );
  }
  return null;
}

function checkRead(vma: Vma, flags: GupFlags): Refusal | null {
  const { fields } = vma;
  if (fields.read) return null;
  if (!flags.force) {
    return refuse('EFAULT', `check_vma_flags: ${where(vma)} has no VM_READ`, 'mprotect(PROT_READ)');
  }
  if (fields.mayRead) return null;
  return refuse('EFAULT', `check_vma_flags: ${where(vma)} has no VM_MAYREAD`, 'a mapping of a readable file');
}

/** vma_needs_dirty_tracking: shared, writable, and the filesystem learns of the first write to each page. */
export function needsDirtyTracking(vma: Vma): boolean {
  const { file, shared, write } = vma.fields;
  return file?.dirtyTracking === true && shared && write;
}

/** No VMA at the address. */
export function noVma(vpn: number): Refusal {
  return refuse(
    'EFAULT',
    `gup_vma_lookup: nothing is mapped at ${hex(vpn)}`,
    'a range that lies in mappings altogether',
  );
}

function where(vma: Vma): string {
  return `'${vma.fields.name}' [${hex(vma.start)}, ${hex(vma.end)})`;
}
