// A story whose outcome depends on who runs when.
import type { Template } from './template.ts';

export const RACE: Template = {
  name: 'race',
  summary: 'two actors that race, one of them held at a certain step, on two kernels',
  text: `# Editors complete and check this file once \`pinsim schema -o scenario.schema.json\` has been run beside it.
$schema: ./scenario.schema.json
title: The guest touches a page while the VMM takes it away
source: where the story comes from - a commit, a thread, a report
host: {cpus: 2, memory: {normal: 16MiB}}
memory:
  ram: {kind: anon, size: 8KiB, populate: true}
processes:
  vmm: {maps: {ram: {prot: rw}}}
vms:
  guest: {process: vmm, vcpus: 1, regions: [{gpa: 0, memory: ram}]}

# Without waits the order is left open: a run takes one order, decided by costs and by --seed.
# To take one certain order, let actors wait for each other:
#     - wait: guest                             until that actor has ended
#     - wait: {actor: guest, step: wrote}       until a step of it named with \`as: wrote\` has ended
# or hold an operation before one of its inner steps (\`--trace\` shows their labels):
#     - madvise: {memory: ram, advice: DONTNEED}
#       hold: {at: 'zap_pte_range:clear', until: {actor: guest, step: wrote}}
actors:
  guest:
    - vcpu.write: {gpa: 0, value: A}
      as: wrote
    - vcpu.read: {gpa: 0}
      shows: {value: {one-of: [A, zero]}}      # either order is fine
  vmm:
    - madvise: {memory: ram, advice: DONTNEED}
  other:
    on: vmm                                    # a second thread of the same process
    cpu: 1
    do:
      - repeat: {times: 2, do: [{cpu.read: {memory: ram, offset: 4KiB}}]}

# One file, several kernels; each case may switch behaviours and expect findings of its own.
cases:
  - {kernel: v6.1, expect: {}}
  - {kernel: v6.12.117, expect: {}}
`,
};
