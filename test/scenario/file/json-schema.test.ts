// The JSON Schema accepts and refuses what the loader does. zod reads it back to check values against it.
import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { scenarioJsonSchema } from '../../../src/scenario/file/json-schema.ts';
import { registry } from '../operations.ts';

const type = z.fromJSONSchema(scenarioJsonSchema(registry) as Parameters<typeof z.fromJSONSchema>[0]);

function withStep(step: unknown): unknown {
  return { title: 'x', actors: { vmm: [step] } };
}

describe('the JSON schema', () => {
  it.each([
    { touch: { memory: 'ram', offset: '0x1000', length: '4KiB' }, expect: 'ENOMEM' },
    { touch: { memory: 'ram', offset: 4096 }, expect: ['ok', 'EFAULT'], shows: { pages: { 'at-least': 1 } }, as: 'a' },
    { fork: { as: 'child', do: [{ touch: { memory: 'ram' } }, 'reclaim'] } },
    { reclaim: null },
    'reclaim',
    { wait: 'vmm' },
    { wait: [{ actor: 'vmm', step: 'a' }] },
    { repeat: { times: 3, do: [{ at: '10us' }] } },
    { choose: [[], [{ sleep: '1ms' }]] },
    { touch: { memory: 'ram' }, hold: { at: 'x:y', until: 'vmm' } },
  ])('accepts the step %j', (step) => {
    expect(type.safeParse(withStep(step)).success).toBe(true);
  });

  it.each([
    { touch: { memry: 'ram' } },
    { touch: { memory: 'ram', offset: '4kB' } },
    { touch: { memory: 'ram' }, expect: 'ENOMEN' },
    { touch: { memory: 'ram' }, reclaim: {} },
    { expect: 'ok' },
    'touch',
    { fork: { as: 'child', do: [{ tuch: {} }] } },
    { at: 10 },
    { choose: [[]] },
    { repeat: { times: 3, do: 7 } },
  ])('refuses the step %j', (step) => {
    expect(type.safeParse(withStep(step)).success).toBe(false);
  });

  it.each([
    [{ memory: { ram: { kind: 'anon', size: '4GiB', populate: 'write' } } }, true],
    [{ memory: { ram: { kind: 'anon', size: '4GB' } } }, false],
    [{ memory: { ram: { kind: 'annon', size: '4GiB' } } }, false],
    [{ processes: { vmm: null } }, true],
    [{ processes: { vmm: { uid: 1000, maps: { ram: null } } } }, true],
    [{ processes: { vmm: { uidd: 1000 } } }, false],
    [{ expect: { always: ['deadlock', { kind: 'pin-failure', errno: 'ENOMEM' }] } }, true],
    [{ expect: { always: ['deadlok'] } }, false],
    [{ $schema: './scenario.schema.json', host: { memlock: 'unlimited' } }, true],
    [{ nonsense: 1 }, false],
  ])('judges %j: %s', (part, accepted) => {
    expect(type.safeParse({ title: 'x', actors: {}, ...part }).success).toBe(accepted);
  });

  it('lets no unknown word stand in a step', () => {
    // zod reads `additionalProperties` beside `oneOf` back without effect, so this looks at the schema itself.
    const schema = scenarioJsonSchema(registry) as { $defs: { step: { anyOf: unknown[] } } };
    expect(schema.$defs.step.anyOf[0]).toMatchObject({ additionalProperties: false });
  });

  it('describes every operation with what it shows', () => {
    const schema = scenarioJsonSchema(registry) as {
      $defs: { step: { anyOf: { properties: Record<string, unknown> }[] } };
    };
    expect(schema.$defs.step.anyOf[0]!.properties.touch).toMatchObject({
      description: 'Writes to every page of a range.\nShows pages: how many pages were touched',
    });
  });
});
