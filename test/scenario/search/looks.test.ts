// What an operation looks at when it begins, and what other operations may change: names, address spaces, credentials,
// limits. Whatever a random run comes to, explore comes to as well.
import { describe, expect, it } from 'vitest';
import { loadScenario } from '../../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../../src/scenario/operations/index.ts';
import { sharedNames } from '../../../src/scenario/world/shared-names.ts';
import { expectAllExplored, kindsOf } from './outcomes.ts';

const WORLD = `
title: looks
kernel: v6.12.117
host: {memory: {normal: 64MiB}}
memory:
  ram: {kind: anon, size: 8KiB, populate: write}
  file: {kind: file, size: 4KiB}
processes:
  app: {uid: 0, memlock: 4KiB, maps: {ram: {}, file: {}}}
  other: {uid: 0, maps: {}}
expect: {possible: [unexpected-outcome]}
actors:
`;

type Outcomes = ReadonlyMap<string, readonly string[]>;

/** Actors with a script in a line each; `instead` of what in the world stands what. */
function race(scripts: Readonly<Record<string, string>>, instead?: readonly [string, string]): Outcomes {
  const actors = Object.entries(scripts).map(([name, script]) => `  ${name}: {${script}}\n`);
  const world = instead === undefined ? WORLD : WORLD.replace(...instead);
  const scenario = loadScenario('looks.yaml', world + actors.join(''), OPERATIONS);
  return expectAllExplored(scenario, scenario.cases[0]!);
}

/** As written it went in one order, and not in another. */
function expectBoth(outcomes: Outcomes): void {
  const found = [...outcomes.values()];
  expect([...kindsOf(found)]).toContain('unexpected-outcome');
  expect(found).toContainEqual([]);
}

/** In one order an actor looked for what was not there yet. */
function expectMistake(outcomes: Outcomes): void {
  const ends = [...outcomes.keys()].map((outcome) => outcome.split(' ').at(-1));
  expect(new Set(ends)).toEqual(new Set(['done', 'cut']));
}

describe('credentials', () => {
  it('a thread that locks memory has those that it had when it entered the kernel', () => {
    expectBoth(race({ a: 'on: app, do: [{mlock: {memory: ram}}]', b: 'on: app, do: [{setuid: {uid: 1000}}]' }));
  });

  it('who is asked for leave at a limit of 0 is asked before any lock', () => {
    const instead = ['memlock: 4KiB', 'memlock: 0'] as const;
    const a = 'on: app, do: [{mlock: {memory: ram}, expect: [ok, EPERM]}]';
    race({ a, b: 'on: app, do: [{setuid: {uid: 1000}}]' }, instead);
    const user = ['uid: 0, memlock: 4KiB', 'uid: 1000, memlock: 0, memlock_hard: 8KiB'] as const;
    race({ a, b: 'on: app, do: [{setrlimit: {memlock: 8KiB}}]' }, user);
  });

  it('of a ring are those of who set it up', () => {
    expectBoth(
      race({
        a: 'on: app, do: [{iouring.setup: {as: ring}}, {iouring.register: {ring: ring, buffers: [{memory: ram}]}}]',
        b: 'on: app, do: [{setuid: {uid: 1000}}]',
      }),
    );
  });

  it('of a process whose memory is read count when it is opened', () => {
    const instead = ['other: {uid: 0', 'other: {uid: 1000'] as const;
    const b = 'on: app, do: [{setuid: {uid: 1000}}]';
    expectBoth(race({ a: 'on: other, do: [{proc_mem.read: {memory: ram, process: app}}]', b }, instead));
    expectBoth(
      race({ a: 'on: other, do: [{setrlimit: {process: app, memlock: 4KiB, memlock_hard: 4KiB}}]', b }, instead),
    );
  });

  it('and limits that a child gets are those at one moment of fork', () => {
    const a = 'on: app, do: [{fork: {as: child, child: [{mlock: {memory: ram}}]}}]';
    expectBoth(race({ a, b: 'on: app, do: [{setuid: {uid: 1000}}]' }));
    const user = ['uid: 0, memlock: 4KiB', 'uid: 1000, memlock: 8KiB'] as const;
    expectBoth(race({ a, b: 'on: app, do: [{setrlimit: {memlock: 4KiB}}]' }, user));
  });
});

describe('an address space that goes', () => {
  it('is that of the thread when it enters the kernel', () => {
    race({ a: 'on: app, do: [{mmap: {name: more, size: 4KiB}}]', b: 'on: app, do: [{exec: {}}]' });
    race({
      a: 'on: app, do: [{mlock: {at: 0x100000, length: 4KiB}, expect: [ok, ENOMEM]}]',
      b: 'on: app, do: [{exec: {}}]',
    });
  });

  it('is looked up in the process that another names', () => {
    for (const operation of [
      'status: {process: app}',
      'smaps: {process: app}',
      'clear_refs: {process: app}',
      'khugepaged: {process: app}',
      'migrate_pages: {process: app, from: [0], to: [0]}',
      'pagemap: {memory: ram, process: app}',
      'proc_mem.read: {memory: ram, process: app}',
    ]) {
      const a = `on: other, do: [{${operation}, expect: [ok, ESRCH, EIO]}]`;
      race({ a, b: 'on: app, do: [{exit: {}}]' });
      race({ a, b: 'on: app, do: [{exec: {}}]' });
    }
  });
});

describe('names', () => {
  const MAKERS = {
    region: ['odp.reg: {memory: ram, as: one}', 'odp.dereg: {region: one}'],
    'direct IO': ['dio.submit_read: {file: file, memory: ram, as: one}', 'dio.wait: {io: one}'],
    ring: ['iouring.setup: {as: one}', 'iouring.register: {ring: one, buffers: [{memory: ram, length: 4KiB}]}'],
    child: ['fork: {as: one, stays: true}', 'kill: {process: one}'],
    VM: ['kvm.create_vm: {as: one}', 'kvm.vcpu_map: {vm: one, gpa: 0, as: map}'],
  } as const;
  for (const [what, [make, use]] of Object.entries(MAKERS)) {
    it(`of a ${what} is there once the call that makes it has returned`, { timeout: 60_000 }, () => {
      expectMistake(race({ a: `on: app, do: [{${make}}]`, b: `on: app, do: [{${use}, expect: [ok, EFAULT]}]` }));
    });
  }

  it('of a cache is there with its VM', () => {
    const vm = ['expect: {', 'vms: {guest: {process: app, regions: [{gpa: 0, memory: ram}]}}\nexpect: {'] as const;
    const b = 'on: app, do: [{gpc.refresh: {cache: one}, expect: [ok, EINVAL]}]';
    const ends = race({ a: 'on: app, do: [{gpc.activate: {gpa: 0, as: one}}]', b }, vm).keys();
    for (const end of ends) expect(end).toContain('done');
  });

  it('of a descriptor is looked up where it is installed', () => {
    race({
      a: 'on: app, do: [{vfio.open_container: {as: c}}]',
      b: 'on: app, do: [{close: {fd: c}, expect: [ok, EBADF]}]',
    });
  });

  it('needs no look of who has waited for its maker', () => {
    const scenario = (b: string) =>
      loadScenario(
        'looks.yaml',
        `${WORLD}  a: {on: app, do: [{odp.reg: {memory: ram, as: mr}}]}\n  b: {${b}}\n`,
        OPERATIONS,
      );
    const looks = (b: string) => sharedNames(scenario(b)).size;
    expect(looks('on: app, do: [{odp.dereg: {region: mr}}]')).toBe(1);
    expect(looks('on: app, do: [{wait: a}, {odp.dereg: {region: mr}}]')).toBe(0);
    expect(looks('on: app, do: [{choose: [[{wait: a}], []]}, {odp.dereg: {region: mr}}]')).toBe(1);
  });
});

describe('a VM whose last descriptor is closed', () => {
  it('is run by a vCPU that came first, or not at all', { timeout: 120_000 }, () => {
    const vm = ['expect: {', 'vms: {guest: {process: app, regions: [{gpa: 0, memory: ram}]}}\nexpect: {'] as const;
    const a = 'on: guest, do: [{vcpu.read: {gpa: 0}, expect: [ok, EIO]}]';
    const found = race({ a, b: 'on: app, do: [{close: {fd: guest}}]' }, vm);
    expect([...kindsOf([...found.values()])]).toEqual([]);
  });
});

describe('a page whose memory is to go offline', () => {
  it('is looked up in a step', { timeout: 120_000 }, () => {
    const host = ['{normal: 64MiB}}', '[{normal: 64MiB}, {normal: 64MiB}], migrate_passes: 1}'] as const;
    const a = 'on: app, do: [{offline: {memory: ram, rounds: 1}, expect: [ok, EINVAL]}]';
    const found = race({ a, b: 'on: app, do: [{madvise: {memory: ram, advice: DONTNEED}}]' }, host);
    expect([...kindsOf([...found.values()])]).toEqual([]);
  });
});

describe('a huge page whose memory is to go offline', () => {
  it('is in use, or in its pool', { timeout: 120_000 }, () => {
    const small = '{normal: 64MiB}}\nmemory:\n  ram: {kind: anon, size: 8KiB, populate: write}';
    const nodes = '[{normal: 64MiB}, {normal: 64MiB}], hugepages: {2MiB: 1}, migrate_passes: 1}';
    const huge = `${nodes}\nmemory:\n  ram: {kind: hugetlb, size: 2MiB, populate: write}`;
    const a = 'on: app, do: [{offline: {memory: ram, rounds: 1}, expect: [ok, EINVAL, EBUSY]}]';
    const found = race({ a, b: 'on: app, do: [{madvise: {memory: ram, advice: DONTNEED}}]' }, [small, huge]);
    expect([...kindsOf([...found.values()])]).toEqual([]);
  });
});

describe('the container of a device', () => {
  it('is the one that its group is in when the call begins', { timeout: 120_000 }, () => {
    const device = ['expect: {', 'devices: {nic: {process: app, attach: none}}\nexpect: {'] as const;
    const open = '{vfio.open_container: {as: c}}, {vfio.open_group: {device: nic}, as: open}';
    const a = `on: app, do: [${open}, {vfio.set_container: {device: nic, fd: c}}]`;
    const b = 'on: app, do: [{wait: {actor: a, step: open}}, {vfio.api_version: {device: nic}, expect: [ok, EBADF]}]';
    expectMistake(race({ a, b }, device));
  });
});
