// The smallest scenario with a device.
import type { Template } from './template.ts';

export const VFIO_MAP: Template = {
  name: 'vfio-map',
  summary: 'a process maps memory for a device, both see each other, and it is unmapped again',
  text: `# Editors complete and check this file once \`pinsim schema -o scenario.schema.json\` has been run beside it.
$schema: ./scenario.schema.json
title: A device reads what the process wrote, and writes what it reads
source: the VFIO type1 user interface

# \`pinsim list kernels\` shows which there are.
kernel: v6.12.117

# The machine. Everything has a default; write what your story depends on.
host:
  memory: {normal: 64MiB}
  memlock: unlimited

# Memory objects by name: what backs the pages (\`pinsim list memory-kinds\`).
memory:
  ram: {kind: anon, size: 1MiB}

# Who maps them.
processes:
  vmm:
    uid: 1000
    maps:
      ram: {prot: rw}

devices:
  nic: {process: vmm, attach: vfio-type1}

# Who does what. Actors of the same name as a process, VM or device act for it; all run at once.
actors:
  vmm:
    # One operation per step (\`pinsim list operations\`). What is written beside it is checked.
    - cpu.write: {memory: ram, offset: 0x1000, value: A}
    - vfio.map: {device: nic, iova: 0, memory: ram, prot: rw}
      returns: 0
      as: mapped                # a name, so that others can wait for this step
    - wait: nic                 # until the actor \`nic\` has ended
    - cpu.read: {memory: ram, offset: 0x2000}
      shows: {value: B}
    - vfio.unmap: {device: nic, iova: 0, size: 1MiB}
  nic:
    - wait: {actor: vmm, step: mapped}
    - dma.read: {iova: 0x1000}
      shows: {value: A}
    - dma.write: {iova: 0x2000, value: B}

# No findings are expected: not always, and not possibly.
expect: {}
`,
};
