// What IOMMU drivers do, as data: page sizes, geometry, reserved windows, and their answers to wrong or special use
// (drivers/iommu/{intel,amd,arm,s390}). Callers may rely on none of these answers.
import { IO_READ, IO_WRITE } from '../hw/io-entry.ts';
import type { Errno } from '../mm/errno.ts';

export type DriverName = 'vtd' | 'amd' | 'smmu' | 's390' | 'generic';

export type ReservedKind = 'msi' | 'sw-msi' | 'reserved' | 'direct' | 'direct-relaxable';

/** A window of IOVAs that is not the user's [pages]. */
export interface ReservedRegion {
  readonly kind: ReservedKind;
  readonly firstPage: number;
  readonly pages: number;
}

export interface IommuDriver {
  readonly name: DriverName;
  /** Leaf sizes as powers of two of 4 KiB, ascending. */
  readonly orders: readonly number[];
  /** domain->pgsize_bitmap, in bytes. */
  readonly pgsizeBitmap: bigint;
  /** First IOVA page past the aperture for an IOMMU with that many address bits. */
  readonly aperturePages: (addressBits: number) => number;
  /** Reserved windows of every device behind it. */
  readonly reserved: readonly ReservedRegion[];
  /** IOMMU_READ/WRITE as the entry will hold it; or the errno of a combination that is refused. */
  readonly protection: (prot: number) => number | Errno;
  /** Errno of a map beyond the address width. */
  readonly beyondWidth: Errno;
  /** Map where a leaf lives: the old entry stays and 0 is returned, it is overwritten, or the errno. */
  readonly overLeaf: 'keep-old' | 'overwrite' | Errno;
  /** Map a small page below a live large leaf. */
  readonly belowLargeLeaf: 'walks-data' | 'replaces-leaf' | Errno;
  /** Map a large page where a table hangs. `if-empty`: else EADDRINUSE. */
  readonly overTable: 'frees-table' | 'if-empty';
  /** WARN when mapping over something live. */
  readonly warns: boolean;
  /**
   * Unmap of nothing. `span`: counts as done, and where a table is missing the size grows to the span of the missing
   * entry; `page`: absent leaves count, a missing table ends it; `counts`: always done; `refuses`: WARN and 0; `stops`: 0.
   */
  readonly hole: 'span' | 'page' | 'counts' | 'refuses' | 'stops';
  /** Unmap of a part of a large leaf that begins at its start, or anywhere else. */
  readonly leafHead: 'whole' | 'split';
  readonly leafMiddle: 'walks-data' | 'whole' | 'split' | 'refuses';
  /** A table that an unmap covers whole goes with one write; without it, entries are cleared and tables stay. */
  readonly dropsTables: boolean;
  /**
   * How an unmap reports to the gather: `call` (the size of the call counts as page size), `range` (ranges merge
   * whatever lies between), `page` (each leaf size).
   */
  readonly gather: 'call' | 'range' | 'page';
  /** Invalidations cover the next power of two, aligned. */
  readonly flushesPowerOfTwo: boolean;
  /** The device must be told of new entries (caching mode, shadow tables): a step of its own after map. */
  readonly syncsMap: boolean;
  /** enforce_cache_coherency: can no-snoop DMA be blocked? `unit`: where the IOMMU has snoop control. */
  readonly blocksNoSnoop: 'always' | 'never' | 'unit';
  /** enable_nesting: the domain can be made one of the second stage, for containers of the NESTING type. */
  readonly nests: boolean;
}

const READ_WRITE = IO_READ | IO_WRITE;
const page = (bytes: number) => bytes / 4096;
const msi: ReservedRegion = { kind: 'msi', firstPage: page(0xfee00000), pages: 0x100 };
const widthPages = (bits: number) => 2 ** (bits - 12);

/** VT-d second stage: bit 0 of a leaf is READ and `present` alike, so that WRITE alone is readable. */
const VTD: IommuDriver = {
  name: 'vtd',
  orders: [0, 9, 18],
  pgsizeBitmap: 0x40201000n,
  aperturePages: widthPages,
  reserved: [msi],
  protection: (prot) => ((prot & READ_WRITE) === 0 ? 'EINVAL' : prot | IO_READ),
  beyondWidth: 'EFAULT',
  overLeaf: 'keep-old',
  belowLargeLeaf: 'walks-data',
  overTable: 'frees-table',
  warns: true,
  hole: 'span',
  leafHead: 'whole',
  leafMiddle: 'walks-data',
  dropsTables: true,
  gather: 'call',
  flushesPowerOfTwo: true,
  syncsMap: false,
  blocksNoSnoop: 'unit',
  nests: false,
};

const AMD: IommuDriver = {
  name: 'amd',
  // Every power of two from 4 KiB; the largest that a machine of this model can fill is below 2^35 pages.
  orders: Array.from({ length: 36 }, (_, order) => order).filter((order) => order !== 27),
  pgsizeBitmap: 0xfffffffffffff000n & ~(1n << 39n),
  aperturePages: () => 2 ** 52,
  reserved: [msi, { kind: 'reserved', firstPage: page(0xfd00000000), pages: page(0x300000000) }],
  protection: (prot) => ((prot & READ_WRITE) === 0 ? 'EINVAL' : prot & READ_WRITE),
  beyondWidth: 'ENOMEM',
  overLeaf: 'overwrite',
  belowLargeLeaf: 'replaces-leaf',
  overTable: 'frees-table',
  warns: false,
  hole: 'page',
  leafHead: 'whole',
  leafMiddle: 'whole',
  dropsTables: false,
  gather: 'range',
  flushesPowerOfTwo: true,
  syncsMap: false,
  blocksNoSnoop: 'always',
  nests: false,
};

/** SMMUv3 stage 1 with 4 KiB granule: entries are read-only or read-write, so that WRITE alone is readable. */
const SMMU: IommuDriver = {
  name: 'smmu',
  orders: [0, 9, 18],
  pgsizeBitmap: 0x40201000n,
  aperturePages: widthPages,
  reserved: [{ kind: 'sw-msi', firstPage: page(0x8000000), pages: 0x100 }],
  protection: (prot) => ((prot & READ_WRITE) === 0 ? 'EINVAL' : prot | IO_READ),
  beyondWidth: 'ERANGE',
  overLeaf: 'EEXIST',
  belowLargeLeaf: 'EEXIST',
  overTable: 'frees-table',
  warns: true,
  hole: 'refuses',
  leafHead: 'split',
  leafMiddle: 'split',
  dropsTables: true,
  gather: 'page',
  flushesPowerOfTwo: false,
  syncsMap: false,
  blocksNoSnoop: 'never',
  nests: true,
};

/** s390 has a protection bit only: everything mapped is readable. Shadow tables want a refresh after map. */
const S390: IommuDriver = {
  name: 's390',
  orders: [0],
  pgsizeBitmap: 0x1000n,
  aperturePages: () => 2 ** 30,
  reserved: [],
  protection: (prot) => prot | IO_READ,
  beyondWidth: 'EINVAL',
  overLeaf: 'overwrite',
  belowLargeLeaf: 'EINVAL',
  overTable: 'frees-table',
  warns: true,
  hole: 'counts',
  leafHead: 'whole',
  leafMiddle: 'whole',
  dropsTables: false,
  gather: 'range',
  flushesPowerOfTwo: false,
  syncsMap: true,
  blocksNoSnoop: 'never',
  nests: false,
};

/** generic_pt (6.19 on): one implementation for AMD and VT-d that refuses to map over anything live. */
const GENERIC: IommuDriver = {
  ...VTD,
  name: 'generic',
  overLeaf: 'EADDRINUSE',
  belowLargeLeaf: 'EADDRINUSE',
  overTable: 'if-empty',
  beyondWidth: 'ERANGE',
  hole: 'stops',
  leafMiddle: 'refuses',
  gather: 'range',
};

const DRIVERS: Readonly<Record<DriverName, IommuDriver>> = {
  vtd: VTD,
  amd: AMD,
  smmu: SMMU,
  s390: S390,
  generic: GENERIC,
};

/** The driver of a machine that does not say which IOMMU it has. */
export function usualDriver(arch: string | undefined): DriverName {
  return arch === 's390x' ? 's390' : 'vtd';
}

/** A driver; `pageSizes`: of an IOMMU that has only these of its entry sizes [bytes]. */
export function iommuDriver(name: DriverName, pageSizes?: readonly bigint[]): IommuDriver {
  const driver = DRIVERS[name];
  if (pageSizes === undefined) return driver;
  const pgsizeBitmap = pageSizes.reduce((bits, size) => bits | size, 0n) & driver.pgsizeBitmap;
  const orders = driver.orders.filter((order) => (pgsizeBitmap & (4096n << BigInt(order))) !== 0n);
  return { ...driver, orders, pgsizeBitmap };
}
