// Which behaviours the model asks about is what its sources say: an id is asked where it stands in quotes.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { BEHAVIOURS } from '../../src/kernel/index.ts';
import { unaskedBehaviours } from '../../src/kernel/unasked.ts';
import { loadScenario } from '../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';

const SRC = fileURLToPath(new URL('../../src', import.meta.url));

/** The text of the whole model, without the catalogue itself. */
function sources(): string {
  return readdirSync(SRC, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && !file.startsWith('kernel'))
    .map((file) => readFileSync(join(SRC, file), 'utf8'))
    .join('\n');
}

describe('behaviours that the model does not ask about', () => {
  it('are exactly those that the list names', () => {
    const text = sources();
    const unasked = BEHAVIOURS.map(({ id }) => id).filter((id) => !text.includes(`'${id}'`));
    expect([...unaskedBehaviours()].sort()).toEqual(unasked.sort());
  });

  it('cannot be switched in a scenario, where nothing would come of it', () => {
    const text = 'title: T\nkernel: v6.12\nwithout: [gup.unpin-skips-null]\nactors: {kernel: []}\n';
    expect(() => loadScenario('a.yaml', text, OPERATIONS)).toThrow(
      'a.yaml:3:11: error: the model does not ask about `gup.unpin-skips-null` yet: switching it would change nothing',
    );
  });
});
