// The recorded laboratory as a scenario: an emulated PC with VT-d of 39 address bits and an edu device with a 1 MiB BAR,
// two NUMA nodes, zram swap, a hugetlb pool.
import type { Boot } from './session.ts';

/** RLIMIT_MEMLOCK of root in the laboratory: the kernel's default of 8 MiB; root has CAP_IPC_LOCK. */
export const LAB_HOST = {
  cpus: 2,
  nodes: 2,
  memory: [{ dma32: '448MiB' }, { dma32: '128MiB' }],
  swap: '64MiB',
  hugepages: { '2MiB': 16 },
  iommu: { driver: 'vtd', aperture: { start: 0, end: '0x7fffffffff' }, interrupt_remapping: false },
  allow_unsafe_interrupts: true,
} as const;

/** One root process that drives one device, nothing attached yet. */
export function labBoot(extra: Boot = {}): Boot {
  const memory = (extra.memory ?? {}) as Boot;
  // What the kernel maps into every program.
  const special = ['vdso', 'vvar'].filter((name) => name in memory);
  return {
    host: LAB_HOST,
    processes: { lab: { maps: Object.fromEntries(special.map((name) => [name, {}])) } },
    devices: {
      edu: { process: 'lab', attach: 'none', bars: [{ index: 0, size: '1MiB' }] },
      edu2: { process: 'lab', attach: 'none', bars: [{ index: 0, size: '1MiB' }] },
    },
    ...extra,
  };
}
