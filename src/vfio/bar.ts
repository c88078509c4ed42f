// BARs of vfio-pci devices in user space (drivers/vfio/pci/vfio_pci_core.c): mapped without entries, faulted in while
// the device decodes memory, zapped when it stops. KVM learns of a zap by its notifier; type1 does not. Limits: a fault
// during a zap gives SIGBUS at once instead of waiting for memory_lock; leaves are 4 KiB.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { PMD_PAGES } from '../hw/machine.ts';
import type { Errno } from '../mm/errno.ts';
import { type MmapResult, mmap } from '../mm/mapping/mmap.ts';
import type { PfnMapping } from '../mm/mapping/vma.ts';
import type { OpenFile } from '../mm/process/task.ts';
import { unmapMappingRange } from '../mm/zap/unmap-mapping.ts';
import { barPage, type VfioBar, VfioDevice } from './device.ts';

const HOLD = step('vfio_pci_core_mmap:get_file', 'op');
const SWITCH = step('vfio_pci:memory-decoding', 'op');
const RELEASE = step('vfio_pci:frames-change-hands', 'op');
const ACCESS = step('vfio_pci_bar_rw', 'op');

export interface BarMmap {
  readonly index: number;
  /** Pages from the start of the BAR, and how many; default: all of it. */
  readonly offset?: number;
  readonly pages?: number;
  readonly at?: number;
  readonly fixed?: boolean;
  readonly write?: boolean;
  /** MAP_PRIVATE is refused. */
  readonly private?: boolean;
}

/** mmap of a device file. EINVAL: no such BAR, beyond its end, or MAP_PRIVATE; else as mmap. */
export function* vfioMmapBar(file: OpenFile, request: BarMmap): Steps<MmapResult> {
  const device = file.object;
  if (!(device instanceof VfioDevice)) return { errno: 'ENODEV' };
  const bar = device.bars.find(({ index }) => index === request.index);
  const offset = request.offset ?? 0;
  if (bar === undefined || request.private === true) return { errno: 'EINVAL' };
  const pages = request.pages ?? bar.pages - offset;
  if (offset + pages > bar.pages) return { errno: 'EINVAL' };
  const mapped = yield* call(
    mmap(device.core, {
      name: `${device.name} BAR${bar.index}`,
      pages,
      shared: true,
      write: request.write ?? true,
      file: device.inode,
      pgoff: barPage(bar.index) + offset,
      pfnMapping: pfnMappingOf(device, bar),
      ...(request.at === undefined ? {} : { at: request.at }),
      ...(request.fixed === undefined ? {} : { fixed: request.fixed }),
    }),
  );
  if (!('vpn' in mapped)) return mapped;
  file.references.willUpdate(HOLD);
  yield device.mappedFiles.willUpdate(HOLD);
  if (!device.mappedFiles.value.includes(file)) {
    device.mappedFiles.value = [...device.mappedFiles.value, file];
    file.references.value += 1;
  }
  return mapped;
}

/** What faults in a mapping of the BAR find. */
export function pfnMappingOf(device: VfioDevice, bar: VfioBar): PfnMapping {
  const { kernel } = device.core;
  return {
    name: `${device.name} BAR${bar.index}`,
    frameAt: (offset) => (device.accessible ? bar.firstPfn + offset - barPage(bar.index) : undefined),
    writable: true,
    eager: false,
    inserts: kernel.has('vfio-pci.huge-faults') ? 'leaf' : kernel.has('vfio-pci.fault-fills-area') ? 'area' : 'page',
  };
}

/**
 * A write to the command register or a power state: BARs on or off. Off: every user mapping is zapped first, with its
 * notifiers, while IOMMU entries stay; the frames then belong to nobody.
 */
export function* vfioSetAccess(device: VfioDevice, what: 'memory' | 'power', on: boolean): Steps<void> {
  const { core } = device;
  yield* call(device.memoryLock.write());
  yield device.memoryEnabled.willUpdate(SWITCH);
  const before = device.accessible;
  (what === 'memory' ? device.memoryEnabled : device.powered).value = on;
  if (before && !device.accessible) {
    if (core.kernel.has('vfio-pci.blocks-disabled-memory')) {
      for (const bar of device.bars) {
        const from = barPage(bar.index);
        yield* call(unmapMappingRange(core, device.inode, from, from + bar.pages, true));
      }
    }
    for (const bar of device.bars) yield* call(releaseFrames(device, bar));
  }
  yield device.memoryLock.up();
}

/** The generation of the BAR's frames advances: what still leads there is stale. */
function* releaseFrames(device: VfioDevice, bar: VfioBar): Steps<void> {
  const { frames } = device.core;
  const end = bar.firstPfn + bar.pages;
  for (let pfn = bar.firstPfn; pfn < end; ) {
    const order = pfn % PMD_PAGES === 0 && end - pfn >= PMD_PAGES ? 9 : 0;
    yield frames.willRelease(pfn, order, RELEASE);
    frames.release(pfn, order, `memory decoding of ${device.name} off`);
    pfn += 2 ** order;
  }
}

/** read() or write() of a BAR through the device file. EIO while the device does not decode memory. */
export function* vfioBarAccess(
  device: VfioDevice,
  bar: VfioBar,
  offset: number,
  write: { readonly token: number } | null,
): Steps<{ readonly token: number } | { readonly errno: Errno }> {
  const { frames } = device.core;
  const pfn = bar.firstPfn + offset;
  yield* call(device.memoryLock.read());
  frames.content.willUpdate(pfn, ACCESS);
  device.memoryEnabled.willRead(ACCESS);
  yield device.memoryLock.up(ACCESS);
  if (!(device.powered.value && (device.virtualFunction || device.memoryEnabled.value))) return { errno: 'EIO' };
  if (write !== null) frames.content.set(pfn, write.token);
  return { token: frames.content.get(pfn) };
}
