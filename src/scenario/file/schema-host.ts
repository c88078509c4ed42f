// The machine of a scenario: CPUs, memory by node and zone, swap, limits, huge pages, the IOMMU, latencies.
// Everything has a default, which the world chooses; what is written here is what the story depends on.
import * as z from 'zod';
import { zAddress, zCount, zDuration, zLimit, zSize } from './scalar.ts';

const zDimm = z
  .strictObject({
    size: zSize.describe('A multiple of 128 MiB, the size of a memory block.'),
    zone: z.enum(['normal', 'movable']).describe('online_kernel or online_movable.'),
    kernel: zSize.optional().describe('How much of it the kernel has taken for itself (normal only); default 0.'),
  })
  .describe('A DIMM that was plugged in while the machine ran: whole memory blocks, which can go offline.');

const zZones = z
  .strictObject({
    dma32: zSize.optional().describe('ZONE_DMA32: below 4 GiB of physical address space.'),
    normal: zSize.optional().describe('ZONE_NORMAL.'),
    movable: zSize.optional().describe('ZONE_MOVABLE: long-term pins have to leave it.'),
    cma: zSize.optional().describe('Pages of the contiguous memory allocator: long-term pins have to leave them.'),
    device: zSize.optional().describe('Device memory without struct page.'),
    dimm: zDimm.optional(),
  })
  .describe('How much memory each zone has.');

/** `2MiB: 8`: a count by page size. */
const zHugepages = z
  .strictObject({ '2MiB': zCount().optional(), '1GiB': zCount().optional() })
  .describe('Huge pages in the hugetlb pool, by size.');

const zRange = z.strictObject({ start: zAddress, end: zAddress }).describe('Addresses, the end included.');

export const IOMMU_DRIVERS = ['vtd', 'amd', 'smmu', 's390'] as const;

const zPageSize = zSize.refine((size) => size >= 4096n && (size & (size - 1n)) === 0n, {
  message: 'no entry of an IO page table has this size',
  params: { expected: 'a power of two from 4KiB on' },
});

const zIommu = z
  .strictObject({
    driver: z.enum(IOMMU_DRIVERS).optional().describe('Which IOMMU the machine has; default: vtd, on s390x s390.'),
    mode: z
      .enum(['strict', 'lazy'])
      .optional()
      .describe(
        'iommu.strict: invalidate the IOTLB at unmap, or later from a flush queue. It is for drivers that use the DMA API; ' +
          'domains of VFIO are strict in either mode.',
      ),
    page_sizes: z.array(zPageSize).min(1).optional().describe('Sizes of an IO page table entry.'),
    aperture: zRange.optional().describe('IOVAs that the hardware can translate.'),
    reserved: z.array(zRange).optional().describe('IOVAs that cannot be mapped, such as the MSI window.'),
    coherent: z.boolean().optional().describe('Whether DMA snoops CPU caches (no-snoop is blocked).'),
    interrupt_remapping: z.boolean().optional(),
  })
  .describe('The IOMMU.');

const zLatency = z
  .union([zDuration, z.array(zDuration).min(1)])
  .describe('What a step of this class costs: a duration, or equally likely durations in ascending order.');

export const zHost = z
  .strictObject({
    cpus: zCount(1, 4096).optional(),
    nodes: zCount(1, 64).optional().describe('NUMA nodes; with more than one, memory is a list with one entry each.'),
    memory: z.union([zZones, z.array(zZones).min(1)]).optional(),
    swap: zSize.optional().describe('Swap space; 0 for none.'),
    memlock: zLimit.optional().describe('RLIMIT_MEMLOCK of every process that does not set its own.'),
    hugepages: zHugepages.optional(),
    thp: z.enum(['always', 'madvise', 'never']).optional().describe('transparent_hugepage/enabled.'),
    iommu: zIommu.optional(),
    dma_entry_limit: zCount(0, 0xffffffff).optional().describe('Module parameter of vfio_iommu_type1.'),
    allow_unsafe_interrupts: z.boolean().optional().describe('Module parameter of vfio_iommu_type1.'),
    step_pages: zCount(1).optional().describe('How many pages one step of a bulk operation covers.'),
    migrate_passes: zCount(1, 10)
      .optional()
      .describe('How often a migration tries a page again: 10 in every kernel; fewer keep a search small.'),
    dirty_writeback: zDuration
      .optional()
      .describe('vm.dirty_writeback_centisecs: when the flusher looks; 0s switches periodic writeback off.'),
    reuse: z
      .enum(['own', 'choose'])
      .optional()
      .describe('Whether an allocation may get a frame that another actor freed: never, or as a choice.'),
    trace: z
      .array(z.enum(['iommu']))
      .optional()
      .describe('Tracepoints that are on: iommu:map and iommu:unmap, which `trace.iommu` shows.'),
    latencies: z.record(z.string(), zLatency).optional().describe('Cost of steps by latency class.'),
    config: z
      .record(z.string().regex(/^[A-Z0-9_]+$/), z.enum(['y', 'm', 'n']))
      .optional()
      .describe('Kernel options to set or unset, without CONFIG_.'),
  })
  .describe('The machine.');

export type HostSpec = z.output<typeof zHost>;
export type ZonesSpec = z.output<typeof zZones>;

/** A case's host on top of the scenario's: what the case names wins, nested settings one by one. */
export function mergeHost(base: HostSpec, over: HostSpec): HostSpec {
  const merged: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const before = merged[key];
    merged[key] = isSettings(before) && isSettings(value) ? { ...before, ...value } : value;
  }
  return merged as HostSpec;
}

function isSettings(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
