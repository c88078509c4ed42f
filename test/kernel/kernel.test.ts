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
    const error = errorOf(() => new Kernel('v6.12', { without: ['type1.batched-pin', 'cow.unshare-fault'] }));
    expect(error.kind).toBe('requires');
    expect(error.offending).toBe('cow.unshare-fault');
    expect(error.message).toContain('gup.longterm.ro-breaks-cow requires cow.unshare-fault');
    expect(error.message).toContain('add --without gup.longterm.ro-breaks-cow');
  });

  it('is refused when a required behaviour is missing, and says what to add', () => {
    const error = errorOf(() => new Kernel('v5.15', { with: ['gup.longterm.ro-breaks-cow'] }));
    expect(error.kind).toBe('requires');
    expect(error.message).toContain('--with cow.unshare-fault');
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

  it('is refused when two designs exclude each other, whichever states it', () => {
    const designs = ['proposal.type1-zap-tracking', 'proposal.strict-follow-pfn'];
    const error = errorOf(() => new Kernel('v6.12', { with: designs }));
    expect(error.kind).toBe('excludes');
    expect(error.message).toContain('proposal.strict-follow-pfn excludes proposal.type1-zap-tracking');
    for (const design of designs) expect(() => new Kernel('v6.12', { with: [design] })).not.toThrow();
  });

  it('is refused when the behaviour belongs to another architecture', () => {
    const error = errorOf(() => new Kernel('v6.12', { with: ['gup.arch-accessible'] }));
    expect(error.kind).toBe('arch');
    expect(error.message).toContain('s390x');
    const way = errorOf(() => new Kernel('v6.12', { with: ['tlb.flush-means=broadcast'] }));
    expect(way.kind).toBe('arch');
  });

  it('is refused when the build lacks the option, and accepted when the option is set', () => {
    const config = { KVM_PRIVATE_MEM: 'n' } as const;
    const error = errorOf(() => new Kernel('v6.12', { with: ['gmem.present'], config }));
    expect(error.kind).toBe('config');
    expect(error.message).toContain('CONFIG_KVM_PRIVATE_MEM');
    expect(new Kernel('v6.12', { config: { LRU_GEN_ENABLED: 'y' } }).has('reclaim.multigen-lru')).toBe(true);
  });

  it('is refused when the kernel itself is misspelt', () => {
    expect(errorOf(() => new Kernel('v6.1.l92')).kind).toBe('unknown-kernel');
  });
});

describe('the types', () => {
  it('refuse a misspelt id and the wrong kind of question', () => {
    const kernel = new Kernel('v6.12');
    // @ts-expect-error a misspelt id does not compile
    expect(() => kernel.has('gup.fast.recheck-pdm')).toThrow();
    // @ts-expect-error a behaviour with ways is not asked with has()
    expect(kernel.has('gup.longterm.nothing-isolated')).toBe(false);
    // @ts-expect-error a way that does not exist cannot be compared with
    expect(kernel.way('gup.longterm.nothing-isolated') === 'sucede').toBe(false);
  });
});

describe('options given with a resolved profile', () => {
  it('are applied as with a name', () => {
    const { profile } = new Kernel('v6.12');
    expect(new Kernel(profile, { config: { LRU_GEN_ENABLED: 'y' } }).has('reclaim.multigen-lru')).toBe(true);
    expect(new Kernel(profile).has('reclaim.multigen-lru')).toBe(false);
  });
});
