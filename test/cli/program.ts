// Runs the program inside the test, with its own output, folder and parts.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { main } from '../../src/cli/cli.ts';
import type { Parts } from '../../src/cli/command.ts';
import { selectCases } from '../../src/scenario/file/select-cases.ts';
import type { CaseResult } from '../../src/scenario/result.ts';
import type { RunOptions, RunScenario } from '../../src/scenario/run.ts';
import { registry } from '../scenario/operations.ts';

export interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** A folder that is gone when the test has ended. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'pinsim-test-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export interface Setting {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly isTTY?: boolean;
  readonly runScenario?: RunScenario;
}

/** Call the program as a shell would. Without a runner of its own, every case runs and is as expected. */
export async function pinsim(argv: readonly string[], setting: Setting = {}): Promise<Ended> {
  let out = '';
  let err = '';
  const isTTY = setting.isTTY ?? false;
  const parts: Parts = {
    registry: async () => registry,
    runScenario: async () => setting.runScenario ?? runsAsExpected,
  };
  const io = {
    stdout: { write: (text: string) => (out += text), isTTY },
    stderr: { write: (text: string) => (err += text), isTTY },
    env: setting.env ?? {},
    cwd: setting.cwd ?? tmpdir(),
  };
  const code = await main(argv, io, parts);
  return { code, out, err };
}

/** A runner of nothing: one result per selected case. */
export const runsAsExpected: RunScenario = (scenario, options) => resultsOf(scenario, options, {});

/** Results of the selected cases, changed by `over`. */
export function resultsOf(
  scenario: Parameters<RunScenario>[0],
  options: RunOptions,
  over: Partial<CaseResult>,
): readonly CaseResult[] {
  return selectCases(scenario, options).map((one) => ({
    name: one.name,
    kernel: one.kernel,
    with: one.with,
    without: one.without,
    seed: options.seed ?? scenario.seed,
    status: 'as-expected',
    findings: [],
    failed: [],
    missingFindings: [],
    missingLabels: [],
    timeNs: 1000,
    steps: 3,
    digest: '0',
    ...over,
  }));
}
