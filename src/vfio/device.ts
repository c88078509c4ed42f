// VFIO devices and their files (drivers/vfio/vfio_main.c, group.c). The first open uses the container, the last close
// silences the device and lets go of the group. A mapping of a BAR holds the device's file: closing every descriptor
// changes nothing while one exists.
import { Cell } from '../engine/cell.ts';
import { hashText, mix } from '../engine/hash.ts';
import { Mutex } from '../engine/lock.ts';
import { call, type Steps } from '../engine/process.ts';
import { RwSem } from '../engine/rwsem.ts';
import { step } from '../engine/step.ts';
import { until } from '../engine/wait.ts';
import type { DmaDevice } from '../hw/dma-device.ts';
import type { CoreMm } from '../mm/core.ts';
import type { Errno } from '../mm/errno.ts';
import { Inode } from '../mm/file/inode.ts';
import { Mm } from '../mm/mm.ts';
import { fput } from '../mm/process/exit.ts';
import { OpenFile, Task, User } from '../mm/process/task.ts';
import type { EmulatedDevice } from './emulated.ts';
import { registerDevice, unregisterDevice } from './external.ts';
import type { VfioGroup } from './group.ts';
import { IOVA_SPACE_PAGES, VfioIommu } from './iommu.ts';

const OPEN_GROUP = step('vfio_df_group_open:group_lock', 'lock');
const OPEN = step('vfio_df_open', 'lock');
const CLOSE_GROUP = step('vfio_df_group_close:group_lock', 'lock');
const CLOSE = step('vfio_df_close', 'lock');
const UNUSE = step('vfio_group_unuse_container', 'op');
const BAR_UNMAPPED = step('fput:last-bar-mapping', 'none');

/** A memory BAR: frames without struct page. */
export interface VfioBar {
  readonly index: number;
  readonly pages: number;
  readonly firstPfn: number;
}

export interface VfioDeviceOptions {
  readonly name: string;
  readonly group: VfioGroup;
  readonly dma: DmaDevice;
  readonly bars?: readonly VfioBar[];
  /** A device that the CPU plays: no DMA of its own, its driver pins pages. */
  readonly emulated?: EmulatedDevice;
  /** SR-IOV VF (or s390 function): the memory bit of its command register is ignored. */
  readonly virtualFunction?: boolean;
}

export class VfioDevice {
  readonly core: CoreMm;
  readonly name: string;
  readonly identity: number;
  readonly group: VfioGroup;
  readonly dma: DmaDevice;
  readonly bars: readonly VfioBar[];
  readonly virtualFunction: boolean;
  readonly emulated: EmulatedDevice | null;
  /** device->dev_set->lock */
  readonly devSetLock: Mutex;
  readonly openCount: Cell<number>;
  /** vfio-pci: held for reading by BAR accesses, for writing by whatever switches the BARs off. */
  readonly memoryLock: RwSem;
  /** PCI_COMMAND_MEMORY as the user last wrote it. */
  readonly memoryEnabled: Cell<boolean>;
  /** D-state below D3hot, and no low-power request. */
  readonly powered: Cell<boolean>;
  /** All files of the device share its mappings: they are found through this inode. */
  readonly inode: Inode;
  /** Files that BAR mappings hold a reference of, until no mapping is left. */
  readonly mappedFiles: Cell<readonly OpenFile[]>;

  /** Made while the world is built: spawns the worker that drops the files of BAR mappings. */
  constructor(core: CoreMm, options: VfioDeviceOptions) {
    const { sim } = core;
    const { name } = options;
    this.core = core;
    this.name = name;
    this.identity = mix(hashText(name), 0x76666476);
    this.group = options.group;
    this.dma = options.dma;
    this.bars = options.bars ?? [];
    this.virtualFunction = options.virtualFunction ?? false;
    this.emulated = options.emulated ?? null;
    this.devSetLock = new Mutex(sim, `dev_set lock of ${name}`);
    this.openCount = new Cell(sim, `open_count of ${name}`, 0, this.devSetLock);
    this.memoryLock = new RwSem(sim, `memory_lock of ${name}`);
    this.memoryEnabled = new Cell(sim, `memory decoding of ${name}`, true);
    this.powered = new Cell(sim, `power of ${name}`, true, this.memoryEnabled);
    const sizePages = this.bars.reduce((most, bar) => Math.max(most, barPage(bar.index) + bar.pages), 0);
    // Only its tree of mappings counts: the frames come from the raw mapping, so it is of the kind that tracks nothing.
    this.inode = new Inode(sim, { kind: 'shmem', name: `${name} regions`, sizePages });
    this.mappedFiles = new Cell<readonly OpenFile[]>(sim, `files held by BAR mappings of ${name}`, []);
    if (this.bars.length > 0) spawnReleaser(this);
  }

  /** Do accesses to its BARs reach the device? Looks without a step. */
  get accessible(): boolean {
    return this.powered.peek() && (this.virtualFunction || this.memoryEnabled.peek());
  }
}

/** VFIO_PCI_INDEX_TO_OFFSET, in pages: 40 bits per region. */
export function barPage(index: number): number {
  return index * 2 ** 28;
}

/** The put of the last mapping is work of the kernel's own: fput from munmap or exit runs when that is over. */
function spawnReleaser(device: VfioDevice): void {
  const { core } = device;
  const { sim } = core;
  const worker = sim.spawn(`vfio-release ${device.name}`, () => dropMappedFiles(device), { daemon: true });
  const mm = new Mm(sim, core.kernel, `none (${worker.name})`);
  const task = new Task(sim, mm, { name: worker.name, user: new User(sim, 0), capabilities: [], memlockBytes: 0 });
  task.mm.value = null;
  core.runAs(worker, task);
}

function* dropMappedFiles(device: VfioDevice): Steps<void> {
  const { mappedFiles, inode, core } = device;
  const unmapped = () => mappedFiles.peek().length > 0 && inode.mms.peek().length === 0;
  for (;;) {
    yield until(core.sim, [mappedFiles, inode.mms], unmapped, BAR_UNMAPPED, { update: true });
    const files = mappedFiles.value;
    mappedFiles.value = [];
    for (const file of files) yield* call(fput(file));
  }
}

/**
 * VFIO_GROUP_GET_DEVICE_FD; null: no such device in the group. ENODEV; EINVAL: no container, or one without SET_IOMMU;
 * EPERM: no-IOMMU without CAP_SYS_RAWIO. The device comes up with bus mastering on, which a VMM switches on next.
 */
export function* vfioGroupGetDeviceFd(group: VfioGroup, device: VfioDevice | null): Steps<OpenFile | Errno> {
  if (device === null || device.group !== group) return 'ENODEV';
  const { core } = device;
  yield group.groupLock.lock(OPEN_GROUP);
  const opened = yield* call(openDevice(group, device));
  yield group.groupLock.unlock(OPEN_GROUP);
  if (opened !== null) return opened;
  const { process } = core.current;
  return new OpenFile(core.sim, {
    name: `${device.name} file ${process.name}#${process.nextNumber()}`,
    kind: 'vfio-device',
    object: device,
    release: () => releaseDevice(device),
  });
}

function* openDevice(group: VfioGroup, device: VfioDevice): Steps<Errno | null> {
  const container = group.container.value;
  if (container === null) return 'EINVAL';
  container.driver.willRead(OPEN);
  group.groupLock.willChange(OPEN);
  device.dma.busMaster.willWrite(OPEN);
  device.memoryEnabled.willWrite(OPEN);
  // group_lock is held and the group is in a container: its file cannot go away.
  const file = group.openedFile.peek()!;
  file.references.willUpdate(OPEN);
  yield device.devSetLock.lock(OPEN);
  let errno: Errno | null = null;
  if (device.openCount.value === 0) {
    if (container.driver.value === null) errno = 'EINVAL';
    else if (group.type === 'noiommu' && !device.core.current.capable('CAP_SYS_RAWIO')) errno = 'EPERM';
    else {
      file.references.value += 1;
      group.containerUsers.value += 1;
      device.dma.busMaster.value = true;
      device.memoryEnabled.value = true;
    }
  }
  if (errno === null) device.openCount.value += 1;
  const { emulated } = device;
  const iommu = container.driver.peek();
  if (errno === null && emulated !== null && device.openCount.value === 1 && iommu instanceof VfioIommu) {
    // vfio_device_container_register; the locks of device set and group are held.
    yield* call(registerDevice(iommu, emulated));
    yield device.devSetLock.unlock(OPEN);
  } else device.devSetLock.releaseNow();
  return errno;
}

/** vfio_device_fops_release, and the put of the group's file that follows the last close. */
function* releaseDevice(device: VfioDevice): Steps<void> {
  const { group, emulated } = device;
  yield group.groupLock.lock(CLOSE_GROUP);
  const file = group.openedFile.value;
  const iommu = group.container.value?.driver.peek() ?? null;
  device.dma.busMaster.willWrite(CLOSE);
  yield device.devSetLock.lock(CLOSE);
  const last = device.openCount.value === 1;
  // vfio_pci_core_disable: the device is silent before its mappings can go.
  if (last) device.dma.busMaster.value = false;
  device.openCount.value -= 1;
  if (last && emulated !== null && iommu instanceof VfioIommu) {
    // close_device of the driver gives its pins back, then the container forgets the device.
    yield* call(emulated.dmaUnmap(iommu, 0, IOVA_SPACE_PAGES));
    yield* call(unregisterDevice(iommu, emulated));
    yield device.devSetLock.unlock(CLOSE);
  } else device.devSetLock.releaseNow();
  yield group.groupLock.willChange(UNUSE);
  if (last) group.containerUsers.value -= 1;
  group.groupLock.releaseNow();
  if (last && file !== null) yield* call(fput(file));
}
