// The machine and kernel of a case: zones, CPUs, limits and latencies from its `host`, with defaults that hold what the
// scenario maps.
import { LatencyModel } from '../../engine/latency.ts';
import { LATENCY_DEFAULTS } from '../../hw/latency-defaults.ts';
import {
  type ArchTraits,
  Machine,
  MEMORY_BLOCK_PAGES,
  PMD_PAGES,
  S390X,
  X86_64,
  type ZoneKind,
  type ZoneSpec,
} from '../../hw/machine.ts';
import { Kernel } from '../../kernel/kernel.ts';
import type { CoreMmParams } from '../../mm/core.ts';
import type { Scenario, ScenarioCase } from '../file/scenario.ts';
import type { HostSpec, ZonesSpec } from '../file/schema-host.ts';

const PAGE = 4096n;
/** Beyond what the scenario maps: page tables are free, but caches, copies and the boot allocations are not. */
const SPARE_BYTES = 64n << 20n;
/** From this much mapped memory on, bulk operations cover a whole page table per step unless the host says otherwise. */
const BULK_BYTES = 16n << 20n;
const BULK_STEP_PAGES = 512;

export function buildKernel(one: ScenarioCase): Kernel {
  const { config } = one.host;
  const options = Object.fromEntries(Object.entries(config ?? {}));
  return new Kernel(one.kernel, {
    with: one.with,
    without: one.without,
    ...(config === undefined ? {} : { config: options }),
  });
}

export function archOf(kernel: Kernel): ArchTraits {
  return kernel.profile.arch === 's390x' ? S390X : X86_64;
}

/** Bytes of all memory objects. */
function mappedBytes(scenario: Scenario): bigint {
  return scenario.memory.reduce((sum, { spec }) => sum + spec.size, 0n);
}

function pagesOf(bytes: bigint): number {
  return Number((bytes + PAGE - 1n) / PAGE);
}

const ZONE_KINDS: readonly (readonly [Exclude<keyof ZonesSpec, 'dimm'>, ZoneKind])[] = [
  ['dma32', 'DMA32'],
  ['normal', 'NORMAL'],
  ['movable', 'MOVABLE'],
  ['cma', 'CMA'],
  ['device', 'DEVICE'],
];

export function buildMachine(scenario: Scenario, host: HostSpec, arch: ArchTraits): Machine {
  const nodes = host.nodes ?? (Array.isArray(host.memory) ? host.memory.length : 1);
  const given: readonly ZonesSpec[] =
    host.memory === undefined
      ? Array.from({ length: nodes }, () => ({ normal: mappedBytes(scenario) * 2n + SPARE_BYTES + hugeBytes(host) }))
      : Array.isArray(host.memory)
        ? host.memory
        : [host.memory as ZonesSpec];
  const zones: ZoneSpec[] = [];
  for (const [node, spec] of given.entries()) {
    for (const [key, kind] of ZONE_KINDS) {
      const size = spec[key];
      if (size !== undefined && size > 0n) zones.push({ kind, node, pages: pagesOf(size) });
    }
    if (spec.dimm !== undefined) {
      const kind = spec.dimm.zone === 'movable' ? 'MOVABLE' : 'NORMAL';
      zones.push({ kind, node, pages: pagesOf(spec.dimm.size), align: MEMORY_BLOCK_PAGES });
    }
  }
  // BARs and persistent memory: frames of their own that no allocator knows; each starts where a huge entry can.
  const memory = scenario.memory.filter(({ spec }) => spec.kind === 'bar' || spec.kind === 'fsdax');
  const bars = scenario.devices.flatMap(({ spec }) => spec.bars ?? []);
  const sizes = [...memory.map(({ spec }) => spec.size), ...bars.map(({ size }) => size)];
  if (sizes.length > 0 && !zones.some((zone) => zone.kind === 'DEVICE')) {
    const pages = sizes.reduce((sum, size) => sum + Math.ceil(pagesOf(size) / PMD_PAGES) * PMD_PAGES, 0);
    zones.push({ kind: 'DEVICE', node: 0, pages: pages + 1024 });
  }
  return new Machine(arch, zones);
}

function hugeBytes(host: HostSpec): bigint {
  const pool = host.hugepages ?? {};
  return BigInt(pool['2MiB'] ?? 0) * (2n << 20n) + BigInt(pool['1GiB'] ?? 0) * (1n << 30n);
}

/** transparent_hugepage/enabled */
function thpOf(kernel: Kernel, host: HostSpec): CoreMmParams['thp'] {
  if (!kernel.has('thp.present')) return 'never';
  return host.thp ?? (kernel.has('thp.enabled-always') ? 'always' : 'madvise');
}

export function buildParams(kernel: Kernel, scenario: Scenario, host: HostSpec): Partial<CoreMmParams> {
  const pool = host.hugepages ?? {};
  const hugePages: Record<number, number> = {};
  if (pool['2MiB'] !== undefined) hugePages[9] = pool['2MiB'];
  if (pool['1GiB'] !== undefined) hugePages[18] = pool['1GiB'];
  return {
    stepPages: host.step_pages ?? (mappedBytes(scenario) > BULK_BYTES ? BULK_STEP_PAGES : 1),
    ...(host.migrate_passes === undefined ? {} : { migratePasses: host.migrate_passes }),
    ...(host.reuse === undefined ? {} : { reuse: host.reuse }),
    thp: thpOf(kernel, host),
    ...(host.swap === undefined ? {} : { swapSlots: pagesOf(host.swap) }),
    hugePages,
  };
}

export function buildLatencies(host: HostSpec): LatencyModel {
  return new LatencyModel({ ...LATENCY_DEFAULTS, ...(host.latencies ?? {}) });
}
