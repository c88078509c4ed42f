// Where does the limit bite, and what would have been enough?
import type { Template } from './template.ts';

export const MEMLOCK: Template = {
  name: 'memlock',
  summary: 'a VMM whose RLIMIT_MEMLOCK is too small for the memory that it maps for a device',
  text: `# Editors complete and check this file once \`pinsim schema -o scenario.schema.json\` has been run beside it.
$schema: ./scenario.schema.json
title: A guest of 64 MiB and a limit of 48 MiB
source: the report that you are looking into
kernel: v5.15

# RLIMIT_MEMLOCK in bytes, as \`prlimit -p PID --memlock\` prints it.
host: {memory: {normal: 256MiB}, memlock: 48MiB}
memory:
  ram: {kind: anon, size: 64MiB}
processes:
  qemu: {uid: 1000, maps: {ram: {prot: rw}}}       # add \`capabilities: [CAP_IPC_LOCK]\` and the limit is gone
devices:
  gpu: {process: qemu, attach: vfio-type1}
actors:
  qemu:
    # QEMU maps guest RAM in the pieces that the guest sees: below and above a hole.
    - vfio.map: {device: gpu, iova: 0, memory: ram, offset: 0, length: 32MiB, prot: rw}
      returns: 0
    - vfio.map: {device: gpu, iova: 4GiB, memory: ram, offset: 32MiB, length: 32MiB, prot: rw}
      expect: ENOMEM
      as: high
    # What was mapped before stays mapped and charged; the piece that failed is rolled back whole.
    - status:
      shows: {VmLck: 32MiB}
      as: charged
expect:
  always:
    - {kind: pin-failure, errno: ENOMEM, short-by: 16777216}

# A case may change the machine, and what it expects of steps that have a name.
cases:
  - {name: limit too small}
  - name: limit as large as the guest
    host: {memlock: 64MiB}
    expect: {}
    steps:
      high: {expect: ok}
      charged: {shows: {VmLck: 64MiB}}
`,
};
