// guest_memfd as an object (virt/kvm/guest_memfd.c struct kvm_gmem): memory that belongs to one VM and that no process
// maps, and which memslots have it bound. What is done with it: guest-memfd.ts.
import { Cell } from '../engine/cell.ts';
import { hashText, mix } from '../engine/hash.ts';
import type { Steps } from '../engine/process.ts';
import type { CoreMm } from '../mm/core.ts';
import { Inode } from '../mm/file/inode.ts';
import { OpenFile } from '../mm/process/task.ts';

/** Indexes [start, start + pages) of the file are behind guest frames of a memslot. Immutable. */
export class GmemBinding {
  readonly asId: number;
  readonly slot: number;
  readonly baseGfn: number;
  readonly start: number;
  readonly pages: number;
  readonly identity: number;

  constructor(fields: Omit<GmemBinding, 'identity' | 'meets' | 'gfnOf'>) {
    this.asId = fields.asId;
    this.slot = fields.slot;
    this.baseGfn = fields.baseGfn;
    this.start = fields.start;
    this.pages = fields.pages;
    this.identity = mix(mix(mix(fields.asId, fields.slot), fields.baseGfn | 0), mix(fields.start, fields.pages));
  }

  meets(from: number, end: number): boolean {
    return this.start < end && from < this.start + this.pages;
  }

  /** The guest frame of an index of the file. */
  gfnOf(index: number): number {
    return this.baseGfn + (index - this.start);
  }
}

export class GuestMemfd {
  readonly name: string;
  readonly identity: number;
  /** The VM that it was made for, which it keeps alive. */
  readonly vm: { readonly name: string };
  readonly inode: Inode;
  readonly file: OpenFile;
  /** gmem->bindings. Changes with the inode's invalidate_lock held for write. */
  readonly bindings: Cell<readonly GmemBinding[]>;

  constructor(
    core: CoreMm,
    fields: {
      readonly name: string;
      readonly vm: { readonly name: string };
      readonly sizePages: number;
      readonly release: (gmem: GuestMemfd) => Steps<void>;
    },
  ) {
    const { sim } = core;
    const { name, release } = fields;
    this.name = name;
    this.identity = mix(hashText(name), 0x676d656d);
    this.vm = fields.vm;
    this.inode = core.addInode(new Inode(sim, { kind: 'guest_memfd', name, sizePages: fields.sizePages }));
    this.bindings = new Cell<readonly GmemBinding[]>(sim, `bindings of ${name}`, []);
    const file = { name: `${name} file`, kind: 'guest_memfd', object: this, release: () => release(this) };
    this.file = new OpenFile(sim, file);
  }
}
