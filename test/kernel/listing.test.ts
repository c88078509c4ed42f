import { describe, expect, it } from 'vitest';
import { alternatives, changesFor } from '../../src/kernel/alternatives.ts';
import { BEHAVIOURS } from '../../src/kernel/catalogue.ts';
import { KernelError } from '../../src/kernel/error.ts';
import { Kernel } from '../../src/kernel/kernel.ts';
import { explainBehaviour, listBehaviours, listKernels } from '../../src/kernel/listing.ts';

describe('the listings', () => {
  it('show each named kernel with how many behaviours it has', () => {
    const lines = listKernels();
    const count = (name: string) => lines.find((line) => line.name === name)?.behaviours ?? 0;
    expect(count('v5.4')).toBeLessThan(count('v6.1'));
    expect(count('v6.1')).toBeLessThan(count('v6.1.192'));
  });

  it('show every behaviour, with the answer of a kernel when one is given, and record no question', () => {
    const kernel = new Kernel('v6.12.117');
    const lines = listBehaviours(kernel);
    expect(lines.map((line) => line.id)).toEqual(BEHAVIOURS.map((behaviour) => behaviour.id));
    expect(lines.find((line) => line.id === 'cow.reuse-rule')?.answer).toBe('exclusive');
    expect(kernel.asked().size).toBe(0);
    expect(listBehaviours().every((line) => line.answer === undefined)).toBe(true);
  });

  it('explain a behaviour with what requires it and what each kernel answers', () => {
    const explanation = explainBehaviour('gup.zeropage-not-pinned');
    expect(explanation.where).toBe('since 6.5, 6.1.130');
    expect(explanation.commit).toBe('c8070b787519');
    expect(explanation.answers).toContainEqual({ kernel: 'v6.1', answer: false });
    expect(explanation.answers).toContainEqual({ kernel: 'v6.1.192', answer: true });
    expect(explainBehaviour('cow.unshare-fault').requiredBy).toContain('gup.longterm.ro-breaks-cow');
  });

  it('explain the ways of a behaviour', () => {
    const { ways, where } = explainBehaviour('kvm.retry-unit');
    expect(ways.map((way) => way.name)).toEqual(['any', 'hva', 'gfn']);
    expect(where).toBe('any: otherwise; hva: since 5.12, until 6.8; gfn: since 6.8');
  });

  it('show an exclusion on both sides', () => {
    expect(explainBehaviour('proposal.strict-follow-pfn').excludes).toEqual(['proposal.type1-zap-tracking']);
    expect(explainBehaviour('proposal.type1-zap-tracking').excludes).toEqual(['proposal.strict-follow-pfn']);
  });

  it('refuse an unknown behaviour with the nearest ones', () => {
    expect(() => explainBehaviour('kvm.retry-unt')).toThrow(KernelError);
    expect(() => explainBehaviour('kvm.retry-unt')).toThrow(/did you mean 'kvm.retry-unit'/);
  });
});

describe('the kernels next to one', () => {
  it('differ in one question that was answered no, or in the way that was taken', () => {
    const kernel = new Kernel('v6.1.192');
    kernel.has('gup.slow.longterm-file-check');
    kernel.has('gup.fast.recheck-pmd');
    kernel.way('type1.zero-page');
    expect(alternatives(kernel).map((alternative) => alternative.argument)).toEqual([
      'gup.slow.longterm-file-check',
      'type1.zero-page=leak',
      'type1.zero-page=none',
    ]);
  });

  it('bring what the behaviour requires', () => {
    const kernel = new Kernel('v5.17');
    const other = new Kernel(kernel.profile, changesFor(kernel, 'gup.longterm.ro-breaks-cow'));
    expect(other.has('gup.longterm.ro-breaks-cow')).toBe(true);
    expect(other.has('cow.anon-exclusive')).toBe(true);
    expect(other.way('cow.reuse-rule')).toBe('exclusive');
  });

  it('keep the other changes of the user and undo the one that stands against', () => {
    const kernel = new Kernel('v6.12', { without: ['gup.fast.recheck-pmd', 'cow.share-barriers'] });
    const changes = changesFor(kernel, 'cow.share-barriers');
    expect(changes.without).toEqual(['gup.fast.recheck-pmd']);
    expect(new Kernel('v6.12', changes).has('cow.share-barriers')).toBe(true);
  });

  it('leave out what cannot exist on the architecture, and proposals', () => {
    const kernel = new Kernel('v6.12');
    kernel.has('gup.fast.accessible-error-stops');
    kernel.has('proposal.foll-exclusive');
    expect(alternatives(kernel)).toEqual([]);
  });

  it('bring the feature along with the fix of a bug in it', () => {
    const kernel = new Kernel('v6.1');
    kernel.has('uffd.move-checks-pin-first');
    expect(alternatives(kernel)[0]?.changes.with).toEqual(['uffd.move-checks-pin-first', 'uffd.move']);
  });
});
