// One IOMMU as hardware: what it can translate, its fault records, and how it invalidates: at once, or by commands in
// a queue that it executes in order by itself.
import { Cell, Tally } from '../engine/cell.ts';
import { eventType } from '../engine/event.ts';
import { hashText, mix } from '../engine/hash.ts';
import type { Sim } from '../engine/sim.ts';
import type { FolioHeads } from './folio-heads.ts';
import type { Frames } from './frames.ts';
import type { IoPageTable } from './io-page-table.ts';
import { CommandQueue } from './iommu-queue.ts';
import { Iotlb } from './iotlb.ts';

/** An access that the IOMMU blocked. */
export interface IoFault {
  readonly unit: string;
  readonly device: string;
  /** IO virtual address [pages]. */
  readonly page: number;
  readonly write: boolean;
  readonly reason: 'not-present' | 'no-permission' | 'blocked';
}
export const IO_FAULT = eventType<IoFault>('io-fault');

/** A fault record as hardware keeps it. */
export class FaultRecord {
  readonly fault: IoFault;
  readonly identity: number;

  constructor(fault: IoFault) {
    this.fault = fault;
    this.identity = mix(hashText(`${fault.device}/${fault.reason}/${fault.write}`), fault.page | 0);
  }
}

export interface IommuUnitOptions {
  readonly name: string;
  /** Input address width: IOVAs of 2^bits bytes. */
  readonly addressBits?: number;
  /** Invalidations wait for translated accesses in flight (DMA draining). Default: yes. */
  readonly drains?: boolean;
  /** Invalidations go through a command queue that hardware works off by itself. Default: they act at once. */
  readonly queued?: boolean;
  /** Snoop control: it can make all DMA snoop the CPU caches. Default: no. */
  readonly snoopControl?: boolean;
  /** Fault records kept until software clears them; more are lost and only counted. */
  readonly faultRecords?: number;
}

/** What a device entry of the IOMMU points to: a page table with the tag of its cached translations. */
export class Translation {
  readonly name: string;
  readonly identity: number;
  readonly table: IoPageTable;
  readonly iotlb: Iotlb;
  /** Queue of the IOMMU that holds the tag; null: it is invalidated in one step. */
  readonly queue: CommandQueue | null;

  constructor(name: string, table: IoPageTable, iotlb: Iotlb, queue: CommandQueue | null) {
    this.name = name;
    this.identity = mix(hashText(name), 0x7472616e);
    this.table = table;
    this.iotlb = iotlb;
    this.queue = queue;
  }
}

export class IommuUnit {
  readonly sim: Sim;
  readonly name: string;
  readonly identity: number;
  readonly addressBits: number;
  readonly snoopControl: boolean;
  readonly queue: CommandQueue | null;
  readonly frames: Frames;
  readonly heads: FolioHeads;
  readonly faults: Cell<readonly FaultRecord[]>;
  /** Faults since the start, recorded or lost. */
  readonly faultCount: Tally;
  private readonly drains: boolean;
  private readonly faultRecords: number;

  constructor(sim: Sim, frames: Frames, heads: FolioHeads, options: IommuUnitOptions) {
    this.sim = sim;
    this.name = options.name;
    this.identity = mix(hashText(options.name), 0x756e6974);
    this.addressBits = options.addressBits ?? 48;
    this.snoopControl = options.snoopControl ?? false;
    this.queue = options.queued === true ? new CommandQueue(sim, options.name) : null;
    this.frames = frames;
    this.heads = heads;
    this.drains = options.drains ?? true;
    this.faultRecords = options.faultRecords ?? 8;
    this.faults = new Cell<readonly FaultRecord[]>(sim, `fault records of ${this.name}`, []);
    this.faultCount = new Tally(sim, `faults of ${this.name}`);
  }

  /** A tag of this IOMMU for the translations of `table`. */
  newTranslation(name: string, table: IoPageTable): Translation {
    const { sim, frames, heads, drains, queue } = this;
    const iotlb = new Iotlb(sim, `IOTLB of ${name} in ${this.name}`, frames, heads, drains);
    return new Translation(name, table, iotlb, queue);
  }

  /** Record a blocked access, in a step that announced `faults` and `faultCount`. */
  record(fault: IoFault): void {
    this.faultCount.add(1);
    const faults = this.faults.value;
    if (faults.length < this.faultRecords) this.faults.value = [...faults, new FaultRecord(fault)];
    if (this.sim.hears(IO_FAULT)) this.sim.emit(IO_FAULT, fault);
  }
}
