// A finished run to make reports from.
import type { Finding } from '../../src/engine/finding.ts';
import type { CaseResult, ScenarioResult } from '../../src/scenario/result.ts';

export const where = { file: 'q35.yaml', line: 14, column: 3 };

export const pinFailure: Finding = {
  kind: 'pin-failure',
  message: 'qemu could not map 2 GiB at IOVA 0x100000000: -ENOMEM after 95 % of it.',
  reasons: [
    'vfio_pin_pages_remote() refused the next page',
    'locked_vm 1023822 + 1 exceeds RLIMIT_MEMLOCK 1023822 pages',
  ],
  actors: ['qemu'],
  objects: ['ram'],
  steps: [
    { actor: 'qemu', label: 'vfio_dma_do_map:enter', timeNs: 1200 },
    { actor: 'qemu', label: 'vfio_pin_pages_remote:limit', timeNs: 45678901, changed: 'refused page 498512 of 524288' },
  ],
  details: { errno: 'ENOMEM', iova: 4294967296n, 'short-by': 101392384 },
  remedy: 'a limit of 4295098368 bytes',
  identity: 'pin-failure|mm|vfio_pin_pages_remote:limit',
};

export function caseResult(over: Partial<CaseResult> = {}): CaseResult {
  return {
    name: 'v5.15',
    kernel: 'v5.15',
    with: [],
    without: [],
    seed: '1',
    status: 'as-expected',
    findings: [
      {
        finding: pinFailure,
        expected: 'always',
        replay: 'pinsim run q35.yaml --kernel v5.15 --seed 1',
        preventedBy: [],
      },
    ],
    failed: [],
    missingFindings: [],
    missingLabels: [],
    timeNs: 45678999,
    steps: 1234567,
    digest: '00c0ffee',
    ...over,
  };
}

export function scenarioResult(...cases: readonly CaseResult[]): ScenarioResult {
  return { file: 'q35.yaml', title: 'q35 guest and a limit of 97 %', cases };
}
