// `pinsim explain <operation>`: what it says of arguments comes from their types, and its example can be copied.
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { explain } from '../../src/scenario/catalogue.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import { CONTROL_WORDS, MODIFIERS } from '../../src/scenario/step.ts';

describe('the explanation of an operation', () => {
  it.each(OPERATIONS.all().map((operation) => [operation.name, operation] as const))('%s', (name, operation) => {
    const lines = explain(name, OPERATIONS)!;
    expect(lines[0]).toBe(`${name}: ${operation.summary}`);
    const example = lines[lines.indexOf('Example:') + 1]!;
    const [step] = parse(example) as readonly Record<string, unknown>[];
    expect(operation.args.safeParse(step![name]).error?.issues ?? []).toEqual([]);
  });

  it('names every argument, and those that must be there', () => {
    const text = explain('vfio.map', OPERATIONS)!.join('\n');
    expect(text).toContain('iova (needed)');
    expect(text).toMatch(/set_vaddr {2,}VFIO_DMA_MAP_FLAG_VADDR/);
  });
});

describe('words of scripts', () => {
  it.each([...CONTROL_WORDS, ...MODIFIERS])('%s is explained', (word) => {
    expect(explain(word, OPERATIONS)?.[0]).toMatch(new RegExp(`^${word}: [A-Z]`));
  });
});
