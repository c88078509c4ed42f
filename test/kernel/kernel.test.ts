import { describe, expect, it } from 'vitest';
import { KernelError } from '../../src/kernel/error.ts';
import { Kernel } from '../../src/kernel/kernel.ts';

function errorOf(build: () => unknown): KernelError {
  try {
    build();
  } catch (error) {
    if (error instanceof KernelError) return error;
    throw error;
  }
  throw new Error('expected a KernelError');
}

describe('asking a kernel', () => {
  it('answers from the profile', () => {
    expect(new Kernel('v6.1.192').has('gup.slow.longterm-file-check')).toBe(false);
    expect(new Kernel('v6.12.117').has('gup.slow.longterm-file-check')).toBe(true);
  });

  it('records each question once, in the order of the catalogue', () => {
    const kernel = new Kernel('v6.12.117');
    expect([...kernel.asked()]).toEqual([]);
    kernel.has('type1.batched-pin');
    kernel.way('gup.longterm.nothing-isolated');
    kernel.has('gup.fast.recheck-pmd');
    kernel.has('type1.batched-pin');
    expect([...kernel.asked()]).toEqual([
      ['gup.fast.recheck-pmd', true],
      ['gup.longterm.nothing-isolated', 'retry'],
      ['type1.batched-pin', true],
    ]);
  });

  it('does not record what a report looks up', () => {
    const kernel = new Kernel('v6.12.117');
    expect(kernel.answer('gup.fast.recheck-pmd')).toBe(true);
    expect(kernel.asked().size).toBe(0);
  });
});

describe('changing a kernel', () => {
  it('adds a behaviour that the release lacks', () => {
    const kernel = new Kernel('v6.1.192', { with: ['gup.slow.longterm-file-check'] });
    expect(kernel.has('gup.slow.longterm-file-check')).toBe(true);
    expect([...kernel.chosen()]).toEqual([['gup.slow.longterm-file-check', true]]);
  });

  it('removes a behaviour that the release has', () => {
    expect(new Kernel('v6.12', { without: ['gup.fast.recheck-pmd'] }).has('gup.fast.recheck-pmd')).toBe(false);
  });

  it('takes another of several ways', () => {
    const kernel = new Kernel('v6.12.117', { with: ['gup.longterm.nothing-isolated=succeed'] });
    expect(kernel.way('gup.longterm.nothing-isolated')).toBe('succeed');
  });

  it('accepts adding what the release has already', () => {
    const kernel = new Kernel('v6.12', { with: ['gup.fast.recheck-pmd'] });
    expect(kernel.has('gup.fast.recheck-pmd')).toBe(true);
    expect(kernel.chosen().size).toBe(0);
  });
});

describe('a kernel that cannot exist', () => {
  it('is refused when a required behaviour was removed', () => {
    const error = errorOf(() => new Kernel('v6.12', { without: ['gup.slow.longterm-file-check'] }));
    expect(error.kind).toBe('requires');
    expect(error.offending).toBe('gup.slow.longterm-file-check');
    expect(error.message).toContain('gup.fast.longterm-file-check requires gup.slow.longterm-file-check');
  });

  it('is refused when a required behaviour is missing, and says what to add', () => {
    const error = errorOf(() => new Kernel('v5.15', { with: ['gup.longterm.ro-breaks-cow'] }));
    expect(error.kind).toBe('requires');
    expect(error.message).toContain('--with cow.anon-exclusive');
  });

  it('is refused when a behaviour is both added and removed', () => {
    const id = 'gup.fast.recheck-pmd';
    expect(errorOf(() => new Kernel('v6.12', { with: [id], without: [id] })).kind).toBe('contradiction');
  });

  it('is refused when two ways of one behaviour are chosen', () => {
    const ways = ['gup.longterm.nothing-isolated=succeed', 'gup.longterm.nothing-isolated=retry'];
    expect(errorOf(() => new Kernel('v6.12', { with: ways })).kind).toBe('contradiction');
  });

  it('is refused with the nearest id when the behaviour is misspelt', () => {
    const error = errorOf(() => new Kernel('v6.12', { with: ['gup.fast.longterm-file-chek'] }));
    expect(error.kind).toBe('unknown-behaviour');
    expect(error.didYouMean).toContain('gup.fast.longterm-file-check');
  });

  it('is refused with the ways when the way is misspelt or missing', () => {
    const misspelt = errorOf(() => new Kernel('v6.12', { with: ['gup.longterm.nothing-isolated=sucede'] }));
    expect(misspelt.kind).toBe('unknown-way');
    expect(misspelt.didYouMean).toEqual(['gup.longterm.nothing-isolated=succeed']);
    const missing = errorOf(() => new Kernel('v6.12', { with: ['gup.longterm.nothing-isolated'] }));
    expect(missing.kind).toBe('malformed');
    expect(missing.message).toContain('retry|succeed');
  });

  it('is refused when a behaviour with ways is switched off', () => {
    expect(errorOf(() => new Kernel('v6.12', { without: ['gup.longterm.nothing-isolated'] })).kind).toBe('malformed');
  });

  it('is refused when a switch is given a way', () => {
    expect(errorOf(() => new Kernel('v6.12', { with: ['gup.fast.recheck-pmd=yes'] })).kind).toBe('malformed');
  });
});
