// What steps cost by default [ns], in one place. Figures: domain "numbers" sections (reclaim 5.2, vfio-type1 5, iommu-hw
// 5); those marked [unverified] there are choices of the model. A scenario overrides any class by name.
import type { QuantileTable } from '../engine/latency.ts';

export const LATENCY_DEFAULTS: Readonly<Record<string, QuantileTable | number>> = {
  none: 0,
  op: 50,
  lock: 20,
  'pte-op': 50,
  refcount: 10,
  alloc: 100,
  // Zeroing at 8 to 17 GB/s: 0.25 to 0.5 µs per 4 KiB.
  'clear-page': [250, 300, 350, 400, 480],
  'copy-page': [300, 350, 400, 500],
  // 4 KiB anon minor fault, median about 1 µs, 95th percentile about 4 µs; the clearing is a class of its own.
  fault: [300, 400, 500, 600, 700, 800, 1000, 1500, 2500],
  // 162 to 239 µs for 2 MiB, almost all of it zeroing, which is counted per page by clear-page.
  'thp-fault': 2000,
  // Warm pins of 4 KiB pages: 60 ns per page including accounting and iommu_map (derived from 16 GiB in 0.25 s).
  'gup-fast': 30,
  'gup-slow': 40,
  notifier: 500,
  'tlb-local': 200,
  'tlb-ipi': [2000, 2200, 2600, 3200],
  // One 4 KiB page: 13.1 µs, of which the copy 3.0 µs.
  migrate: 10000,
  'swap-in': [4200, 4500, 5000],
  'swap-out': 5000,
  'disk-write': [20000, 40000, 60000, 100000],
  'disk-read': [50000, 80000, 100000, 150000],
  // iommu_map 61 to 71 ns for one 4 KiB leaf, about 5 ns for each further one of a batch.
  'iommu-map': 60,
  'iommu-unmap': 70,
  // Not published; order of 1 to 2 µs [unverified].
  iotlb: [800, 1000, 1500, 2000],
  dma: [400, 600, 900],
  'guest-op': 50,
  'grace-period': [10000, 20000, 40000],
  'vm-exit': [1000, 1200, 1500],
};
