// Whether what happened is what was expected, and the words when it is not.
import { describe, expect, it } from 'vitest';
import type { Finding } from '../../../src/engine/finding.ts';
import {
  checkOutcome,
  type Expectation,
  type FindingPattern,
  formatPattern,
  type Matcher,
  matches,
  matchesFinding,
} from '../../../src/scenario/file/expectation.ts';
import type { Outcome, Shown } from '../../../src/scenario/operation.ts';

describe('an outcome', () => {
  it.each<[Expectation, Outcome, readonly string[]]>([
    [{}, {}, []],
    [{}, { returns: 3 }, []],
    [{}, { errno: 'ENOMEM' }, ['expected ok, got ENOMEM']],
    [{ expect: ['ENOMEM'] }, { errno: 'ENOMEM' }, []],
    [{ expect: ['ENOMEM'] }, { returns: 0 }, ['expected ENOMEM, got ok (returned 0)']],
    [{ expect: ['ENOMEM', 'EBUSY'] }, { errno: 'EFAULT' }, ['expected ENOMEM or EBUSY, got EFAULT']],
    [{ expect: ['any'] }, { errno: 'EFAULT' }, []],
    [{ returns: 0 }, {}, []],
    [{ returns: 0 }, { returns: 0n }, []],
    [{ returns: 1 }, { returns: 2 }, ['expected to return 1, returned 2']],
    [{ returns: 0 }, { errno: 'EIO' }, ['expected ok, got EIO']],
    [{ shows: { present: false } }, { shows: { present: false, pfn: 3 } }, []],
    [{ shows: { present: false } }, { shows: { present: true } }, ['expected `present` false, got true']],
    [{ shows: { pfn: 1 } }, {}, ['expected `pfn` 1, but it shows no `pfn`']],
    [{ shows: { locked: '8KiB' } }, { shows: { locked: 8192 } }, []],
    [{ shows: { a: { not: 'A' } } }, { shows: { a: 'A' } }, ['expected `a` anything but A, got A']],
  ])('expecting $0 of $1', (expectation, outcome, failures) => {
    expect(checkOutcome(expectation, outcome)).toEqual(failures);
  });
});

describe('a matcher', () => {
  it.each<[Matcher, Shown, boolean]>([
    ['4KiB', 4096n, true],
    ['4KiB', 4097, false],
    ['A', 'A', true],
    ['4KiB', '4KiB', true],
    ['4KiB', '4096', false],
    [1, 1n, true],
    [1, true, false],
    [null, null, true],
    [[1, 'A'], [1n, 'A'], true],
    [[1], [1, 2], false],
    [{ not: 1 }, 2, true],
    [{ 'one-of': ['A', 'zero'] }, 'zero', true],
    [{ 'one-of': ['A', 'zero'] }, 'B', false],
    [{ 'at-least': '1MiB' }, 1048576, true],
    [{ 'at-least': 2 }, 1, false],
    [{ 'at-most': 2 }, 1, true],
    [{ 'at-most': 2 }, 'many', false],
  ])('%o on %o is %s', (matcher, value, expected) => {
    expect(matches(matcher, value)).toBe(expected);
  });
});

describe('a finding', () => {
  const finding: Finding = {
    kind: 'pin-failure',
    message: 'm',
    reasons: [],
    actors: ['qemu'],
    objects: ['ram'],
    steps: [],
    details: { errno: 'ENOMEM', 'short-by': 101392384n },
    identity: 'i',
  };

  it.each<[FindingPattern, boolean]>([
    [{ kind: 'pin-failure', details: {} }, true],
    [{ kind: 'deadlock', details: {} }, false],
    [{ kind: 'pin-failure', details: { errno: 'ENOMEM', 'short-by': 101392384 } }, true],
    [{ kind: 'pin-failure', details: { errno: 'EFAULT' } }, false],
    [{ kind: 'pin-failure', details: { unheard: 1 } }, false],
    [{ kind: 'pin-failure', details: { actor: 'qemu', object: 'ram' } }, true],
    [{ kind: 'pin-failure', details: { actor: 'guest' } }, false],
  ])('is it %j: %s', (pattern, expected) => {
    expect(matchesFinding(pattern, finding)).toBe(expected);
  });

  it('is described by its kind and details', () => {
    expect(formatPattern({ kind: 'deadlock', details: {} })).toBe('deadlock');
    expect(formatPattern({ kind: 'pin-failure', details: { errno: 'EIO', size: { 'at-least': 1 } } })).toBe(
      'pin-failure (errno: EIO, size: at least 1)',
    );
  });
});
