// The build options that change what the model does: sensible distribution defaults by version and architecture, and
// the recorded values of kernels whose behaviour was observed (reality/kernel-config.json).
import type { Arch } from './behaviour.ts';
import { compareSeries, parseVersion, type Version } from './version.ts';

export type OptionValue = 'y' | 'm' | 'n';
/** Option names without the CONFIG_ prefix. An option that is absent is not set. */
export type Config = Readonly<Record<string, OptionValue>>;

interface OptionDefault {
  readonly value: OptionValue;
  /** Mainline release that introduced the option; before it the option is not set. */
  readonly since?: string;
  readonly arch?: readonly Arch[];
}

/** What a distribution kernel of the time and architecture usually has. */
const DEFAULTS: Readonly<Record<string, OptionDefault>> = {
  AMD_IOMMU: { value: 'y', arch: ['x86_64'] },
  ARM_SMMU_V3: { value: 'y', arch: ['arm64'] },
  CMA: { value: 'y', arch: ['arm64', 's390x'] },
  COMPACTION: { value: 'y' },
  DEBUG_PAGE_REF: { value: 'n' },
  DEV_DAX: { value: 'm' },
  FS_DAX: { value: 'y' },
  GUP_TEST: { value: 'n', since: '5.11' },
  HUGETLBFS: { value: 'y' },
  INTEL_IOMMU: { value: 'y', arch: ['x86_64'] },
  IOMMUFD: { value: 'm', since: '6.2' },
  IOMMUFD_VFIO_CONTAINER: { value: 'n', since: '6.2' },
  IOMMU_DEFAULT_DMA_LAZY: { value: 'y', arch: ['x86_64', 's390x'] },
  IO_URING: { value: 'y' },
  KSM: { value: 'y' },
  KVM: { value: 'm' },
  KVM_PRIVATE_MEM: { value: 'y', since: '6.8', arch: ['x86_64'] },
  KVM_SW_PROTECTED_VM: { value: 'n', since: '6.8' },
  KVM_VFIO: { value: 'y' },
  LRU_GEN: { value: 'y', since: '6.1' },
  LRU_GEN_ENABLED: { value: 'n', since: '6.1' },
  MEMFD_CREATE: { value: 'y' },
  MEMORY_FAILURE: { value: 'y', arch: ['x86_64', 'arm64'] },
  MEMORY_HOTPLUG: { value: 'y' },
  MEMORY_HOTREMOVE: { value: 'y' },
  MIGRATION: { value: 'y' },
  NUMA_BALANCING: { value: 'y' },
  PARAVIRT: { value: 'y', arch: ['x86_64'] },
  PREEMPT: { value: 'n' },
  READ_ONLY_THP_FOR_FS: { value: 'n', since: '5.4' },
  S390_IOMMU: { value: 'y', arch: ['s390x'] },
  SECRETMEM: { value: 'y', since: '5.14', arch: ['x86_64', 'arm64'] },
  TRANSPARENT_HUGEPAGE: { value: 'y' },
  TRANSPARENT_HUGEPAGE_ALWAYS: { value: 'y' },
  UDMABUF: { value: 'y', arch: ['x86_64'] },
  USERFAULTFD: { value: 'y' },
  VFIO: { value: 'm' },
  VFIO_CONTAINER: { value: 'y', since: '6.2' },
  VFIO_DEVICE_CDEV: { value: 'n', since: '6.6' },
  VFIO_GROUP: { value: 'y', since: '6.6' },
  VFIO_IOMMU_TYPE1: { value: 'm' },
  VFIO_MDEV: { value: 'm' },
  VFIO_NOIOMMU: { value: 'n' },
  VFIO_PCI: { value: 'm' },
  ZONE_DEVICE: { value: 'y' },
};

/** What the recorded kernels differ in from the defaults of their version. */
const RECORDED: Readonly<Record<string, Config>> = {
  'v6.1.192': { UDMABUF: 'n' },
  'v6.12.117': { IOMMUFD: 'n', LRU_GEN_ENABLED: 'y' },
  'v6.12.117+pinlab': {
    CMA: 'y',
    DEBUG_PAGE_REF: 'y',
    GUP_TEST: 'y',
    IOMMUFD: 'y',
    KVM_SW_PROTECTED_VM: 'y',
    VFIO_DEVICE_CDEV: 'y',
    VFIO_MDEV: 'n',
    AMD_IOMMU: 'n',
  },
};

/** The options of the profile of that canonical name, version and architecture. Keys in alphabetical order. */
export function configFor(name: string, version: Version, arch: Arch, overrides: Config = {}): Config {
  const config: Record<string, OptionValue> = {};
  for (const [option, fact] of Object.entries(DEFAULTS)) {
    if (fact.since !== undefined && compareSeries(version, parseVersion(fact.since)) < 0) continue;
    config[option] = fact.arch === undefined || fact.arch.includes(arch) ? fact.value : 'n';
  }
  Object.assign(config, RECORDED[name], overrides);
  return Object.fromEntries(Object.entries(config).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Every option that a profile can have, in alphabetical order. */
export function knownOptions(): readonly string[] {
  return Object.keys(DEFAULTS);
}

/** Whether the option is built in or a module. */
export function isSet(config: Config, option: string): boolean {
  return config[option] === 'y' || config[option] === 'm';
}
