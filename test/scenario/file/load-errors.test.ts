// What a person reads who made a mistake in a scenario file: place, offending text, what was expected, what was meant.
import { describe, expect, it } from 'vitest';
import { type Diagnostic, renderDiagnostics, ScenarioError } from '../../../src/scenario/file/diagnostic.ts';
import { loadScenario } from '../../../src/scenario/file/load.ts';
import { runScenario } from '../../../src/scenario/run.ts';
import { registry } from '../operations.ts';

function mistakesOf(text: string): readonly Diagnostic[] {
  try {
    loadScenario('a.yaml', text, registry);
  } catch (error) {
    if (error instanceof ScenarioError) return error.diagnostics;
    throw error;
  }
  return [];
}

/** `[underlined text] message | hint`: the text is cut from the file at the place reported. */
function brief(diagnostic: Diagnostic): string {
  const { where, text = '', length = 0, message, hint } = diagnostic;
  if (where === undefined) return message;
  const underlined = text.slice(where.column - 1, where.column - 1 + length);
  return `[${underlined}] ${message}${hint === undefined ? '' : ` | ${hint}`}`;
}

const FRAME = `title: x
memory: {ram: {kind: anon, size: 1MiB}}
processes: {vmm: {maps: {ram: {}}}}
devices: {nic: {process: vmm}}
`;

describe('the whole text of a mistake', () => {
  it('in a key', () => {
    expect(renderDiagnostics(mistakesOf(`${FRAME}actors:\n  vmm:\n    - touch: {memry: ram}\n`))).toBe(
      [
        'a.yaml:7:7: error: `touch` has no `memory`',
        '  7 |     - touch: {memry: ram}',
        '    |       ^^^^^',
        '    = expected: the name of a memory',
        '',
        'a.yaml:7:15: error: unknown key `memry`',
        '  7 |     - touch: {memry: ram}',
        '    |               ^^^^^',
        '    = expected: `memory`, `offset`, `length` or `value`',
        '    = help: did you mean `memory`?',
      ].join('\n'),
    );
  });

  it('in a value', () => {
    expect(renderDiagnostics(mistakesOf(`${FRAME}host: {memlock: 64MB}\nactors: {vmm: []}\n`))).toBe(
      [
        'a.yaml:5:17: error: unknown unit `MB`',
        '  5 | host: {memlock: 64MB}',
        '    |                 ^^^^',
        '    = expected: a size in bytes such as `64MiB`, `4KiB`, `2GiB` or `0x1000`, or `unlimited`',
        '    = help: write `64MiB`, which always means a power of 1024',
      ].join('\n'),
    );
  });
});

describe('a mistake in what there is', () => {
  it.each([
    ['kernl: v6.1', '[kernl] unknown key `kernl` | did you mean `kernel`'],
    ['kernel: 6.10', '[6.10] `6.1` is a number | write `v6.1`'],
    ['kernel: v6.111', "[v6.111] unknown kernel 'v6.111': the series modelled are 5.4 to 6.19"],
    [
      'with: [gup.nonsense]',
      "[gup.nonsense] --with gup.nonsense: there is no behaviour 'gup.nonsense' | see `pinsim list behaviours`",
    ],
    ['host: {cpus: 0}', '[0] `0` is not in range'],
    ['host: {cpus: two}', '[two] `two` is not a whole number'],
    ['host: {thp: alway}', '[alway] `alway` is not allowed here | did you mean `always`'],
    ['host: {memory: {dma33: 4GiB}}', '[dma33] unknown key `dma33` | did you mean `dma32`'],
    ['host: {nodes: 2, memory: {normal: 1GiB}}', '[2] 2 nodes, and memory for 1'],
    ['host: {iommu: {driver: vdt}}', '[vdt] `vdt` is not allowed here | did you mean `vtd`'],
    [
      'host: {iommu: {reserved: [{start: 0x3000, end: 0x1fff}]}}',
      '[{start: 0x3000, end: 0x1fff}] this range ends before it starts',
    ],
    ['host: [1]', '[[1]] this is a list'],
    ['vms: {g: {process: vmn}}', '[vmn] no process `vmn` | did you mean `vmm`'],
    [
      'vms: {g: {process: vmm, regions: [{gpa: 0, memory: ram, size: 2MiB}]}}',
      '[{gpa: 0, memory: ram, size: 2MiB}] this memslot goes past the end of `ram`',
    ],
    ['vms: {g: {process: vmm, regions: [{gpa: 0, memory: rom}]}}', '[rom] no memory `rom` | did you mean `ram`'],
    ['vms: {vmm: {process: vmm}}', '[vmm] the name `vmm` is that of a process already'],
    ['vms: {kernel: {process: vmm}}', '[kernel] the name `kernel` is reserved for the kernel itself'],
    ['expect: {always: [pin-failur]}', '[pin-failur] `pin-failur` is not allowed here | did you mean `pin-failure`'],
    [
      'expect: {always: [{kind: stale-map}]}',
      '[stale-map] `stale-map` is not allowed here | did you mean `stale-mapping`',
    ],
    ['cases: [{kernel: v6.1}, {kernel: v6.1}]', '[{kernel: v6.1}] there is a case `v6.1` already | give it a `name`'],
    ['cases: [{steps: {nope: {expect: ok}}}]', '[nope] no step is named `nope` | name a step with `as: nope`'],
    ['cases: [{kernel: v6.1}, {kernel: v6.99}]', "[v6.99] unknown kernel 'v6.99': the series modelled are 5.4 to 6.19"],
  ])('%s', (line, expected) => {
    const mistakes = mistakesOf(`${FRAME}${line}\nactors: {vmm: []}\n`).map(brief);
    expect(mistakes).toContainEqual(expect.stringContaining(expected));
  });

  it.each([
    ['{memlock: 2MiB, memlock_hard: 1MiB}', '[2MiB] the soft limit of `p` is above its hard limit'],
    ['{memlock: unlimited, memlock_hard: 1MiB}', '[unlimited] the soft limit of `p` is above its hard limit'],
  ])('process %s', (written, expected) => {
    const mistakes = mistakesOf(`title: x\nprocesses: {p: ${written}}\nactors: {p: []}\n`).map(brief);
    expect(mistakes).toContainEqual(expect.stringContaining(expected));
  });

  it.each(['', ', attach: none', ', attach: vfio-type1'])(
    'a BAR mapped by who has no descriptor of its device%s',
    (attach) => {
      const mapped =
        'memory: {bar: {kind: bar, device: nic, size: 4KiB}}\nprocesses: {p: {maps: {bar: {}}}, q: {maps: {b: {memory: bar}}}}';
      const text = `title: x\n${mapped}\ndevices: {nic: {process: p${attach}}}\nactors: {p: []}\n`;
      const refused = (name: string, map: string) =>
        `[${map}] \`${name}\` has no descriptor of \`nic\` through which to map its BAR | ` +
        `attach \`nic\` to \`${name}\` (process, attach), or map the BAR in a script with vfio.mmap_bar`;
      const own = attach.endsWith('type1') ? [] : [refused('p', 'bar')];
      expect(mistakesOf(text).map(brief)).toEqual([...own, refused('q', 'b')]);
    },
  );

  it('a hard limit below the soft one of the host, known when the world is built', () => {
    const text = 'title: x\nhost: {memlock: 2MiB}\nprocesses: {p: {memlock_hard: 1MiB}}\nactors: {p: []}\n';
    const scenario = loadScenario('a.yaml', text, registry);
    expect(() => runScenario(scenario, {})).toThrow(
      'a.yaml:3:31: error: the soft limit of `p` is above its hard limit',
    );
  });

  it.each([
    ['{kind: annon, size: 4KiB}', '[annon] `annon` is not allowed here | did you mean `anon`'],
    ['{kind: memfd, size: 4KiB}', '[memfd] `memfd` is not allowed here | did you mean `shmem`'],
    ['{kind: anon}', '[a] `a` has no `size`'],
    ['{kind: anon, size: 0}', '[0] this memory has no bytes'],
    ['{kind: anon, size: 4KiB, fs: ext4}', '[fs] unknown key `fs`'],
    ['{kind: bar, size: 4KiB, device: nik}', '[nik] no device `nik`'],
    ['7', '[7] 7 is not allowed here'],
  ])('memory %s', (written, expected) => {
    const mistakes = mistakesOf(`title: x\nmemory: {a: ${written}}\nprocesses: {p: }\nactors: {p: []}\n`).map(brief);
    expect(mistakes).toContainEqual(expect.stringContaining(expected));
  });

  it.each([
    ['{rma: }', '[rma] no memory `rma` | did you mean `ram`'],
    ['{ram: {at: 0x7f0000000001}}', '[0x7f0000000001] `at` is not a multiple of the page size'],
    ['{ram: {length: 2MiB}}', '[{length: 2MiB}] this maps bytes that `ram` does not have'],
    ['{x: {memory: ran}}', '[ran] no memory `ran` | did you mean `ram`'],
    ['{ram: {prot: rq}}', '[rq] unknown protection `rq`'],
  ])('maps %s', (written, expected) => {
    const text = `title: x\nmemory: {ram: {kind: anon, size: 1MiB}}\nprocesses: {vm: {maps: ${written}}}\nactors: {vm: []}\n`;
    expect(mistakesOf(text).map(brief)).toContainEqual(expect.stringContaining(expected));
  });
});

describe('a mistake in a script', () => {
  it.each([
    ['vfio.mapp: {}', '[vfio.mapp] unknown operation `vfio.mapp` | did you mean `vfio.map`'],
    ['frobnicate: {}', '[frobnicate] unknown operation `frobnicate` | see `pinsim list operations`'],
    [
      '{touch: {memory: ram}, reclaim: {}}',
      '[reclaim] a step does one thing, this does `touch` and `reclaim` | write a list entry for each',
    ],
    ['{touch: {memory: ram}, expects: ok}', '[expects] unknown key `expects` | did you mean `expect`'],
    ['{touch: {memory: rom}}', '[rom] no memory `rom` | did you mean `ram`'],
    [
      '{touch: {memory: ram, offset: 4kB}}',
      '[4kB] unknown unit `kB` | write `4KiB`, which always means a power of 1024',
    ],
    ['{touch: {memory: ram}, expect: ENOMEN}', '[ENOMEN] unknown outcome `ENOMEN` | did you mean `ENOMEM`'],
    ['{touch: {memory: ram}, shows: {page: 1}}', '[page] `touch` shows no `page` | did you mean `pages`'],
    ['{touch: {memory: ram}, returns: {atleast: 1}}', '[atleast] unknown key `atleast` | did you mean `at-least`'],
    ['{expect: ok}', '[{expect: ok}] this step does nothing'],
    ['7', '[7] this is a number'],
    ['{vcpu.write: {gpa: 0, value: A}}', '[vcpu.write] `vcpu.write` cannot be done by a process, which `vmm` is'],
    ['{wait: vmm}', '[vmm] `vmm` would wait for its own end'],
    ['{wait: nix}', '[nix] no actor `nix` | did you mean `nic`'],
    ['{wait: {actor: nix}}', '[nix] no actor `nix` | did you mean `nic`'],
    ['{wait: {actor: nic, step: a}}', '[a] `nic` has no step named `a` | name a step of `nic` with `as: a`'],
    ['{wait: {actor: nic, stp: a}}', '[stp] unknown key `stp` | did you mean `step`'],
    ['{wait: nic, expect: ok}', '[expect] `expect` makes no sense with `wait`'],
    ['{at: 10}', '[10] 10 has no unit | write `10ns` for nanoseconds'],
    ['{choose: [[], 7]}', '[7] this is not a list of steps'],
    ['{choose: [[]]}', '[[[]]] this is a list'],
    [
      '{repeat: {times: 3, advance: {iov: 4KiB}, do: [reclaim]}}',
      '[iov] no step repeated has a size or address `iov` to begin with',
    ],
    ['{fork: {as: nic, do: [touc]}}', '[touc] unknown operation `touc` | did you mean `touch`'],
    ['{fork: {as: vmm, do: []}}', '[vmm] the name `vmm` is taken by another process'],
    ['{touch: {memory: ram}, hold: {at: x, until: nobody}}', '[nobody] no actor `nobody`'],
  ])('%s', (step, expected) => {
    const text = `${FRAME}actors:\n  vmm:\n    - ${step}\n  nic: []\n`;
    const mistakes = mistakesOf(text).map(brief);
    expect(mistakes).toContainEqual(expect.stringContaining(expected));
  });

  it('of an actor that acts for nobody', () => {
    expect(mistakesOf(`${FRAME}actors: {nobody: [], b: {on: vmx, do: []}}\n`).map(brief)).toEqual([
      '[nobody] no process, VM or device `nobody` for this actor to act for | write `nobody: {on: vmm, do: [...]}`',
      '[vmx] no process, VM or device `vmx` | did you mean `vmm`?',
    ]);
  });

  it('of a step name used twice', () => {
    const text = `${FRAME}actors: {vmm: [{touch: {memory: ram}, as: a}, {touch: {memory: ram}, as: a}]}\n`;
    expect(mistakesOf(text).map(brief)).toEqual(['[a] `vmm` has a step named `a` already']);
  });
});

describe('mistakes', () => {
  it('are all reported at once, in the order of the file', () => {
    const text = `title: x\nmemory: {ram: {kind: anon, size: 4kb}}\nhost: {cpus: 0}\nactors: {vmm: 3}\nexpct: {}\n`;
    expect(mistakesOf(text).map((mistake) => mistake.where?.line)).toEqual([2, 3, 4, 5]);
  });

  it('that several cases share are reported once', () => {
    const text = `${FRAME}with: [nonsense]\nactors: {vmm: []}\ncases: [{kernel: v6.1}, {kernel: v6.6}]\n`;
    expect(mistakesOf(text)).toHaveLength(1);
  });
});
