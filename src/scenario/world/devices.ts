// Devices of a scenario: their IOMMU, groups, VFIO devices and BARs; and how they are attached at the start, by the same
// opens and ioctls that a VMM makes.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { DmaDevice } from '../../hw/dma-device.ts';
import { IommuUnit } from '../../hw/iommu-unit.ts';
import { type IommuDriver, iommuDriver, type ReservedRegion, usualDriver } from '../../iommu/driver.ts';
import { IommuGroup } from '../../iommu/group.ts';
import type { Errno } from '../../mm/errno.ts';
import { OpenFile } from '../../mm/process/task.ts';
import { vfioMmapBar } from '../../vfio/bar.ts';
import { VfioContainer, vfioContainerRelease, vfioSetIommu } from '../../vfio/container.ts';
import { type VfioBar, VfioDevice, vfioGroupGetDeviceFd } from '../../vfio/device.ts';
import { EmulatedDevice } from '../../vfio/emulated.ts';
import { VfioGroup, vfioGroupOpen, vfioGroupSetContainer } from '../../vfio/group.ts';
import { VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU } from '../../vfio/info.ts';
import { ScenarioError } from '../file/diagnostic.ts';
import type { Device, Mapping } from '../file/scenario.ts';
import type { HostSpec } from '../file/schema-host.ts';
import { contentOf, type DeviceFrames, finishMapping, toPages } from './memory.ts';
import type { World } from './world.ts';

const PAGE = 4096n;
const INSTALL = step('fd_install', 'op');

/** A device of the scenario and the kernel objects in front of it. */
export interface WorldDevice {
  readonly name: string;
  readonly dma: DmaDevice;
  readonly group: VfioGroup;
  readonly vfio: VfioDevice;
  /** What it can put on the bus of an address: higher bits are lost. */
  readonly addressMask: bigint;
}

/** The aperture of `host.iommu` as an address width: IOVAs up to 2^bits. */
function addressBits(host: HostSpec): number {
  const end = host.iommu?.aperture?.end;
  return end === undefined ? 48 : end.toString(2).length;
}

/** What `host.iommu` takes from the user: reserved windows, and what an aperture leaves of what the driver offers. */
function reservedOf(host: HostSpec, driver: IommuDriver): readonly ReservedRegion[] {
  const { reserved = [], aperture } = host.iommu ?? {};
  const windows = [...reserved];
  if (aperture !== undefined) {
    if (aperture.start > 0n) windows.push({ start: 0n, end: aperture.start - 1n });
    const last = BigInt(driver.aperturePages(addressBits(host))) * PAGE - 1n;
    if (aperture.end < last) windows.push({ start: aperture.end + 1n, end: last });
  }
  // A page that is reserved in part cannot be mapped.
  return windows.map(({ start, end }) => ({
    kind: 'reserved',
    firstPage: Number(start / PAGE),
    pages: Number(end / PAGE - start / PAGE) + 1,
  }));
}

/** Make the devices; nothing is attached yet. */
export function addDevices(world: World, frames: DeviceFrames): void {
  const { host } = world.one;
  const { sim, core } = world;
  const usual = usualDriver(core.kernel.profile.arch);
  const driver = iommuDriver(host.iommu?.driver ?? usual, host.iommu?.page_sizes);
  const unit = new IommuUnit(sim, core.frames, core.folios, {
    name: 'iommu0',
    addressBits: addressBits(host),
    snoopControl: host.iommu?.coherent ?? false,
  });
  const reserved = reservedOf(host, driver);
  const members = new Map<string, { device: Device; dma: DmaDevice }[]>();
  for (const device of world.scenario.devices) {
    const name = device.spec.group ?? `group of ${device.name}`;
    const list = members.get(name) ?? [];
    const late = device.spec.late === undefined ? {} : { lateNs: Number(device.spec.late) };
    list.push({ device, dma: new DmaDevice(sim, unit, { name: device.name, ...late }) });
    members.set(name, list);
  }
  for (const [name, list] of members) {
    const isolatedMsi = host.iommu?.interrupt_remapping ?? true;
    const iommuGroup = new IommuGroup(core, {
      name,
      driver,
      devices: list.map(({ dma }) => dma),
      reserved,
      isolatedMsi,
    });
    const group = new VfioGroup(
      core,
      iommuGroup,
      list.some(({ device }) => device.spec.emulated) ? 'emulated' : 'iommu',
    );
    for (const { device, dma } of list) {
      const bars = barsOf(world, device, frames);
      const emulated = device.spec.emulated === true ? { emulated: new EmulatedDevice(core, device.name) } : {};
      const vfio = new VfioDevice(core, { name: device.name, group, dma, bars, ...emulated });
      const addressMask = (1n << BigInt(device.spec.dma_mask_bits ?? 64)) - 1n;
      world.devices.set(device.name, { name: device.name, dma, group, vfio, addressMask });
    }
  }
}

/** BARs named by the device, and those that memory objects of kind `bar` stand for. */
function barsOf(world: World, device: Device, frames: DeviceFrames): readonly VfioBar[] {
  const bars: VfioBar[] = [];
  const add = (index: number, size: bigint): VfioBar => {
    const known = bars.find((bar) => bar.index === index);
    if (known !== undefined) return known;
    const pages = toPages(size);
    const bar = { index, pages, firstPfn: frames.mustTake(pages, device.name, device.where) };
    bars.push(bar);
    return bar;
  };
  for (const bar of device.spec.bars ?? []) add(bar.index ?? 0, bar.size);
  for (const { spec } of world.scenario.memory) {
    if (spec.kind !== 'bar' || spec.device.name !== device.name) continue;
    const { firstPfn, pages } = add(spec.index ?? 0, spec.size);
    if (spec.content === undefined) continue;
    world.core.frames.content.fill(firstPfn, firstPfn + pages - 1, contentOf(world, spec.content));
  }
  return bars;
}

/** The container of a device of a process, as scenarios name it: given, or one per process. */
export function containerName(device: Device): string {
  return device.spec.container ?? `container of ${device.spec.process?.name ?? 'nobody'}`;
}

/** A descriptor of the running task, under a name that operations use. */
export function* installFile(world: World, name: string, file: OpenFile): Steps<void> {
  const { task } = world.core.current;
  world.looks.willAppear(name, INSTALL);
  yield task.files.willUpdate(INSTALL);
  task.files.value = [...task.files.value, file];
  world.named.set(`fd:${name}`, file);
  world.looks.appears(name);
}

/** Open a new container for the running task. */
export function* openContainer(world: World, name: string): Steps<VfioContainer> {
  const container = new VfioContainer(world.core, world.vfioModule, name);
  const release = () => vfioContainerRelease(container);
  const file = new OpenFile(world.sim, { name: `${name} file`, kind: 'vfio-container', object: container, release });
  yield* call(installFile(world, name, file));
  return container;
}

export function fileNamed(world: World, name: string): OpenFile | undefined {
  return world.named.get(`fd:${name}`) as OpenFile | undefined;
}

/** Is there a file with that name that nobody has closed for good? */
function isOpen(world: World, name: string): boolean {
  return (fileNamed(world, name)?.references.peek() ?? 0) > 0;
}

/** The type1 container with that name, or the one of the device with that name. */
export function containerNamed(world: World, name: string): VfioContainer | undefined {
  const object = fileNamed(world, name)?.object;
  if (object instanceof VfioContainer) return object;
  return world.devices.get(name)?.group.container.peek() ?? undefined;
}

/** Open, SET_CONTAINER, SET_IOMMU (for the first group), GET_DEVICE_FD. The errno of the first that fails. */
export function* attachVfio(world: World, device: Device, type: number): Steps<'ok' | Errno> {
  const { group, vfio } = world.devices.get(device.name)!;
  const name = containerName(device);
  if (!isOpen(world, name)) yield* call(openContainer(world, name));
  const file = fileNamed(world, name)!;
  const container = file.object as VfioContainer;
  if (!isOpen(world, group.name)) {
    const groupFile = yield* call(vfioGroupOpen(group));
    if (typeof groupFile === 'string') return groupFile;
    yield* call(installFile(world, group.name, groupFile));
  }
  // Also when it was refused before, or taken out since.
  if (group.container.peek() === null) {
    const joined = yield* call(vfioGroupSetContainer(group, file));
    if (joined !== 'ok') return joined;
  }
  if (container.driver.peek() === null) {
    const set = yield* call(vfioSetIommu(container, type));
    if (set !== 'ok') return set;
  }
  const deviceFile = yield* call(vfioGroupGetDeviceFd(group, vfio));
  if (typeof deviceFile === 'string') return deviceFile;
  yield* call(installFile(world, device.name, deviceFile));
  return 'ok';
}

/** What `attach` and the BAR mappings of the scenario ask for. Runs as a thread of the device's process. */
export function* setUpDevice(world: World, device: Device): Steps<void> {
  const { attach, process } = device.spec;
  if (attach === undefined || attach === 'none') return;
  if (attach === 'iommufd') {
    throw new ScenarioError([{ where: device.where, message: 'iommufd is not modelled yet', hint: 'vfio-type1' }]);
  }
  const type = attach === 'vfio-type1v1' ? VFIO_TYPE1_IOMMU : VFIO_TYPE1v2_IOMMU;
  const errno = yield* call(attachVfio(world, device, type));
  if (errno !== 'ok') {
    throw new ScenarioError([{ where: device.where, message: `attaching \`${device.name}\` fails with ${errno}` }]);
  }
  const owner = world.scenario.processes.find(({ name }) => name === process?.name);
  for (const mapping of owner?.maps ?? []) yield* call(mapBar(world, device, mapping));
}

/** A mapping of the process that stands for a BAR of this device. */
function* mapBar(world: World, device: Device, mapping: Mapping): Steps<void> {
  const object = world.memory.get(mapping.memory)!;
  const { spec } = object;
  if (spec.kind !== 'bar' || spec.device.name !== device.name) return;
  const file = fileNamed(world, device.name)!;
  const { prot } = mapping;
  const writes = mapping.populate === 'write';
  const mapped = yield* call(
    vfioMmapBar(file, {
      index: spec.index ?? 0,
      offset: Number(mapping.offset / PAGE),
      pages: toPages(mapping.length),
      write: prot.write || writes,
      private: !mapping.shared,
      ...(mapping.at === undefined ? {} : { at: Number(mapping.at / PAGE), fixed: true }),
    }),
  );
  if ('errno' in mapped) {
    throw new ScenarioError([{ where: mapping.where, message: `mmap of the BAR fails with ${mapped.errno}` }]);
  }
  const pages = toPages(mapping.length);
  const place = { mapping: mapping.name, memory: object, vpn: mapped.vpn, pages, pgoff: Number(mapping.offset / PAGE) };
  world.addPlace(device.spec.process!.name, mapping, place);
  const fill = writes ? contentOf(world, spec.content ?? device.spec.process!.name) : undefined;
  yield* call(finishMapping(world, mapping, mapped.vpn, fill, !prot.read || prot.exec || (writes && !prot.write)));
}
