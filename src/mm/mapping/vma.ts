// vm_area_struct as immutable values in a table ordered by start: changing a VMA replaces it. Addresses in pages (vpn).
import { hashText, mix } from '../../engine/hash.ts';
import type { Inode } from '../file/inode.ts';
import type { ResvMap } from '../hugetlb/resv-map.ts';
import type { AnonVma } from '../rmap/anon-vma.ts';

/** Device memory mapped by a driver: raw frames, no counted struct page (vfio-pci BAR, vvar). */
export interface PfnMapping {
  readonly name: string;
  /** Frame behind page `offset` of the mapping; undefined while a fault there would be SIGBUS. */
  frameAt(offset: number): number | undefined;
  readonly writable: boolean;
  /** Inserted at mmap (remap_pfn_range) rather than on fault (vmf_insert_pfn). */
  readonly eager: boolean;
  /** What one fault inserts: the page (default), every page of the VMA, or the largest leaf that fits. */
  readonly inserts?: 'page' | 'area' | 'leaf';
  /** Of install_special_mapping (vvar). */
  readonly special?: boolean;
}

/** userfaultfd registration of a VMA. */
export interface UffdRegistration {
  /** VM_UFFD_MISSING, VM_UFFD_WP, VM_UFFD_MINOR. */
  readonly modes: number;
  /** The userfaultfd registered with, by name. */
  readonly context: string;
  /** Content with which faults are answered at once, or null: they wait for somebody to do it. */
  readonly fill: number | null;
}

export const UFFD_MISSING = 1;
export const UFFD_WP = 2;
export const UFFD_MINOR = 4;

export const UFFD_MODES = { missing: UFFD_MISSING, wp: UFFD_WP, minor: UFFD_MINOR } as const;
export type UffdMode = keyof typeof UFFD_MODES;

/** A registration in these modes. */
export function uffdModes(modes: readonly UffdMode[], fill: number | null, context = 'uffd'): UffdRegistration {
  return { modes: modes.reduce((set, mode) => set | UFFD_MODES[mode], 0), context, fill };
}

export interface VmaFields {
  /** First page and one past the last. */
  readonly start: number;
  readonly end: number;
  readonly read: boolean;
  readonly write: boolean;
  readonly exec: boolean;
  /** VM_MAYREAD / VM_MAYWRITE: what mprotect may grant. */
  readonly mayRead: boolean;
  readonly mayWrite: boolean;
  /** VM_SHARED */
  readonly shared: boolean;
  readonly file: Inode | null;
  /**
   * A vm_file that is not where the pages come from: /dev/zero mapped private (the memory is anonymous), the file that
   * SysV puts around its shmem file, or that of a driver. Only looks at vm_file and vm_ops see it.
   */
  readonly vmFile: 'dev-zero' | 'sysv' | 'device' | null;
  /** vm_pgoff: page offset in the file; for anon the linear index (initially the start page). */
  readonly pgoff: number;
  readonly anonVma: AnonVma | null;
  /** VM_PFNMAP (and VM_IO) with its frames. */
  readonly pfnMapping: PfnMapping | null;
  /** VM_IO without VM_PFNMAP. */
  readonly io: boolean;
  /** VM_LOCKED */
  readonly locked: boolean;
  /** MLOCK_ONFAULT */
  readonly lockOnFault: boolean;
  readonly dontFork: boolean;
  readonly wipeOnFork: boolean;
  readonly mergeable: boolean;
  /** VM_HUGEPAGE / VM_NOHUGEPAGE */
  readonly hugepage: 'always' | 'never' | null;
  readonly uffd: UffdRegistration | null;
  /** VM_NORESERVE: nothing was promised to it. */
  readonly noReserve: boolean;
  /** vm_private_data with HPAGE_RESV_OWNER: what a private hugetlb mapping was promised and has used; lost by fork. */
  readonly reservation: ResvMap | null;
  /** vm_policy: MPOL_BIND to this one node; null: the node of the CPU, and then the others. */
  readonly bindNode: number | null;
  /** vma_soft_dirty_enabled: VM_SOFTDIRTY was cleared by clear_refs, so that the first write to each page is to be seen. */
  readonly softDirtyEnabled: boolean;
  /** Name people know: the memory object. */
  readonly name: string;
}

const DEFAULTS: Omit<VmaFields, 'start' | 'end' | 'name'> = {
  read: true,
  write: true,
  exec: false,
  mayRead: true,
  mayWrite: true,
  shared: false,
  file: null,
  vmFile: null,
  pgoff: 0,
  anonVma: null,
  pfnMapping: null,
  io: false,
  locked: false,
  lockOnFault: false,
  dontFork: false,
  wipeOnFork: false,
  mergeable: false,
  hugepage: null,
  uffd: null,
  noReserve: false,
  reservation: null,
  bindNode: null,
  softDirtyEnabled: false,
};

export class Vma {
  readonly fields: VmaFields;
  readonly identity: number;

  constructor(fields: Partial<VmaFields> & Pick<VmaFields, 'start' | 'end' | 'name'>) {
    this.fields = { ...DEFAULTS, ...fields };
    this.identity = hashFields(this.fields);
  }

  with(changes: Partial<VmaFields>): Vma {
    return new Vma({ ...this.fields, ...changes });
  }

  get start(): number {
    return this.fields.start;
  }

  get end(): number {
    return this.fields.end;
  }

  get pages(): number {
    return this.fields.end - this.fields.start;
  }

  contains(vpn: number): boolean {
    return vpn >= this.fields.start && vpn < this.fields.end;
  }

  /** vma_is_anonymous: no vm_ops. A private mapping of a file is not. */
  get anonymous(): boolean {
    return this.fields.file === null && this.fields.pfnMapping === null;
  }

  /** is_cow_mapping: VM_MAYWRITE and not VM_SHARED. */
  get cow(): boolean {
    return this.fields.mayWrite && !this.fields.shared;
  }

  /** VM_MAYSHARE: also a shared mapping through a descriptor for reading only, which loses VM_SHARED and VM_MAYWRITE. */
  get mayShare(): boolean {
    return this.fields.shared || (this.fields.file !== null && !this.fields.mayWrite);
  }

  get hugetlb(): boolean {
    return this.fields.file?.kind === 'hugetlb';
  }

  /** install_special_mapping: [vdso] and [vvar] */
  get special(): boolean {
    return this.fields.file?.kind === 'special' || this.fields.pfnMapping?.special === true;
  }

  /** VM_DONTEXPAND or VM_PFNMAP */
  get dontExpand(): boolean {
    return this.fields.pfnMapping !== null || this.hugetlb || this.special;
  }

  /** Registered with a userfaultfd in this mode (UFFD_MISSING, UFFD_WP, UFFD_MINOR)? */
  userfaults(mode: number): boolean {
    const { uffd } = this.fields;
    return uffd !== null && (uffd.modes & mode) !== 0;
  }

  /** linear_page_index of an address. */
  indexOf(vpn: number): number {
    return this.fields.pgoff + (vpn - this.fields.start);
  }

  /** The address at which page `index` of its mapping appears (vma_address), or undefined when outside. */
  addressOf(index: number): number | undefined {
    const vpn = this.fields.start + (index - this.fields.pgoff);
    return this.contains(vpn) ? vpn : undefined;
  }

  /** The part [from, to) of this VMA, with its offset moved along. */
  slice(from: number, to: number): Vma {
    return this.with({ start: from, end: to, pgoff: this.fields.pgoff + (from - this.fields.start) });
  }
}

function hashFields(f: VmaFields): number {
  let h = mix(f.start | 0, f.end | 0);
  const bits = [
    f.read,
    f.write,
    f.shared,
    f.locked,
    f.dontFork,
    f.wipeOnFork,
    f.mergeable,
    f.mayWrite,
    f.mayRead,
    f.io,
    f.softDirtyEnabled,
    f.noReserve,
  ];
  h = mix(
    h,
    bits.reduce((sum, bit, i) => sum + (bit ? 1 << i : 0), 0),
  );
  h = mix(h, f.pgoff | 0);
  h = mix(h, f.file?.identity ?? 0);
  h = mix(h, f.anonVma?.identity ?? 0);
  return mix(
    h,
    hashText(
      `${f.vmFile}/${f.hugepage}/${f.uffd === null ? '' : `${f.uffd.context} ${f.uffd.modes} ${f.uffd.fill}`}/${f.name}${f.bindNode === null ? '' : `/node${f.bindNode}`}${f.reservation === null ? '' : `/${f.reservation.name}`}`,
    ),
  );
}
