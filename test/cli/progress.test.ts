// The line that tells how far a long run has come.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ProgressLine } from '../../src/cli/progress.ts';

const ERASE = '\r\u001b[K';
const NOW = { caseName: 'v6.1', steps: 1234, timeNs: 5_000_000 };

/** A progress line of two files, and what it wrote. */
function progressOn(isTTY: boolean): { line: ProgressLine; written: string[] } {
  const written: string[] = [];
  const stderr = { write: (text: string) => written.push(text), isTTY, columns: 60 };
  const line = new ProgressLine({ stdout: stderr, stderr, env: {}, cwd: '.' }, 2);
  line.begin('a.yaml');
  return { line, written };
}

describe('progress', () => {
  let nowMs = 0;
  beforeEach(() => {
    nowMs = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
  });
  afterEach(() => vi.restoreAllMocks());

  it('is not shown for short runs, nor too often, and goes away', () => {
    const { line, written } = progressOn(true);
    line.update(NOW);
    line.clear();
    expect(written).toEqual([]);
    nowMs = 1000;
    line.update(NOW);
    line.update(NOW);
    expect(written).toEqual([`${ERASE}[1/2] a.yaml v6.1: 1,234 steps, 5.00ms simulated`]);
    line.clear();
    expect(written.at(-1)).toBe(ERASE);
  });

  it('is for terminals', () => {
    const { line, written } = progressOn(false);
    nowMs = 5000;
    line.update(NOW);
    line.clear();
    expect(written).toEqual([]);
  });

  it('fits the terminal', () => {
    const { line, written } = progressOn(true);
    nowMs = 1000;
    line.begin('a-very-long-name-of-a-scenario-file-in-some-folder.yaml');
    line.update(NOW);
    expect(written[0]).toHaveLength(ERASE.length + 59);
  });
});
