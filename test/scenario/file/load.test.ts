// A scenario file becomes a checked Scenario.
import { describe, expect, it } from 'vitest';
import { ScenarioError } from '../../../src/scenario/file/diagnostic.ts';
import { loadScenario } from '../../../src/scenario/file/load.ts';
import { Ref, type Script } from '../../../src/scenario/file/reference.ts';
import type { Scenario } from '../../../src/scenario/file/scenario.ts';
import { growArgs, growBy, type OperationStep, type ScriptStep } from '../../../src/scenario/file/step.ts';
import { UNLIMITED } from '../../../src/scenario/file/units.ts';
import { registry } from '../operations.ts';

function load(text: string): Scenario {
  try {
    return loadScenario('a.yaml', text, registry);
  } catch (error) {
    if (error instanceof ScenarioError) throw new Error(error.message);
    throw error;
  }
}

const Q35 = `
title: q35 guest with 4 GiB and a memlock limit of 97 % of it
source: a field report
kernel: v5.15
host: {memory: {dma32: 4GiB, normal: 12GiB}, memlock: 4193574912}
memory: {ram: {kind: anon, size: 4GiB}}
processes: {qemu: {uid: 1000, maps: {ram: {prot: rw}}}}
devices: {gpu: {process: qemu, attach: vfio-type1}}
actors:
  qemu:
    - vfio.map: {device: gpu, iova: 0, memory: ram, offset: 0, length: 2GiB, prot: rw}
      returns: 0
    - vfio.map: {device: gpu, iova: 4GiB, memory: ram, offset: 2GiB, length: 2GiB, prot: rw}
      expect: ENOMEM
expect:
  always:
    - {kind: pin-failure, errno: ENOMEM, limit: RLIMIT_MEMLOCK, short-by: 101392384}
`;

/** A file with the given steps of the process `vmm`. */
function withSteps(steps: string): string {
  return `title: x\nmemory: {ram: {kind: anon, size: 1MiB}}\nprocesses: {vmm: {maps: {ram: }}}\nactors:\n  vmm:\n${steps}`;
}

function stepsOf(scenario: Scenario, actor = 0): readonly ScriptStep[] {
  return scenario.actors[actor]!.script.steps;
}

describe('a scenario', () => {
  it('reads a report of a user', () => {
    const scenario = load(Q35);
    expect(scenario.sources).toEqual(['a field report']);
    expect(scenario.cases).toHaveLength(1);
    const [only] = scenario.cases;
    expect(only).toMatchObject({ name: 'v5.15', kernel: 'v5.15', host: { memlock: 4193574912n } });
    expect(only!.expect.always).toEqual([
      { kind: 'pin-failure', details: { errno: 'ENOMEM', limit: 'RLIMIT_MEMLOCK', 'short-by': 101392384 } },
    ]);
    expect(scenario.processes[0]!.maps[0]).toMatchObject({ memory: 'ram', length: 4n << 30n, shared: false });
    const [first, second] = stepsOf(scenario) as readonly OperationStep[];
    expect(first!.operation.name).toBe('vfio.map');
    expect(first!.args).toEqual({
      device: new Ref(['device'], 'gpu'),
      iova: 0n,
      memory: new Ref(['memory'], 'ram'),
      offset: 0n,
      length: 2n << 30n,
      prot: { read: true, write: true, exec: false },
    });
    expect(first!.expectation).toEqual({ returns: 0 });
    expect(second!.expectation).toEqual({ expect: ['ENOMEM'] });
    expect(second!.where).toEqual({ file: 'a.yaml', line: 13, column: 7 });
  });

  it('binds an actor to what has its name, and vcpu0 to the only VM', () => {
    const scenario = load(`
title: x
memory: {ram: {kind: anon, size: 8KiB}}
processes: {vmm: {maps: {ram: }}}
vms: {guest: {process: vmm, vcpus: 2, regions: [{gpa: 0, memory: ram}]}}
devices: {nic: }
actors: {vmm: [], guest: [], nic: [], vcpu1: [], other: {on: vmm, cpu: 3, do: []}, kernel: []}
`);
    expect(
      scenario.actors.map((actor) => [actor.name, actor.subjectKind, actor.subject, actor.vcpu, actor.cpu]),
    ).toEqual([
      ['vmm', 'process', 'vmm', 0, undefined],
      ['guest', 'vcpu', 'guest', 0, undefined],
      ['nic', 'device', 'nic', 0, undefined],
      ['vcpu1', 'vcpu', 'guest', 1, undefined],
      ['other', 'process', 'vmm', 0, 3],
      ['kernel', 'kernel', 'kernel', 0, undefined],
    ]);
  });

  it('gives each case its kernel, behaviours, machine and expectations', () => {
    const scenario = load(`
title: x
kernel: v6.1
host: {cpus: 2, memlock: 8MiB, memory: {normal: 1GiB, movable: 1GiB}}
processes: {vmm: }
actors: {vmm: [{reclaim: {}, as: first}]}
expect: {possible: [deadlock]}
cases:
  - {}
  - {kernel: v6.12, host: {memlock: unlimited, memory: {movable: 2GiB}}, expect: {}, steps: {first: {expect: any}}}
  - {name: short, kernel: v5.10}
`);
    expect(scenario.cases.map(({ name, kernel }) => [name, kernel])).toEqual([
      ['v6.1', 'v6.1'],
      ['v6.12', 'v6.12'],
      ['short', 'v5.10'],
    ]);
    expect(scenario.cases[0]!.expect).toEqual({ always: [], possible: [{ kind: 'deadlock', details: {} }] });
    expect(scenario.cases[1]).toMatchObject({
      host: { cpus: 2, memlock: UNLIMITED, memory: { normal: 1n << 30n, movable: 2n << 30n } },
      expect: { always: [], possible: [] },
      steps: { first: { expect: ['any'] } },
    });
  });

  it('takes mapping options from the object unless the mapping says otherwise', () => {
    const scenario = load(`
title: x
memory: {ram: {kind: shmem, size: 64KiB, populate: write, prot: r, advice: [NOHUGEPAGE]}}
processes: {vmm: {maps: {ram: , alias: {memory: ram, offset: 8KiB, prot: rw, shared: false, populate: false}}}}
actors: {vmm: []}
`);
    const [ram, alias] = scenario.processes[0]!.maps;
    expect(ram).toMatchObject({ shared: true, populate: 'write', prot: { write: false }, advice: ['NOHUGEPAGE'] });
    expect(alias).toMatchObject({ memory: 'ram', offset: 8192n, length: 57344n, shared: false, populate: 'none' });
    expect(alias).toMatchObject({ prot: { write: true }, advice: ['NOHUGEPAGE'] });
  });

  it('names a kernel of another architecture after it', () => {
    const scenario = load('title: x\nkernel: v6.12\narch: s390x\nprocesses: {a: }\nactors: {a: []}\n');
    expect(scenario.cases[0]!.kernel).toBe('v6.12+s390x');
  });
});

describe('a script', () => {
  it('has control words beside operations', () => {
    const steps = stepsOf(
      load(
        withSteps(`    - at: 10us
    - sleep: 1ms
    - wait: {actor: kernel, step: freed}
    - wait: [kernel]
    - {wait: {actor: kernel, label: 'shrink_folio_list:unmap', time: 2}}
    - repeat: {times: 3, advance: {offset: 4KiB}, do: [{touch: {memory: ram, offset: 8KiB}}]}
    - choose: [[{touch: {memory: ram}}], []]
  kernel: [{reclaim: , as: freed}]
`),
      ),
    );
    const kernel = new Ref(['actor'], 'kernel');
    expect(steps.map((step) => step.kind)).toEqual(['at', 'sleep', 'wait', 'wait', 'wait', 'repeat', 'choose']);
    expect(steps[0]).toMatchObject({ timeNs: 10_000 });
    expect(steps[1]).toMatchObject({ durationNs: 1_000_000 });
    expect(steps[2]).toMatchObject({ targets: [{ actor: kernel, step: 'freed' }] });
    expect(steps[3]).toMatchObject({ targets: [{ actor: kernel }] });
    expect(steps[4]).toMatchObject({ targets: [{ actor: kernel, label: 'shrink_folio_list:unmap', time: 2 }] });
    expect(steps[5]).toMatchObject({ times: 3, advance: { offset: 4096n } });
  });

  it('advances sizes and addresses of a repeated step by the round', () => {
    const args = { memory: new Ref(['memory'], 'ram'), offset: 8192n };
    expect(growArgs(args, growBy({}, { offset: 4096n }, 0))).toEqual(args);
    expect(growArgs(args, growBy({}, { offset: 4096n, iova: 1n }, 3))).toEqual({ ...args, offset: 20480n });
  });

  it('adds the rounds of a repetition to those of the one around it', () => {
    const outer = growBy({}, { offset: 65536n }, 2);
    expect(growArgs({ offset: 0n }, growBy(outer, { offset: 4096n }, 3))).toEqual({ offset: 143360n });
    expect(growArgs({ offset: 0n }, growBy(outer, {}, 3))).toEqual({ offset: 131072n });
  });

  it('can stop an operation in the middle', () => {
    const [step] = stepsOf(
      load(
        withSteps(`    - touch: {memory: ram}
      hold: {at: 'do_anonymous_page:set_pte', until: kernel}
  kernel: [reclaim]
`),
      ),
    );
    expect(step).toMatchObject({
      holds: [{ at: 'do_anonymous_page:set_pte', until: [{ actor: new Ref(['actor'], 'kernel') }] }],
    });
  });

  it('of an operation is another actor that others can wait for', () => {
    const [fork, wait] = stepsOf(
      load(
        withSteps(`    - fork: {as: child, do: [{touch: {memory: ram}, as: touched}]}
    - wait: {actor: child, step: touched}
    - wait: child
`),
      ),
    );
    const child = (fork as OperationStep).args as { readonly do: Script<ScriptStep> };
    expect(child.do.steps[0]).toMatchObject({ kind: 'operation', name: 'touched' });
    expect(wait).toMatchObject({ targets: [{ step: 'touched' }] });
  });

  it('may name an operation without arguments alone', () => {
    const steps = stepsOf(load(withSteps('    - reclaim\n    - reclaim:\n    - reclaim: {}\n')));
    expect(steps.map((step) => (step as OperationStep).args)).toEqual([{}, {}, {}]);
  });
});
