import { describe, expect, it } from 'vitest';
import * as pageFlags from '../../src/mm/page-flags.ts';

const FLAGS = Object.entries(pageFlags).filter((entry): entry is [string, number] => typeof entry[1] === 'number');

describe('a page flag', () => {
  it.each(FLAGS)('%s is one bit and has a name of its own in reports', (name, bit) => {
    expect(bit & (bit - 1)).toBe(0);
    expect(pageFlags.flagNames(bit)).toEqual([name.slice('PG_'.length)]);
  });

  it('has a bit of its own', () => {
    expect(new Set(FLAGS.map(([, bit]) => bit)).size).toBe(FLAGS.length);
  });
});
