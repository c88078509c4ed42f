// `pinsim explain <operation>`: what it says of arguments comes from their types, and its example can be copied.
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { explain } from '../../../src/scenario/catalogue.ts';
import { loadScenario } from '../../../src/scenario/file/load.ts';
import { CONTROL_WORDS, MODIFIERS } from '../../../src/scenario/file/step.ts';
import { OPERATIONS } from '../../../src/scenario/operations/index.ts';
import { runScenario } from '../../../src/scenario/run.ts';

/** With what examples refer to. A step that fails is not as expected. */
const WORLD = `title: an example
kernel: v6.12
memory: {ram: {kind: anon, size: 64KiB}}
processes: {vmm: {maps: {ram: {}}, memlock: unlimited}}
vms: {guest: {process: vmm}}
devices: {nic: {process: vmm, attach: vfio-type1}}
actors:
  vmm:
`;

describe('the explanation of an operation', () => {
  it.each(OPERATIONS.all().map((operation) => [operation.name, operation] as const))('%s', (name, operation) => {
    const lines = explain(name, OPERATIONS)!;
    expect(lines[0]).toBe(`${name}: ${operation.summary}`);
    const example = lines[lines.indexOf('Example:') + 1]!;
    const [step] = parse(example) as readonly Record<string, unknown>[];
    expect(operation.args.safeParse(step![name]).error?.issues ?? []).toEqual([]);
  });

  it.each([
    ['vfio.map', []],
    ['vfio.unmap', ['vfio.map: {memory: ram, iova: 0x1000}']],
    ['vfio.dirty', []],
    ['vfio.module_param', []],
    ['kvm.vfio_file', ['kvm.create_vfio_device: {}']],
    ['fork', []],
    ['kvm.create_vm', []],
    ['kvm.create_guest_memfd', []],
  ])('%s: the example succeeds in a scenario with the usual names', (name, before) => {
    const lines = explain(name, OPERATIONS)!;
    const example = lines[lines.indexOf('Example:') + 1]!;
    const steps = [...before.map((step) => `  - ${step}`), example].map((step) => `  ${step}\n`).join('');
    const scenario = loadScenario('example.yaml', `${WORLD}${steps}`, OPERATIONS);
    expect(runScenario(scenario, {}).flatMap(({ failed }) => failed)).toEqual([]);
    expect(example).toMatch(/: \{[^}]/);
  });

  it('names every argument, and those that must be there', () => {
    const text = explain('vfio.map', OPERATIONS)!.join('\n');
    expect(text).toContain('iova (needed)');
    expect(text).toMatch(/set_vaddr {2,}VFIO_DMA_MAP_FLAG_VADDR/);
  });
});

describe('words of scripts', () => {
  it.each([...CONTROL_WORDS, ...MODIFIERS])('%s is explained', (word) => {
    expect(explain(word, OPERATIONS)?.[0]).toMatch(new RegExp(`^${word}: [A-Z]`));
  });
});
