// Whatever is in a file, a person gets diagnostics that point into it: never another error, never a place outside.
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { renderDiagnostics, ScenarioError } from '../../../src/scenario/file/diagnostic.ts';
import { loadScenario } from '../../../src/scenario/file/load.ts';
import { registry } from '../operations.ts';

/** Loads; checks every diagnostic; returns how many there were. */
function mistakesIn(text: string): number {
  try {
    loadScenario('a.yaml', text, registry);
    return 0;
  } catch (error) {
    if (!(error instanceof ScenarioError)) throw error;
    const lines = text.split('\n');
    for (const { where, length, text: shown, message } of error.diagnostics) {
      expect(message).not.toBe('');
      expect(where!.line).toBeLessThanOrEqual(lines.length);
      expect(shown).toBe(lines[where!.line - 1]!.replace(/\r$/, ''));
      expect(where!.column).toBeLessThanOrEqual(shown!.length + 1);
      expect(length).toBeGreaterThan(0);
    }
    expect(renderDiagnostics(error.diagnostics)).toContain('a.yaml:');
    return error.diagnostics.length;
  }
}

const START = `title: x
kernel: v6.1
memory: {ram: {kind: anon, size: 1MiB}}
processes: {vmm: {maps: {ram: {prot: rw}}}}
devices: {nic: {process: vmm}}
vms: {g: {process: vmm, regions: [{gpa: 0, memory: ram}]}}
actors:
  vmm:
    - touch: {memory: ram, offset: 4KiB}
      expect: ENOMEM
      as: a
    - fork: {as: child, do: [{touch: {memory: ram}}, reclaim]}
    - repeat: {times: 3, advance: {offset: 4KiB}, do: [{touch: {memory: ram, offset: 0}}]}
  nic: [{wait: {actor: vmm, step: a}}, {choose: [[reclaim], []]}]
expect: {possible: [{kind: pin-failure, errno: ENOMEM}]}
cases: [{kernel: v5.15, steps: {a: {expect: ok}}}]
`;

it('a file with words cut out, doubled or exchanged', () => {
  expect(mistakesIn(START)).toBe(0);
  const words = START.split(/(?<=[\s{}[\],:])|(?=[\s{}[\],:])/);
  const index = fc.nat(words.length - 1);
  const change = fc.tuple(fc.constantFrom('cut', 'double', 'exchange'), index, index);
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
      const changed = [...words];
      for (const [how, i, j] of changes) {
        if (how === 'cut') changed[i] = '';
        else if (how === 'double') changed[i] = `${words[i]}${words[i]}`;
        else changed[i] = words[j]!;
      }
      mistakesIn(changed.join(''));
    }),
    { numRuns: 300 },
  );
});

it('a file with any value in any place', () => {
  const value = fc.constantFrom(
    '7',
    '-1',
    '1.5',
    'x',
    '""',
    'null',
    '[]',
    '{}',
    '[7]',
    '{a: 1}',
    'true',
    '0xffffffffffffffffff',
    '.inf',
  );
  const places = [...START.matchAll(/(?<=: )(\[[^\]]*\]|\{[^}]*\}|[\w-]+)/g)];
  fc.assert(
    fc.property(fc.constantFrom(...places), value, (place, written) => {
      mistakesIn(START.slice(0, place.index) + written + START.slice(place.index + place[0].length));
    }),
    { numRuns: 300 },
  );
});

it('any text', () => {
  // A carriage return alone, at the end, is no text to show.
  mistakesIn('\r');
  mistakesIn('a: [\r');
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (text) => void mistakesIn(text.replace(/^\uFEFF/, ''))),
  );
});

it('a file cut off anywhere', () => {
  for (let at = 0; at < START.length; at++) mistakesIn(START.slice(0, at));
});
