// Labels of the model in scenario files: a misspelt one would be waited for in vain.
import { describe, expect, it, vi } from 'vitest';
import { ScenarioError } from '../../src/scenario/file/diagnostic.ts';
import { loadScenario } from '../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';

const FRAME = `title: T
kernel: v6.1
host: {memory: {normal: 64MiB}}
memory: {ram: {kind: anon, size: 4KiB}}
processes: {vmm: {maps: {ram: {}}}, other: {}}
`;

/** The messages of what is wrong, with their places. */
function mistakes(rest: string): readonly string[] {
  try {
    loadScenario('a.yaml', FRAME + rest, OPERATIONS);
    return [];
  } catch (error) {
    if (!(error instanceof ScenarioError)) throw error;
    return error.diagnostics.map(
      ({ where, message, hint }) =>
        `${where?.line}:${where?.column} ${message}${hint === undefined ? '' : ` | ${hint}`}`,
    );
  }
}

describe('a label that no step has', () => {
  it('is a mistake in reaches', () => {
    expect(mistakes('reaches: [try_get_folo]\nactors: {vmm: [{touch: {memory: ram}}]}\n')).toEqual([
      '6:11 no step of the model is labelled `try_get_folo` | did you mean `try_get_folio`?',
    ]);
  });

  it('is a mistake in a hold and in a wait', () => {
    const actors = `actors:
  vmm:
    - touch: {memory: ram}
      hold: {at: nowhere_at_all, until: other}
  other:
    - wait: {actor: vmm, label: 'zap_pte_range:claer'}
`;
    expect(mistakes(actors)).toEqual([
      '9:13 no step of the model is labelled `nowhere_at_all` | see `pinsim list labels`',
      '11:13 no step of the model is labelled `zap_pte_range:claer` | did you mean `zap_pte_range:clear` or `zap_pte_range:lock` or `zap_pte_range:unlock`?',
    ]);
  });

  it('is none where the model has it', () => {
    expect(mistakes('reaches: [try_get_folio]\nactors: {vmm: [{touch: {memory: ram}}]}\n')).toEqual([]);
  });
});

describe('the labels that a scenario may name', () => {
  it('are all there before any world is built, also those of what hooks reach', async () => {
    vi.resetModules();
    const { OPERATIONS: fresh } = await import('../../src/scenario/operations/index.ts');
    const labels = fresh.labels!();
    for (const label of ['memory_failure:folio_lock', 'page_handle_poison', 'balance_pgdat:kswapd_failures'])
      expect(labels).toContain(label);
  });
});
