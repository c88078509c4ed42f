// Sizes, limits and durations: what people write and the exact number it means.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  formatDuration,
  formatLimit,
  formatSize,
  parseDuration,
  parseLimit,
  parseSize,
  UNLIMITED,
  UnitError,
} from '../../../src/scenario/file/units.ts';

function errorOf(act: () => unknown): { message: string; hint: string | undefined } {
  try {
    act();
  } catch (error) {
    if (error instanceof UnitError) return { message: error.message, hint: error.hint };
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('a size', () => {
  it.each<[string | number | bigint, bigint]>([
    [0, 0n],
    [4096, 4096n],
    ['4096', 4096n],
    ['4KiB', 4096n],
    ['4K', 4096n],
    ['4 KiB', 4096n],
    ['64MiB', 67108864n],
    ['1TiB', 1099511627776n],
    ['1.5GiB', 1610612736n],
    ['0.25KiB', 256n],
    ['0x1000', 4096n],
    ['0X1f', 31n],
    ['0x7f00_0000_0000', 0x7f0000000000n],
    ['1_000', 1000n],
    ['2GiB - 4KiB', 2147479552n],
    ['4GiB+0x1000', 4294971392n],
    ['16EiB - 1', 0xffffffffffffffffn],
    [0xfffffffffffff000n, 0xfffffffffffff000n],
    ['100B', 100n],
  ])('%s is %s bytes', (written, bytes) => {
    expect(parseSize(written)).toBe(bytes);
  });

  it.each([
    ['64MB', 'unknown unit `MB`', 'write `64MiB`, which always means a power of 1024'],
    ['4kB', 'unknown unit `kB`', 'write `4KiB`, which always means a power of 1024'],
    ['4kib', 'unknown unit `kib`', 'write `4KiB`'],
    ['1.5gb', 'unknown unit `gb`', 'write `1.5GiB`, which always means a power of 1024'],
    ['3 pages', 'unknown unit `pages`', undefined],
    ['lots', '`lots` is not a size or an address', undefined],
    ['', '`` is not a size or an address', undefined],
    ['1.3KiB', '`1.3KiB` is not a whole number of bytes', undefined],
    [1.5, '1.5 is not a whole number', undefined],
    [-1, '`-1` is negative', undefined],
    ['4KiB - 8KiB', '`4KiB - 8KiB` is negative', undefined],
    ['16EiB', '`16EiB` does not fit 64 bits', undefined],
    ['0x', 'unknown unit `x`', undefined],
  ])('%s is refused: %s', (written, message, hint) => {
    expect(errorOf(() => parseSize(written))).toEqual({ message, hint });
  });

  it.each<[bigint, string]>([
    [0n, '0'],
    [1n, '1'],
    [4096n, '4KiB'],
    [4097n, '4097'],
    [6144n, '6KiB'],
    [1n << 30n, '1GiB'],
    [(1n << 64n) - 1n, '18446744073709551615'],
  ])('%s is written %s', (bytes, written) => {
    expect(formatSize(bytes)).toBe(written);
  });

  it('reads back what it writes', () => {
    const bytes = fc.oneof(
      fc.bigInt({ min: 0n, max: UNLIMITED }),
      fc.tuple(fc.bigInt({ min: 0n, max: 15n }), fc.bigInt({ min: 0n, max: 60n })).map(([n, shift]) => n << shift),
    );
    fc.assert(fc.property(bytes, (value) => parseSize(formatSize(value)) === value));
  });
});

describe('a limit', () => {
  it('may be unlimited, as ulimit and systemd write it', () => {
    expect(parseLimit('unlimited')).toBe(UNLIMITED);
    expect(parseLimit('infinity')).toBe(UNLIMITED);
    expect(formatLimit(UNLIMITED)).toBe('unlimited');
  });

  it('is otherwise a size', () => {
    expect(parseLimit('8MiB')).toBe(8388608n);
    expect(() => parseLimit('none')).toThrow('`none` is not a size or an address');
  });
});

describe('a duration', () => {
  it.each<[string | number, number]>([
    [0, 0],
    ['0ns', 0],
    ['250ns', 250],
    ['10us', 10_000],
    ['10µs', 10_000],
    ['5 ms', 5_000_000],
    ['1.5ms', 1_500_000],
    ['1s', 1_000_000_000],
    ['2min', 120_000_000_000],
  ])('%s is %s ns', (written, ns) => {
    expect(parseDuration(written)).toBe(ns);
  });

  it.each([
    [10, '10 has no unit', 'write `10ns` for nanoseconds'],
    ['10', '`10` has no unit', 'write `10ns` for nanoseconds'],
    ['1.5ns', '`1.5ns` is not a whole number of nanoseconds', undefined],
    ['1h', 'unknown unit of time `h`', undefined],
    ['soon', '`soon` is not a duration', undefined],
    ['9999999999s', '`9999999999s` is too long', undefined],
  ])('%s is refused: %s', (written, message, hint) => {
    expect(errorOf(() => parseDuration(written))).toEqual({ message, hint });
  });

  it('reads back what it writes', () => {
    fc.assert(fc.property(fc.maxSafeNat(), (ns) => parseDuration(formatDuration(ns)) === ns));
  });
});
