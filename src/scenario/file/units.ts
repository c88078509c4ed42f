// Sizes, addresses and durations as people write them (`64MiB`, `0x1000`, `2GiB - 4KiB`, `10us`), exactly: byte values
// are bigint up to 2^64 - 1, durations whole nanoseconds. Decimal units (MB) are refused because nobody agrees on them.

/** A text that is no size, address or duration: what is wrong with it and what would be right. */
export class UnitError extends Error {
  override readonly name = 'UnitError';
  readonly expected: string;
  readonly hint: string | undefined;

  constructor(message: string, expected: string, hint?: string) {
    super(message);
    this.expected = expected;
    this.hint = hint;
  }
}

export const BYTES_MAX = (1n << 64n) - 1n;
/** RLIM_INFINITY, which `ulimit` and systemd call `unlimited`. */
export const UNLIMITED = BYTES_MAX;

export const SIZE_EXPECTED = 'a size in bytes such as `64MiB`, `4KiB`, `2GiB` or `0x1000`';
export const DURATION_EXPECTED = 'a duration such as `10us`, `5ms`, `250ns` or `1s`';

const UNIT_SHIFTS: Readonly<Record<string, bigint>> = {
  B: 0n,
  ...{ KiB: 10n, MiB: 20n, GiB: 30n, TiB: 40n, PiB: 50n, EiB: 60n },
  ...{ K: 10n, M: 20n, G: 30n, T: 40n, P: 50n, E: 60n },
};
/** Largest first: how `formatSize` writes. */
const WRITTEN_UNITS = ['EiB', 'PiB', 'TiB', 'GiB', 'MiB', 'KiB'] as const;

const DURATION_NS: Readonly<Record<string, bigint>> = {
  ...{ ns: 1n, us: 1_000n, µs: 1_000n, μs: 1_000n },
  ...{ ms: 1_000_000n, s: 1_000_000_000n, min: 60_000_000_000n },
};
const WRITTEN_DURATIONS = ['s', 'ms', 'us', 'ns'] as const;

/**
 * Bytes of a size or an address. Takes integers, decimal or hexadecimal text with `_` between digits, binary units
 * (`KiB` or, as the kernel and QEMU write, `K`), decimal fractions that come out whole, and sums and differences.
 * Throws UnitError.
 */
export function parseSize(written: string | number | bigint): bigint {
  if (typeof written !== 'string') return inRange(wholeNumber(written, SIZE_EXPECTED), String(written));
  const text = written.trim();
  let total = 0n;
  let rest = text;
  let sign = 1n;
  for (;;) {
    const cut = rest.search(/[+-]/);
    const term = (cut === -1 ? rest : rest.slice(0, cut)).trim();
    total += sign * parseTerm(term, text);
    if (cut === -1) return inRange(total, text);
    sign = rest[cut] === '+' ? 1n : -1n;
    rest = rest.slice(cut + 1);
  }
}

/** Like `parseSize`, and `unlimited` (or `infinity`, as systemd writes) is RLIM_INFINITY. Throws UnitError. */
export function parseLimit(written: string | number | bigint): bigint {
  if (written === 'unlimited' || written === 'infinity') return UNLIMITED;
  try {
    return parseSize(written);
  } catch (error) {
    if (error instanceof UnitError)
      throw new UnitError(error.message, `${SIZE_EXPECTED}, or \`unlimited\``, error.hint);
    throw error;
  }
}

/** Whole nanoseconds. A unit is required, save for 0. Throws UnitError. */
export function parseDuration(written: string | number | bigint): number {
  if (typeof written !== 'string') {
    const whole = wholeNumber(written, DURATION_EXPECTED);
    if (whole === 0n) return 0;
    if (whole < 0n) throw new UnitError(`${written} is before now`, DURATION_EXPECTED);
    throw new UnitError(`${written} has no unit`, DURATION_EXPECTED, `write \`${written}ns\` for nanoseconds`);
  }
  const text = written.trim();
  const match = /^([0-9][0-9_]*)(?:\.([0-9]+))?\s*([A-Za-zµμ]*)$/.exec(text);
  if (match === null) throw new UnitError(`\`${text}\` is not a duration`, DURATION_EXPECTED);
  const [, whole = '', fraction = '', unit = ''] = match;
  const scale = DURATION_NS[unit];
  if (unit === '')
    throw new UnitError(`\`${text}\` has no unit`, DURATION_EXPECTED, `write \`${text}ns\` for nanoseconds`);
  if (scale === undefined) throw new UnitError(`unknown unit of time \`${unit}\``, DURATION_EXPECTED);
  const ns = Number(scaled(whole, fraction, scale, text, 'nanoseconds', DURATION_EXPECTED));
  if (!Number.isSafeInteger(ns)) throw new UnitError(`\`${text}\` is too long`, 'at most 104 days');
  return ns;
}

/** The shortest exact writing in one unit: 67108864 is `64MiB`, 4097 is `4097`. `parseSize` reads it back. */
export function formatSize(bytes: bigint | number): string {
  const value = BigInt(bytes);
  if (value < 0n) return `-${formatSize(-value)}`;
  for (const unit of WRITTEN_UNITS) {
    const one = 1n << UNIT_SHIFTS[unit]!;
    if (value >= one && value % one === 0n) return `${value / one}${unit}`;
  }
  return `${value}`;
}

/** Hexadecimal, as addresses are read. */
export function formatAddress(address: bigint | number): string {
  return `0x${BigInt(address).toString(16)}`;
}

/** `unlimited`, or a size. */
export function formatLimit(limit: bigint): string {
  return limit === UNLIMITED ? 'unlimited' : formatSize(limit);
}

/** The shortest exact writing in one unit: 1500 ns is `1500ns`, 2000 ns is `2us`. `parseDuration` reads it back. */
export function formatDuration(ns: number): string {
  for (const unit of WRITTEN_DURATIONS) {
    const one = Number(DURATION_NS[unit]);
    if (ns >= one && ns % one === 0) return `${ns / one}${unit}`;
  }
  return `${ns}ns`;
}

function parseTerm(term: string, text: string): bigint {
  const hex = /^0[xX]([0-9a-fA-F][0-9a-fA-F_]*)$/.exec(term);
  if (hex !== null) return BigInt(`0x${hex[1]!.replaceAll('_', '')}`);
  const match = /^([0-9][0-9_]*)(?:\.([0-9]+))?\s*([A-Za-z]*)$/.exec(term);
  if (match === null) throw new UnitError(`\`${text}\` is not a size or an address`, SIZE_EXPECTED);
  const [, whole = '', fraction = '', unit = ''] = match;
  const shift = unit === '' ? 0n : UNIT_SHIFTS[unit];
  if (shift === undefined) throw unknownUnit(unit, `${whole}${fraction === '' ? '' : `.${fraction}`}`);
  return scaled(whole, fraction, 1n << shift, text, 'bytes', SIZE_EXPECTED);
}

/** whole.fraction times scale, refused when a part of a unit would be lost. */
function scaled(whole: string, fraction: string, scale: bigint, text: string, of: string, expected: string): bigint {
  const digits = BigInt(whole.replaceAll('_', '') + fraction) * scale;
  const denominator = 10n ** BigInt(fraction.length);
  if (digits % denominator !== 0n) throw new UnitError(`\`${text}\` is not a whole number of ${of}`, expected);
  return digits / denominator;
}

function unknownUnit(unit: string, number: string): UnitError {
  const message = `unknown unit \`${unit}\``;
  const initial = unit[0]!.toUpperCase();
  if (/^[kmgtpe](i?b)?$/i.test(unit)) {
    const binary = `${number}${initial}iB`;
    const why = /^[kmgtpe]b$/i.test(unit) ? ', which always means a power of 1024' : '';
    return new UnitError(message, SIZE_EXPECTED, `write \`${binary}\`${why}`);
  }
  return new UnitError(message, SIZE_EXPECTED);
}

function wholeNumber(value: number | bigint, expected: string): bigint {
  if (typeof value === 'bigint') return value;
  if (!Number.isInteger(value)) throw new UnitError(`${value} is not a whole number`, expected);
  return BigInt(value);
}

function inRange(value: bigint, text: string): bigint {
  if (value < 0n) throw new UnitError(`\`${text}\` is negative`, SIZE_EXPECTED);
  if (value > BYTES_MAX) throw new UnitError(`\`${text}\` does not fit 64 bits`, 'at most 0xffffffffffffffff');
  return value;
}
