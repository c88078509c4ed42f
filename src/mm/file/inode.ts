// Memory objects: an inode with its page cache (address_space). Processes, VMs and devices share them.
import { Cell } from '../../engine/cell.ts';
import { Column } from '../../engine/column.ts';
import { hashText, mix } from '../../engine/hash.ts';
import { RwSem } from '../../engine/rwsem.ts';
import type { Sim } from '../../engine/sim.ts';
import type { Errno } from '../errno.ts';
import { ResvMap } from '../hugetlb/resv-map.ts';
import type { Mm } from '../mm.ts';
import type { SuperBlock } from './super-block.ts';

/**
 * What backs the pages. `file` is a filesystem with dirty tracking (ext4, xfs, btrfs); `shmem` covers memfd, tmpfs,
 * SysV, shared /dev/zero and shared anonymous memory; `secret` is memfd_secret; `special` are pages of the kernel's own
 * that a process maps (vdso); `guest_memfd` is memory of a VM that no process maps.
 */
export type InodeKind = 'shmem' | 'hugetlb' | 'file' | 'secret' | 'fsdax' | 'special' | 'guest_memfd';

/** F_SEAL_*; `seal` refuses further ones. */
export type Seal = 'write' | 'future_write' | 'shrink' | 'grow' | 'seal';

export interface InodeOptions {
  readonly kind: InodeKind;
  readonly name: string;
  /** i_size in pages of 4 KiB. */
  readonly sizePages: number;
  /** Filesystem of a `file`. */
  readonly fs?: 'ext4' | 'xfs' | 'btrfs';
  /** Seals of a memfd from the start. */
  readonly seals?: readonly Seal[];
  /** Order of hugetlb pages (9 or 18), or of THP for shmem with huge=. */
  readonly hugeOrder?: number;
  /** Device behind a file needs stable pages under writeback (checksums). */
  readonly stablePages?: boolean;
  /** The mounted filesystem it belongs to; absent: one that is never frozen or remounted. */
  readonly superBlock?: SuperBlock;
  /** MPOL_BIND of a file in memory to this node (shared policy); absent: that of the task. */
  readonly bindNode?: number;
  /** i_uid of a file that only its owner may write; absent: one that anybody may. */
  readonly ownerUid?: number;
  /** It has a name in a directory, which `unlink` takes away; default: no. */
  readonly linked?: boolean;
}

/** Rows a page cache can address (16 TiB of 4 KiB pages). */
const INDEX_ROWS = 2 ** 32;

export class Inode {
  readonly sim: Sim;
  readonly kind: InodeKind;
  readonly name: string;
  readonly fs: string | null;
  readonly id: number;
  readonly identity: number;
  readonly hugeOrder: number;
  readonly stablePages: boolean;
  readonly superBlock: SuperBlock | null;
  /** Where pages of shmem and hugetlb have to come from, as Gfp has it. */
  readonly policy: { readonly node?: number };
  /** The only uid that may write it, apart from root; null: anybody may. */
  readonly ownerUid: number | null;
  /** i_size [pages] */
  readonly sizePages: Cell<number>;
  readonly seals: Cell<readonly Seal[]>;
  /** Page cache: index -> head pfn + 1; negative: -(swap slot + 1) of shmem; 0: absent. Large folios fill every index. */
  readonly pages: Column;
  /** What is on disk: content token per page. Only `file` and `fsdax`. */
  readonly disk: Column;
  /** Blocks allocated for a page (page_mkwrite, fallocate). */
  readonly allocated: Column;
  /** inode_resv_map of hugetlb: the huge pages that are promised to shared mappings, or in the page cache. */
  readonly reservations: ResvMap | null;
  /** i_rwsem: write, truncate, fallocate. */
  readonly rwsem: RwSem;
  /** mapping->invalidate_lock: faults take it shared, truncation exclusive. */
  readonly invalidateLock: RwSem;
  /** i_mmap_rwsem: the tree of VMAs that map it. */
  readonly iMmapLock: RwSem;
  /** The mms with VMAs of this inode. */
  readonly mms: Cell<readonly Mm[]>;
  /** I_DIRTY_PAGES: on the list of inodes that a flusher will look at. */
  readonly dirty: Cell<boolean>;
  /** i_dio_count: direct IO under way, which truncation waits for. */
  readonly dioCount: Cell<number>;
  /** i_nlink is not 0: it stays when nobody uses it. */
  readonly linked: Cell<boolean>;
  /** A descriptor is open. What a scenario declares or maps has one from the start, shared by all, until it is closed. */
  readonly opened: Cell<boolean>;
  /** wb_err: a write that failed and that no fsync has told of yet. */
  readonly writeError: Cell<Errno | null>;

  constructor(sim: Sim, options: InodeOptions) {
    this.sim = sim;
    this.kind = options.kind;
    this.name = options.name;
    this.fs = options.fs ?? null;
    this.hugeOrder = options.hugeOrder ?? 0;
    this.stablePages = options.stablePages ?? false;
    this.superBlock = options.superBlock ?? null;
    this.ownerUid = options.ownerUid ?? null;
    this.policy = options.bindNode === undefined ? {} : { node: options.bindNode };
    this.identity = mix(hashText(options.name), 0x696e6f64);
    this.id = (this.identity & 0x7ffffffe) + 1;
    this.sizePages = new Cell(sim, `i_size of ${this.name}`, options.sizePages);
    this.seals = new Cell<readonly Seal[]>(sim, `seals of ${this.name}`, options.seals ?? []);
    const rows = (what: string) => ({
      rows: INDEX_ROWS,
      sparse: true,
      rowName: (index: number) => `page ${index} of ${what} ${this.name}`,
    });
    this.pages = new Column(sim, `${this.name}.pages`, rows('page cache of'));
    this.disk = new Column(sim, `${this.name}.disk`, { ...rows('disk blocks of'), width: 'f64' });
    this.allocated = new Column(sim, `${this.name}.allocated`, { ...rows('block map of'), width: 'u8' });
    this.reservations = options.kind === 'hugetlb' ? new ResvMap(sim, `reservations of ${this.name}`) : null;
    this.rwsem = new RwSem(sim, `i_rwsem of ${this.name}`);
    this.invalidateLock = new RwSem(sim, `invalidate_lock of ${this.name}`);
    this.iMmapLock = new RwSem(sim, `i_mmap_rwsem of ${this.name}`);
    this.mms = new Cell<readonly Mm[]>(sim, `i_mmap of ${this.name}`, []);
    this.dirty = new Cell(sim, `I_DIRTY_PAGES of ${this.name}`, false);
    this.dioCount = new Cell(sim, `i_dio_count of ${this.name}`, 0);
    this.linked = new Cell(sim, `i_nlink of ${this.name}`, options.linked ?? false);
    this.opened = new Cell(sim, `descriptor of ${this.name}`, true);
    this.writeError = new Cell<Errno | null>(sim, `wb_err of ${this.name}`, null);
  }

  /** Has it one of these seals? In a step that announced reading `seals`. */
  sealed(...seals: readonly Seal[]): boolean {
    return this.seals.value.some((seal) => seals.includes(seal));
  }

  /** mapping_can_writeback / vm_ops->page_mkwrite: does the filesystem track dirty pages? */
  get dirtyTracking(): boolean {
    return this.kind === 'file' || this.kind === 'fsdax';
  }

  /** mapping_unevictable: reclaim leaves the pages alone, and nothing can move them. */
  get unevictable(): boolean {
    return this.kind === 'secret' || this.kind === 'guest_memfd';
  }

  /** shmem: pages are swap-backed and dirty is no filesystem's business. */
  get swapBacked(): boolean {
    return this.kind === 'shmem';
  }
}
