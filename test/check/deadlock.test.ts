// deadlock: says who waits for what, in words and addresses.
import { describe, expect, it } from 'vitest';
import { findingsOf, resultOf } from '../support/scenario.ts';

const scenario = (script: string): string => `title: T
kernel: v6.1.192
host: {memory: {normal: 64MiB}}
memory: {ram: {kind: anon, size: 4KiB}}
processes: {p: {maps: {ram: {}}}}
actors:
  p:
${script}`;

const reasons = (script: string) => resultOf(scenario(script)).findings.flatMap(({ finding }) => finding.reasons);

describe('deadlock', () => {
  it('of a userfault names the page by its address', () => {
    const script = `    - uffd.register: {memory: ram, mode: missing}
    - cpu.read: {memory: ram}
`;
    expect(reasons(script)).toEqual([
      expect.stringMatching(
        /^p waits for uffd of p to resolve the missing fault at 0x[0-9a-f]+000 of p at handle_userfault/,
      ),
    ]);
  });

  it('of waitpid names the child', () => {
    const script = `    - fork: {as: child, stays: true}
    - waitpid: {process: child}
`;
    expect(reasons(script)).toEqual(['p waits for the exit of child at do_wait']);
  });

  it('is not found where the child ends', () => {
    expect(findingsOf(scenario('    - fork: {as: child}\n    - waitpid: {process: child}\n'))).toEqual([]);
  });
});
