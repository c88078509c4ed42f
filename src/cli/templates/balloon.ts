// The hazard that began it all: memory given back under a device.
import type { Template } from './template.ts';

export const BALLOON: Template = {
  name: 'balloon',
  summary: 'a balloon gives pages back with MADV_DONTNEED while a device is mapped to them',
  text: `# Editors complete and check this file once \`pinsim schema -o scenario.schema.json\` has been run beside it.
$schema: ./scenario.schema.json
title: MADV_DONTNEED under a VFIO mapping leaves the device on the old page
source: the rule of VMMs that inflating a balloon is not safe with assigned devices
kernel: v6.12.117
host: {cpus: 2, memory: {normal: 64MiB}, memlock: unlimited}

memory:
  ram: {kind: anon, size: 16MiB, populate: true}    # all pages present from the start
processes:
  vmm: {uid: 1000, maps: {ram: {at: 0x7f0000000000, prot: rw}}}
vms:
  guest: {process: vmm, vcpus: 1, regions: [{gpa: 0, memory: ram}]}
devices:
  nic: {process: vmm, attach: vfio-type1}

actors:
  vmm:
    - vfio.map: {device: nic, iova: 0, memory: ram, prot: rw}
      returns: 0
    # The balloon: the guest promised not to use this page.
    - madvise: {memory: ram, offset: 0x1000, length: 4KiB, advice: DONTNEED}
  guest:
    # It uses it after all, and gets a new page: the device still has the old one.
    - wait: vmm
    - vcpu.write: {gpa: 0x1000, value: A}
  nic:
    - wait: guest
    - dma.read: {iova: 0x1000}
      shows: {value: {not: A}}

# What a run must report (\`always\`), and what it may (\`possible\`). \`pinsim explain incoherent-mapping\` says more.
expect:
  always: [incoherent-mapping]
`,
};
