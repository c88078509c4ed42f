// The zod types of what a person writes as one word: sizes, addresses, limits, durations, protections, names, contents.
// Each carries its JSON Schema, so that editors check and complete the same thing that the loader does.
import * as z from 'zod';
import { DURATION_EXPECTED, parseDuration, parseLimit, parseSize, SIZE_EXPECTED, UnitError } from './units.ts';

type Written = string | number | bigint;

/** JSON Schema keywords and the description of a scalar; zod copies them into the schema it generates. */
export interface ScalarMeta {
  readonly type?: string | readonly string[];
  readonly description: string;
  readonly pattern?: string;
  readonly enum?: readonly string[];
  readonly anyOf?: readonly object[];
}

/** What a scalar stands for: what a generator of scripts must know to write one. */
export type Nature =
  | { readonly is: 'size' | 'address' | 'limit' | 'duration' | 'prot' | 'name' | 'content' | 'kernel' }
  | { readonly is: 'count'; readonly min: number; readonly max: number }
  | { readonly is: 'ref'; readonly kinds: readonly string[] }
  | { readonly is: 'declares'; readonly kinds: readonly string[] };

// Keyed by definition, which survives `.describe()` and `.meta()`.
const natures = new WeakMap<object, Nature>();

/** The nature of a type made by `scalar`; undefined for other types. */
export function natureOf(type: z.core.$ZodType): Nature | undefined {
  return natures.get(type._zod.def);
}

/** What a scalar's reader throws or returns; UnitError becomes a message at the place where it was written. */
export function scalar<T>(expected: string, nature: Nature, meta: ScalarMeta, read: (written: Written) => T) {
  const type = z.unknown().transform((value, context): T => {
    const complain = (message: string, expectation: string, hint?: string): never => {
      context.issues.push({
        code: 'custom',
        message,
        input: value,
        params: { expected: expectation, hint, mismatch: message.startsWith('this is ') },
      });
      return z.NEVER;
    };
    if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'bigint')
      return complain(value === undefined ? 'missing' : `this is ${describeType(value)}`, expected);
    try {
      return read(value);
    } catch (error) {
      if (error instanceof UnitError) return complain(error.message, error.expected, error.hint);
      throw error;
    }
  });
  natures.set(type._zod.def, nature);
  return type.meta({ ...meta });
}

/** `a list`, `a mapping`, `text`, ...: what a YAML value is, in a sentence. */
export function describeType(value: unknown): string {
  if (value === null) return 'empty';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a mapping';
  if (typeof value === 'string') return 'text';
  if (typeof value === 'boolean') return `\`${value}\``;
  return 'a number';
}

const DIGITS = '[0-9][0-9_]*(\\.[0-9]+)?';
const SIZE_TERM = `(0[xX][0-9a-fA-F][0-9a-fA-F_]*|${DIGITS} ?([KMGTPE](iB)?|B)?)`;
const SIZE_PATTERN = `^\\s*${SIZE_TERM}(\\s*[+-]\\s*${SIZE_TERM})*\\s*$`;

/** Bytes, as a bigint. */
export const zSize = scalar(
  SIZE_EXPECTED,
  { is: 'size' },
  { type: ['integer', 'string'], pattern: SIZE_PATTERN, description: 'Bytes: 64MiB, 4KiB, 0x1000, 2GiB - 4KiB.' },
  parseSize,
);

/** A virtual, guest physical, physical or I/O virtual address, or an offset, as a bigint. */
export const zAddress = scalar(
  'an address such as `0x7f0000000000` or `4GiB`',
  { is: 'address' },
  { type: ['integer', 'string'], pattern: SIZE_PATTERN, description: 'An address: 0x7f0000000000, 4GiB, 0.' },
  parseSize,
);

/** Bytes of a resource limit, as a bigint; `unlimited` is RLIM_INFINITY. */
export const zLimit = scalar(
  `${SIZE_EXPECTED}, or \`unlimited\``,
  { is: 'limit' },
  {
    type: ['integer', 'string'],
    pattern: `^(unlimited|infinity)$|${SIZE_PATTERN}`,
    description: 'A limit in bytes, or unlimited.',
  },
  parseLimit,
);

/** Whole nanoseconds, as a number. */
export const zDuration = scalar(
  DURATION_EXPECTED,
  { is: 'duration' },
  {
    anyOf: [{ type: 'string', pattern: `^${DIGITS} ?(ns|us|µs|ms|s|min)$` }, { const: 0 }],
    description: 'A duration: 250ns, 10us, 5ms, 1s.',
  },
  parseDuration,
);

/** A whole number from `min` to `max`, as a number. */
export function zCount(min = 0, max = Number.MAX_SAFE_INTEGER) {
  const expected = max === Number.MAX_SAFE_INTEGER ? `a whole number, at least ${min}` : `${min} to ${max}`;
  return scalar(
    expected,
    { is: 'count', min, max },
    { type: 'integer', description: `Expected: ${expected}.` },
    (written) => {
      const number = typeof written === 'string' ? Number.NaN : Number(written);
      if (Number.isSafeInteger(number) && number >= min && number <= max) return number;
      throw new UnitError(
        `\`${written}\` is not ${Number.isSafeInteger(number) ? 'in range' : 'a whole number'}`,
        expected,
      );
    },
  );
}

/** Which accesses a mapping allows. */
export interface Prot {
  readonly read: boolean;
  readonly write: boolean;
  readonly exec: boolean;
}

/** `r`, `rw`, `rx`, `rwx`, `w`, `none`. */
export const zProt = scalar(
  '`r`, `w`, `rw`, `rx`, `rwx` or `none`',
  { is: 'prot' },
  { type: 'string', enum: ['none', 'r', 'w', 'rw', 'x', 'rx', 'wx', 'rwx'], description: 'Accesses allowed.' },
  (written): Prot => {
    const text = String(written);
    if (text !== 'none' && !/^r?w?x?$/.test(text))
      throw new UnitError(`unknown protection \`${text}\``, '`r`, `w`, `rw`, `rx`, `rwx` or `none`');
    return { read: text.includes('r'), write: text.includes('w'), exec: text.includes('x') };
  },
);

const NAME = /^[A-Za-z_][A-Za-z0-9_.-]*$/;

/** A name that the author gives to something. */
export const zName = scalar(
  'a name of letters, digits, `_`, `-` and `.` that begins with a letter',
  { is: 'name' },
  { type: 'string', pattern: NAME.source, description: 'A name.' },
  (written): string => {
    if (typeof written === 'string' && NAME.test(written)) return written;
    throw new UnitError(
      `\`${written}\` is not a name`,
      'a name of letters, digits, `_`, `-` and `.` that begins with a letter',
    );
  },
);

/** What bytes hold, as a token: any word or number; `zero` is zeroes. */
export const zContent = scalar(
  'a word that stands for the bytes written, such as `A`; `zero` for zeroes',
  { is: 'content' },
  { type: ['string', 'integer'], description: 'What the bytes hold: any word; zero for zeroes.' },
  (written): string => String(written),
);

/** The name of a simulated kernel; src/kernel judges whether it exists. */
export const zKernelName = scalar(
  'a kernel such as `v6.1` or `v6.12.117`',
  { is: 'kernel' },
  { type: ['string', 'number'], description: 'A kernel: v6.1, v6.12.117 (see `pinsim list kernels`).' },
  (written): string => {
    // YAML reads 6.10 as the number 6.1, so a bare number would silently name another kernel.
    if (typeof written !== 'string')
      throw new UnitError(`\`${written}\` is a number`, 'a kernel such as `v6.1`', `write \`v${written}\``);
    return written.startsWith('v') ? written : `v${written}`;
  },
);
