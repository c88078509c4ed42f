// Who there is: processes with their mappings and descriptors, virtual machines, devices, and the actors that perform
// scripts on behalf of one of them.
import * as z from 'zod';
import type { Capability } from '../../mm/process/task.ts';
import { type Ref, zRef, zScript } from './reference.ts';
import { zAddress, zCount, zDuration, zLimit, zName, zSize } from './scalar.ts';
import { zMap } from './schema-memory.ts';

const CAPABILITIES = [
  ...['CAP_IPC_LOCK', 'CAP_KILL', 'CAP_SYS_ADMIN', 'CAP_SYS_NICE', 'CAP_SYS_PTRACE', 'CAP_SYS_RAWIO'],
  'CAP_SYS_RESOURCE',
] as readonly Capability[] as [Capability, ...Capability[]];

/** `name:` with nothing behind it means all defaults. */
export function orEmpty<T extends z.ZodObject>(type: T) {
  return z.union([type, z.null().transform((): z.output<T> => type.parse({}))]).describe(type.description ?? '');
}

const zFd = z
  .strictObject({ memory: zRef('memory'), readonly: z.boolean().optional() })
  .describe('An open descriptor of a memory object; it can be passed to other processes.');

export const zProcess = z
  .strictObject({
    uid: zCount(0, 0xffffffff).optional().describe('Default 0, who has every capability.'),
    capabilities: z.array(z.enum(CAPABILITIES)).optional(),
    memlock: zLimit.optional().describe("RLIMIT_MEMLOCK; default: the host's."),
    memlock_hard: zLimit.optional().describe('Its hard limit, up to which it may raise the other; default: the same.'),
    oom_score_adj: zCount(-1000, 1000)
      .optional()
      .describe('What the OOM killer adds to its badness, in thousandths of all memory; -1000: never. Default 0.'),
    threads: zCount(1, 1024)
      .optional()
      .describe('At least as many as actors need, which is the default; others sleep.'),
    node: zCount(0, 63).optional().describe('NUMA node it runs on.'),
    maps: z.record(zName, orEmpty(zMap)).optional().describe('Its mappings, by name.'),
    fds: z
      .record(zName, zFd)
      .optional()
      .describe('Descriptors that it was given, by name; without one it has that with which the object was made.'),
  })
  .describe('A process.');
export type ProcessSpec = z.output<typeof zProcess>;

const zRegion = z
  .strictObject({
    gpa: zAddress.describe('Guest physical address.'),
    memory: zRef('memory').describe('A mapping of the process of the VM.'),
    offset: zAddress.optional().describe('First byte of the mapping; default 0.'),
    size: zSize.optional().describe('Default: to the end of the mapping.'),
    slot: zCount(0, 32767).optional().describe('Memslot number; default: its place in the list.'),
    readonly: z.boolean().optional().describe('KVM_MEM_READONLY.'),
    log_dirty: z.boolean().optional().describe('KVM_MEM_LOG_DIRTY_PAGES.'),
    guest_memfd: zRef('memory').optional().describe('A guest_memfd bound to the slot.'),
    guest_memfd_offset: zAddress.optional(),
  })
  .describe('A memslot.');

export const zVm = z
  .strictObject({
    process: zRef('process').describe('The VMM.'),
    vcpus: zCount(1, 1024).optional().describe('Default 1.'),
    regions: z.array(zRegion).optional().describe('Memslots present from the start.'),
    type: z.enum(['default', 'sw-protected']).optional().describe('What KVM_CREATE_VM was asked for.'),
  })
  .describe('A virtual machine.');
export type VmSpec = z.output<typeof zVm>;

const zBar = z.strictObject({ index: zCount(0, 5).optional(), size: zSize }).describe('A memory BAR.');

export const zDevice = z
  .strictObject({
    process: zRef('process').optional().describe('Who drives it from user space.'),
    attach: z
      .enum(['vfio-type1', 'vfio-type1v1', 'iommufd', 'none'])
      .optional()
      .describe('How it is attached at the start; none: an operation does it.'),
    group: zName.optional().describe('IOMMU group; devices that name the same one share it.'),
    container: zName.optional().describe('VFIO container; default: one per process.'),
    emulated: z
      .boolean()
      .optional()
      .describe('A mediated device: no DMA of its own; its driver pins pages (mdev.pin).'),
    bars: z.array(zBar).optional(),
    dma_mask_bits: zCount(1, 64)
      .optional()
      .describe('Width of the addresses that it can emit: of wider ones the upper bits are lost. Default 64.'),
    late: zDuration
      .optional()
      .describe(
        'How long a transaction takes from its translation to memory; an invalidation of that translation waits for it. ' +
          'In a search any time. Default: both are one step.',
      ),
  })
  .describe('A device that does DMA.');
export type DeviceSpec = z.output<typeof zDevice>;

const zBinding = z.strictObject({
  on: zName.optional().describe('A process, VM or device, or `kernel`; default: the one named like the actor.'),
  vcpu: zCount(0, 1023).optional().describe('Which vCPU of a VM; default 0.'),
  cpu: zCount(0, 4095).optional().describe('Host CPU that it runs on; default: one of its own.'),
  do: zScript(),
});

export type ActorSpec = z.output<typeof zBinding>;

/** A list of steps, or who performs it and the list. */
export const zActor = z
  .union([zScript().transform((script): ActorSpec => ({ do: script })), zBinding])
  .describe('A list of steps; or {on, cpu, do} to say who performs it.');

/** The memory object behind a mapping. */
export function memoryOfMap(name: string, map: { readonly memory?: Ref | undefined }): string {
  return map.memory?.name ?? name;
}
