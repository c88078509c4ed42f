// Worlds with VFIO: the laboratory of the recorded cases (VT-d with 39 address bits, edu devices in groups of their own).
import { call, type Steps } from '../../src/engine/process.ts';
import { DmaDevice, dmaRead, dmaWrite } from '../../src/hw/dma-device.ts';
import type { IommuUnit, IommuUnitOptions } from '../../src/hw/iommu-unit.ts';
import { type DriverName, iommuDriver } from '../../src/iommu/driver.ts';
import { IommuGroup, type IommuGroupOptions } from '../../src/iommu/group.ts';
import type { Errno } from '../../src/mm/errno.ts';
import { cpuAccess } from '../../src/mm/fault/access.ts';
import { type MmapRequest, mmap } from '../../src/mm/mapping/mmap.ts';
import { OpenFile, type Task } from '../../src/mm/process/task.ts';
import { VfioContainer, vfioIommuMapDma, vfioIommuUnmapDma, vfioSetIommu } from '../../src/vfio/container.ts';
import { type VfioBar, VfioDevice, vfioGroupGetDeviceFd } from '../../src/vfio/device.ts';
import { VfioGroup, vfioGroupOpen, vfioGroupSetContainer } from '../../src/vfio/group.ts';
import { VFIO_TYPE1v2_IOMMU } from '../../src/vfio/info.ts';
import { VfioModule, type VfioModuleOptions } from '../../src/vfio/module.ts';
import { makeUnit } from './io-world.ts';
import { tokenOf } from './tokens.ts';
import { makeTask, makeWorld, run, type TestWorld, type WorldOptions } from './world.ts';

export const PAGE = 4096n;
export const IOVA0 = 0x10000000n;
export const IOVA_SCRATCH = 0x40000000n;
export const READ = 1;
export const WRITE = 2;
export const RW = 3;

export interface LabOptions extends WorldOptions {
  readonly driver?: DriverName;
  readonly unit?: Partial<IommuUnitOptions>;
  readonly module?: VfioModuleOptions;
  readonly task?: Parameters<typeof makeTask>[2];
}

export interface Lab extends TestWorld {
  readonly module: VfioModule;
  readonly unit: IommuUnit;
  readonly task: Task;
}

export interface Station {
  readonly iommuGroup: IommuGroup;
  readonly group: VfioGroup;
  readonly dma: DmaDevice;
  readonly device: VfioDevice;
}

/** 64 MiB of memory, 1 MiB of device memory, one VT-d unit of 39 bits; a root task. */
export function makeLab(options: LabOptions = {}): Lab {
  const world = makeWorld({
    zones: [
      { kind: 'NORMAL', node: 0, pages: 16384 },
      { kind: 'DEVICE', node: 0, pages: 512 },
    ],
    ...options,
  });
  return {
    ...world,
    module: new VfioModule(world.sim, { allowUnsafeInterrupts: true, ...options.module }),
    unit: makeUnit(world, 'dmar0', { addressBits: 39, ...options.unit }),
    task: makeTask(world, 'root', options.task),
  };
}

/** A device in a group of its own. */
export function makeStation(
  lab: Lab,
  name: string,
  options: Partial<IommuGroupOptions> & {
    driver?: ReturnType<typeof iommuDriver>;
    unit?: IommuUnit;
    type?: 'iommu' | 'emulated' | 'noiommu';
    bar?: VfioBar;
    virtualFunction?: boolean;
    lateNs?: number;
  } = {},
): Station {
  const {
    driver = iommuDriver('vtd'),
    unit = lab.unit,
    type = 'iommu',
    bar,
    virtualFunction,
    lateNs,
    ...rest
  } = options;
  const dma = new DmaDevice(lab.sim, unit, { name, ...(lateNs === undefined ? {} : { lateNs }) });
  const iommuGroup = new IommuGroup(lab.core, { name: `group of ${name}`, driver, devices: [dma], ...rest });
  const group = new VfioGroup(lab.core, iommuGroup, type);
  const device = new VfioDevice(lab.core, {
    name,
    group,
    dma,
    ...(bar === undefined ? {} : { bars: [bar] }),
    ...(virtualFunction === undefined ? {} : { virtualFunction }),
  });
  return { iommuGroup, group, dma, device };
}

/** The first frames of device memory, as a BAR. */
export function barOf(lab: Lab, pages: number, skip = 0): VfioBar {
  const zone = lab.core.machine.zones.find(({ kind }) => kind === 'DEVICE')!;
  return { index: 0, pages, firstPfn: zone.firstPfn + skip };
}

export function containerFile(lab: Lab, container: VfioContainer): OpenFile {
  return new OpenFile(lab.sim, { name: `${container.name} file`, kind: 'vfio-container', object: container });
}

export interface Opened extends Station {
  readonly container: VfioContainer;
  readonly containerFile: OpenFile;
  readonly groupFile: OpenFile;
  readonly deviceFile: OpenFile;
}

export function fail(what: unknown): never {
  throw new Error(`unexpected: ${JSON.stringify(what)}`);
}

/** open container and group, SET_CONTAINER, SET_IOMMU, GET_DEVICE_FD. */
export function* openStation(lab: Lab, station: Station, name: string, type = VFIO_TYPE1v2_IOMMU): Steps<Opened> {
  const container = new VfioContainer(lab.core, lab.module, name);
  const file = containerFile(lab, container);
  const groupFile = yield* call(vfioGroupOpen(station.group));
  if (typeof groupFile === 'string') fail(groupFile);
  const joined = yield* call(vfioGroupSetContainer(station.group, file));
  if (joined !== 'ok') fail(joined);
  const set = yield* call(vfioSetIommu(container, type));
  if (set !== 'ok') fail(set);
  const deviceFile = yield* call(vfioGroupGetDeviceFd(station.group, station.device));
  if (typeof deviceFile === 'string') fail(deviceFile);
  return { ...station, container, containerFile: file, groupFile, deviceFile };
}

/** As run, in the laboratory: the result of `body` run by the root task (or another). */
export function play<R>(lab: Lab, body: () => Steps<R>, task: Task = lab.task): R {
  return run(lab, task, body);
}

/** mmap; the first page. */
export function* mapMemory(lab: Lab, request: Partial<MmapRequest> & { pages: number }): Steps<number> {
  const mapped = yield* call(mmap(lab.core, { name: 'p', ...request }));
  return 'vpn' in mapped ? mapped.vpn : fail(mapped);
}

/** Write a token to each of `pages` pages. */
export function* touch(lab: Lab, vpn: number, pages: number, text = 'a'): Steps<void> {
  for (let i = 0; i < pages; i++) {
    const done = yield* call(cpuAccess(lab.core, vpn + i, { token: tokenOf(text) }));
    if (!('token' in done)) fail(done);
  }
}

/** What the CPU reads at `vpn`. */
export function* load(lab: Lab, vpn: number): Steps<number> {
  const done = yield* call(cpuAccess(lab.core, vpn, null));
  return 'token' in done ? done.token : fail(done);
}

export function* vfMap(
  container: VfioContainer,
  vpn: number,
  iova: bigint,
  pages: number,
  flags = RW,
): Steps<'ok' | Errno> {
  const size = BigInt(pages) * PAGE;
  return yield* call(vfioIommuMapDma(container, { flags, vaddr: BigInt(vpn) * PAGE, iova, size }));
}

/** [errno or ok, the size field afterwards in bytes]. */
export function* vfUnmap(
  container: VfioContainer,
  iova: bigint,
  size: bigint,
  flags = 0,
): Steps<readonly ['ok' | Errno, number]> {
  const done = yield* call(vfioIommuUnmapDma(container, { flags, iova, size }));
  return [done.errno ?? 'ok', Number(done.size)];
}

export function* deviceReads(dma: DmaDevice, iova: bigint): Steps<number | 'blocked'> {
  const done = yield* call(dmaRead(dma, Number(iova / PAGE)));
  return done.fault === null ? done.token : 'blocked';
}

export function* deviceWrites(dma: DmaDevice, iova: bigint, text: string): Steps<'ok' | 'blocked'> {
  const done = yield* call(dmaWrite(dma, Number(iova / PAGE), tokenOf(text)));
  return done.fault === null ? 'ok' : 'blocked';
}

/** VmLck of a task's address space, in kB. */
export function vmlck(task: Task): number {
  return task.mm.peek()!.lockedVm.peek() * 4;
}
