// Optimal DPOR on random small programs with everything in them: the same traces as the brute force, each once, nothing
// blocked, the same findings.
import { describe, expect, test } from 'vitest';
import { compare } from './against-brute-force.ts';
import { build, randomProgram } from './random-program.ts';

const CHUNKS = 5;
const PER_CHUNK = 400;
const SIZE = 8;
/** Programs with more inequivalent prefixes are passed over. */
const LIMIT = 500;

describe('random programs', () => {
  const used = new Map<string, number>();
  let traces = 0;
  let deadlocks = 0;
  let findings = 0;

  for (let chunk = 0; chunk < CHUNKS; chunk++) {
    test(`${PER_CHUNK} programs of seed ${chunk}`, { timeout: 600_000 }, () => {
      for (let n = 0, compared = 0; compared < PER_CHUNK; n++) {
        const program = randomProgram(`dpor ${chunk}`, n, SIZE);
        let result: ReturnType<typeof compare>;
        try {
          result = compare(build(program), LIMIT);
        } catch (error) {
          if ((error as Error).message === `more than ${LIMIT} prefixes`) continue;
          throw new Error(`program ${n} of seed ${chunk}: ${JSON.stringify(program)}`, { cause: error });
        }
        compared++;
        expect({ n, program, differences: result.differences }).toEqual({ n, program, differences: [] });
        traces += result.traces;
        deadlocks += result.deadlocks;
        findings += result.findings;
        for (const [kind] of JSON.stringify(program).matchAll(/"do":"\w+"/g)) used.set(kind, (used.get(kind) ?? 0) + 1);
      }
    });
  }

  test('the programs were worth running', () => {
    expect(traces).toBeGreaterThan(3 * CHUNKS * PER_CHUNK);
    expect(deadlocks).toBeGreaterThan(100);
    expect(findings).toBeGreaterThan(20);
    expect(used.size).toBe(36);
    expect(Math.min(...used.values())).toBeGreaterThan(50);
  });
});
