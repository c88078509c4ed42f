import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  compareVersions,
  describeRange,
  formatVersion,
  parseVersion,
  type Range,
  type RangeSpec,
  type Version,
  VersionError,
  VersionRange,
} from '../../src/kernel/version.ts';

function inRange(spec: RangeSpec, version: string): boolean {
  return new VersionRange(spec).includes(parseVersion(version));
}

describe('a version', () => {
  it.each([
    ['v5.4', { major: 5, minor: 4, stable: 0 }],
    ['6.1.192', { major: 6, minor: 1, stable: 192 }],
    [' v6.12.117 ', { major: 6, minor: 12, stable: 117 }],
    ['v6.1.0', { major: 6, minor: 1, stable: 0 }],
  ])('%s is read', (text, version) => {
    expect(parseVersion(text)).toEqual(version);
  });

  it.each(['', '6', 'v6.', '6.1.', '6.1.2.3', '6.1-rc3', 'six.one', '6.1 .2', 'vv6.1'])('%j is refused', (text) => {
    expect(() => parseVersion(text)).toThrow(VersionError);
  });

  it('sorts by number and not by text', () => {
    const sorted = ['6.12', '6.2', '5.19', '6.1.9', '6.1.130'].map(parseVersion).sort(compareVersions);
    expect(sorted.map(formatVersion)).toEqual(['v5.19', 'v6.1.9', 'v6.1.130', 'v6.2', 'v6.12']);
  });
});

describe('a range with stable backports', () => {
  it.each([
    ['6.4', true],
    ['6.5.3', true],
    ['7.0', true],
    ['6.3.13', false],
    ['6.1.129', false],
    ['6.1.130', true],
    ['6.1.192', true],
    ['6.1', false],
    ['6.2.16', false],
    ['5.15.180', false],
  ])("since '6.4, 6.1.130' has %s: %s", (version, expected) => {
    expect(inRange({ since: '6.4, 6.1.130' }, version)).toBe(expected);
  });

  it.each([
    ['6.9', true],
    ['6.10', false],
    ['6.1.93', true],
    ['6.1.94', false],
    ['6.6.200', true],
  ])("until '6.10, 6.1.94' has %s: %s", (version, expected) => {
    expect(inRange({ until: '6.10, 6.1.94' }, version)).toBe(expected);
  });

  it.each([
    ['6.1.128', false],
    ['6.1.129', true],
    ['6.1.154', true],
    ['6.1.155', false],
    ['6.12.13', false],
    ['6.12.14', true],
    ['6.12.35', true],
    ['6.12.36', false],
    ['6.6.100', false],
  ])("the windows '6.1.129-6.1.154, 6.12.14-6.12.35' have %s: %s", (version, expected) => {
    expect(inRange({ during: '6.1.129-6.1.154, 6.12.14-6.12.35' }, version)).toBe(expected);
  });

  it('holds a fix that only a stable series has', () => {
    expect(inRange({ since: '6.1.135' }, '6.1.135')).toBe(true);
    expect(inRange({ since: '6.1.135' }, '6.12')).toBe(false);
  });

  it('needs since and until both, and any of several ranges', () => {
    const spec: RangeSpec = [{ since: '5.9', until: '5.19' }, { since: '6.2' }];
    expect(['5.8', '5.9', '5.18.19', '5.19', '6.1.5', '6.2'].map((v) => inRange(spec, v))).toEqual([
      false,
      true,
      true,
      false,
      false,
      true,
    ]);
  });

  it.each<[string, Range]>([
    ['two mainline releases', { since: '6.4, 6.5' }],
    ['two levels of one series', { since: '6.1.3, 6.1.4' }],
    ['a backport after mainline', { since: '6.4, 6.5.3' }],
    ['a window across series', { during: '6.1.5-6.2.3' }],
    ['a window backwards', { during: '6.1.5-6.1.4' }],
    ['half a window', { during: '6.1.5' }],
    ['nothing', {}],
    ['a word', { since: 'soon' }],
  ])('that says %s is refused', (_, range) => {
    expect(() => new VersionRange(range)).toThrow(VersionError);
  });

  it('is described as it was written', () => {
    expect(describeRange([{ since: '6.4, 6.1.130' }, { during: '6.1.2-6.1.3' }])).toBe(
      'since 6.4, 6.1.130; and in 6.1.2-6.1.3',
    );
    expect(describeRange('always')).toBe('every kernel modelled');
    expect(describeRange('never')).toBe('no released kernel');
  });
});

const versions = fc.record({
  major: fc.integer({ min: 5, max: 7 }),
  minor: fc.integer({ min: 0, max: 19 }),
  stable: fc.integer({ min: 0, max: 300 }),
});

/** A mainline release and backports to older series, as text. */
const entries = fc
  .tuple(
    fc.option(fc.tuple(fc.integer({ min: 5, max: 7 }), fc.integer({ min: 0, max: 19 })), { nil: undefined }),
    fc.uniqueArray(fc.tuple(fc.integer({ min: 0, max: 19 }), fc.integer({ min: 1, max: 300 })), {
      maxLength: 4,
      selector: ([minor]) => minor,
    }),
  )
  .filter(([mainline, backports]) => mainline !== undefined || backports.length > 0)
  .map(([mainline, backports]) => {
    const parts = backports.map(([minor, stable]) => `4.${minor}.${stable}`);
    return [...(mainline === undefined ? [] : [`${mainline[0]}.${mainline[1]}`]), ...parts].join(', ');
  });

const oldVersions = fc.record({
  major: fc.integer({ min: 4, max: 7 }),
  minor: fc.integer({ min: 0, max: 19 }),
  stable: fc.integer({ min: 0, max: 300 }),
});

describe('the order of versions', () => {
  it('is total: antisymmetric, transitive, zero for equals only', () => {
    fc.assert(
      fc.property(versions, versions, versions, (a, b, c) => {
        expect(Math.sign(compareVersions(a, b))).toBe(-Math.sign(compareVersions(b, a)) || 0);
        if (compareVersions(a, b) <= 0 && compareVersions(b, c) <= 0)
          expect(compareVersions(a, c)).toBeLessThanOrEqual(0);
        expect(compareVersions(a, b) === 0).toBe(formatVersion(a) === formatVersion(b));
      }),
    );
  });

  it('survives printing and reading', () => {
    fc.assert(
      fc.property(versions, (version) => {
        expect(parseVersion(formatVersion(version))).toEqual(version);
      }),
    );
  });
});

describe('membership in a range', () => {
  const later = (version: Version, by: number): Version => ({ ...version, stable: version.stable + by });

  it('with since only, is never lost later in the same stable series', () => {
    fc.assert(
      fc.property(entries, oldVersions, fc.nat(300), (since, version, by) => {
        const range = new VersionRange({ since });
        fc.pre(range.includes(version));
        expect(range.includes(later(version, by))).toBe(true);
      }),
    );
  });

  it('with until only, is never regained later in the same stable series', () => {
    fc.assert(
      fc.property(entries, oldVersions, fc.nat(300), (until, version, by) => {
        const range = new VersionRange({ until });
        fc.pre(!range.includes(version));
        expect(range.includes(later(version, by))).toBe(false);
      }),
    );
  });

  it('with until is the complement of since', () => {
    fc.assert(
      fc.property(entries, oldVersions, (entry, version) => {
        const since = new VersionRange({ since: entry });
        const until = new VersionRange({ until: entry });
        expect(since.includes(version)).toBe(!until.includes(version));
      }),
    );
  });

  it('of mainline releases, is never lost in a later mainline release', () => {
    fc.assert(
      fc.property(entries, oldVersions, oldVersions, (since, a, b) => {
        const range = new VersionRange({ since });
        const [first, second] = [
          { ...a, stable: 0 },
          { ...b, stable: 0 },
        ].sort(compareVersions);
        if (range.includes(first!)) expect(range.includes(second!)).toBe(true);
      }),
    );
  });
});
