// A device that does DMA through an IOMMU, one transaction at a time: look up the IOTLB, or walk the page table and
// fill; then access memory. Between these the world goes on; the access may be late.
import { Cell } from '../engine/cell.ts';
import { hashText, mix } from '../engine/hash.ts';
import { call, type Steps } from '../engine/process.ts';
import type { Sim } from '../engine/sim.ts';
import { step } from '../engine/step.ts';
import { FRAME_ACCESS } from './frames.ts';
import { IO_READ, IO_WRITE, inWindows, sameGeneration } from './io-entry.ts';
import type { IoFault, IommuUnit, Translation } from './iommu-unit.ts';
import { type Iotlb, IotlbEntry, type TranslatingDevice } from './iotlb.ts';
import { ZERO_TOKEN } from './token.ts';

const LOOKUP = step('dma:iotlb-lookup', 'iotlb');
const WALK = step('dma:page-walk', 'iotlb');
const FILL = step('dma:iotlb-fill', 'iotlb');
const LATE = step('dma:in-flight', 'none');
const READ = step('dma:read', 'op');
const WRITE = step('dma:write', 'op');
const FAULT = step('dma:fault', 'op');

/** A transaction that has looked at a translation and has not reached memory. Immutable. */
class InFlight {
  readonly iotlb: Iotlb;
  readonly page: number;
  /** What its walk found and it has yet to cache; null: it hit the IOTLB. */
  readonly filling: IotlbEntry | null;
  /** Its walk was overtaken by an invalidation: what it read must not be cached. */
  readonly struck: boolean;
  readonly identity: number;

  constructor(iotlb: Iotlb, page: number, filling: IotlbEntry | null, struck = false) {
    this.iotlb = iotlb;
    this.page = page;
    this.filling = filling;
    this.struck = struck;
    this.identity = mix(mix(iotlb.identity, page | 0), mix(filling?.identity ?? 0, struck ? 1 : 0));
  }
}

export interface DmaDeviceOptions {
  readonly name: string;
  /** Time between translation and memory access [ns]; explored: any time. Undefined: they are one step. */
  readonly lateNs?: number;
}

/** What a transaction came to. A blocked read completes with zeroes, a blocked write changes nothing. */
export interface DmaResult {
  readonly token: number;
  readonly fault: IoFault['reason'] | null;
}

export class DmaDevice implements TranslatingDevice {
  readonly sim: Sim;
  readonly name: string;
  readonly identity: number;
  readonly unit: IommuUnit;
  readonly lateNs: number | undefined;
  /** The device entry: null blocks all DMA; 'identity' passes addresses through. */
  readonly entry: Cell<Translation | 'identity' | null>;
  readonly inFlight: Cell<InFlight | null>;
  /** PCI bus mastering: off, the device issues nothing. */
  readonly busMaster: Cell<boolean>;

  constructor(sim: Sim, unit: IommuUnit, options: DmaDeviceOptions) {
    this.sim = sim;
    this.name = options.name;
    this.identity = mix(hashText(options.name), 0x646d6164);
    this.unit = unit;
    this.lateNs = options.lateNs;
    this.entry = new Cell<Translation | 'identity' | null>(sim, `device entry of ${options.name}`, 'identity');
    this.inFlight = new Cell<InFlight | null>(sim, `DMA in flight of ${options.name}`, null);
    this.busMaster = new Cell(sim, `bus mastering of ${options.name}`, true);
  }

  /** Is a translated access to pages [from, to) of this tag under way? Looks without a step. */
  translating(iotlb: Iotlb, from: number, to: number): boolean {
    const now = this.inFlight.peek();
    return now !== null && now.iotlb === iotlb && now.page >= from && now.page < to;
  }

  /** What a walk under way has found in pages [from, to) and will cache. Looks without a step. */
  fillUnderWay(iotlb: Iotlb, from: number, to: number): IotlbEntry | null {
    return this.translating(iotlb, from, to) ? this.inFlight.peek()!.filling : null;
  }

  /** An invalidation overtook the walk, in a step that announced `inFlight`. */
  strikeFill(iotlb: Iotlb, from: number, to: number): void {
    if (!this.translating(iotlb, from, to)) return;
    const { page, filling } = this.inFlight.value!;
    this.inFlight.value = new InFlight(iotlb, page, filling, true);
  }
}

/** Read the content token of IO page `page`. */
export function* dmaRead(device: DmaDevice, page: number): Steps<DmaResult> {
  return yield* call(transaction(device, page, IO_READ, ZERO_TOKEN));
}

/** Write `token` to IO page `page`. */
export function* dmaWrite(device: DmaDevice, page: number, token: number): Steps<DmaResult> {
  return yield* call(transaction(device, page, IO_WRITE, token));
}

function* transaction(device: DmaDevice, page: number, prot: number, token: number): Steps<DmaResult> {
  const { sim } = device;
  // The device entry is read in the step of the look-up: announce the cache it names now, and look again in the act.
  const expected = device.entry.peek();
  device.entry.willRead(LOOKUP);
  device.inFlight.willUpdate(LOOKUP);
  if (expected !== null && expected !== 'identity') expected.iotlb.entries.willRead(LOOKUP);
  yield device.busMaster.willRead(LOOKUP);
  const through = device.entry.value;
  if (!device.busMaster.value) return { token: ZERO_TOKEN, fault: 'blocked' };
  if (through === 'identity') return yield* call(access(device, null, page, page, prot, token));
  if (through === null) return yield* call(fault(device, page, prot, 'blocked'));
  if (!inWindows(page)) return yield* call(fault(device, page, prot, 'not-present'));
  if (through !== expected) return yield* call(transaction(device, page, prot, token));
  const hit = through.iotlb.lookup(page, prot);
  if (hit !== undefined) {
    device.inFlight.value = new InFlight(through.iotlb, page, null);
    if (device.lateNs !== undefined) yield sim.sleep(device.lateNs, LATE);
    return yield* call(access(device, hit, page, hit.pfnOf(page), prot, token));
  }
  return yield* call(walkAndAccess(device, through, page, prot, token));
}

function* walkAndAccess(
  device: DmaDevice,
  through: Translation,
  page: number,
  prot: number,
  token: number,
): Steps<DmaResult> {
  const { sim } = device;
  const { table, iotlb } = through;
  device.inFlight.willWrite(WALK);
  yield table.willWalk(page, WALK);
  const leaf = table.walk(page);
  if (leaf === undefined) return yield* call(fault(device, page, prot, 'not-present'));
  if ((leaf.prot & prot) !== prot) return yield* call(fault(device, page, prot, 'no-permission'));
  // One entry remembers one generation: of a leaf whose frames differ, only this page is cached.
  const span = leaf.mixed ? { page, pages: 1, pfn: leaf.pfn + (page - leaf.page) } : leaf;
  const entry = new IotlbEntry({
    page: span.page,
    pages: span.pages,
    pfn: span.pfn,
    prot: leaf.prot,
    filledFor: page,
    generation: table.madeFor(leaf, page),
  });
  device.inFlight.value = new InFlight(iotlb, page, entry);
  const { crowded } = iotlb;
  if (device.lateNs !== undefined) {
    device.inFlight.willRead(FILL);
    yield iotlb.willFill(entry, crowded, FILL);
    if (device.inFlight.value?.struck !== true) iotlb.fill(entry, crowded);
    yield sim.sleep(device.lateNs, LATE);
    return yield* call(access(device, entry, page, entry.pfnOf(page), prot, token));
  }
  iotlb.willFill(entry, crowded, prot === IO_WRITE ? WRITE : READ);
  return yield* call(access(device, entry, page, entry.pfnOf(page), prot, token, { iotlb, crowded }));
}

/** The last step: reach memory, and cache the translation unless an invalidation overtook the walk. */
function* access(
  device: DmaDevice,
  entry: IotlbEntry | null,
  page: number,
  pfn: number,
  prot: number,
  token: number,
  fill?: { readonly iotlb: Iotlb; readonly crowded: boolean },
): Steps<DmaResult> {
  const { sim, unit } = device;
  const { frames } = unit;
  const at = prot === IO_WRITE ? WRITE : READ;
  frames.willCheck(pfn, at);
  device.entry.willRead(at);
  device.inFlight.willUpdate(at);
  yield prot === IO_WRITE ? frames.content.willWrite(pfn, at) : frames.content.willRead(pfn, at);
  if (fill !== undefined && device.inFlight.value?.struck !== true) fill.iotlb.fill(entry!, fill.crowded);
  if (entry !== null) device.inFlight.value = null;
  if (prot === IO_WRITE) frames.content.set(pfn, token);
  const seen = prot === IO_WRITE ? token : frames.content.get(pfn);
  const generation = frames.generationOf(pfn);
  if (sim.hears(FRAME_ACCESS)) {
    // For checkers only: the domain that the device is in by now.
    const through = device.entry.peek();
    sim.emit(FRAME_ACCESS, {
      ...(through === null || through === 'identity' ? {} : { space: through.name, table: through.table.name }),
      pfn,
      write: prot === IO_WRITE,
      madeFor: entry === null || sameGeneration(entry.generation, generation) ? generation : entry.generation,
      generation,
      through: 'iotlb',
      holder: device.name,
      page,
      token: seen,
    });
  }
  return { token: seen, fault: null };
}

function* fault(device: DmaDevice, page: number, prot: number, reason: IoFault['reason']): Steps<DmaResult> {
  const { unit } = device;
  unit.faultCount.willAdd(FAULT);
  yield unit.faults.willUpdate(FAULT);
  unit.record({ unit: unit.name, device: device.name, page, write: prot === IO_WRITE, reason });
  return { token: ZERO_TOKEN, fault: reason };
}
