// What a step of a script takes, in words: the arguments of an operation or a control word, from the very types that the
// loader parses them with, and a line to copy.
import * as z from 'zod';
import type { Operation } from '../operation.ts';
import { wordSchema } from './json-schema.ts';
import { isScriptType } from './reference.ts';
import { type Nature, natureOf } from './scalar.ts';
import { CONTROL_TYPES, type ControlWord } from './step.ts';

/** Indented lines: arguments, what it shows, who can do it, an example. */
export function explainOperation(operation: Operation): readonly string[] {
  const { name, args } = operation;
  const shows = Object.entries(operation.shows ?? {});
  return [
    ...(operation.on === undefined ? [] : ['', `Who can do it: ${operation.on.join(', ')}.`]),
    ...argumentLines(args),
    ...(shows.length === 0 ? [] : ['', 'Shows (for `shows: {key: value}`):', ...columns(shows)]),
    '',
    'Example:',
    `  - ${name}: ${operation.example ?? exampleOf(args)}`,
  ];
}

/** The same for `wait`, `repeat`, ...; undefined for other names. */
export function explainControl(name: string): readonly string[] | undefined {
  const type: z.ZodType | undefined = CONTROL_TYPES[name as ControlWord];
  return type === undefined
    ? undefined
    : [`${name}: ${type.description ?? 'a control word of scripts'}`, ...argumentLines(type)];
}

interface Property {
  readonly description?: string;
  readonly enum?: readonly unknown[];
  readonly type?: unknown;
}

function argumentLines(type: z.ZodType): readonly string[] {
  const schema = wordSchema(type) as {
    readonly properties?: Readonly<Record<string, Property>>;
    readonly required?: readonly string[];
  };
  const rows = Object.entries(schema.properties ?? {}).map(([key, property]): readonly [string, string] => {
    const must = schema.required?.includes(key) === true ? `${key} (needed)` : key;
    const choice = property.enum === undefined ? '' : `One of ${property.enum.join(', ')}.`;
    const bool = property.type === 'boolean' && property.description === undefined ? 'true or false.' : '';
    return [must, [property.description ?? '', choice, bool].filter(Boolean).join(' ')];
  });
  if (rows.length > 0) return ['', 'Takes:', ...columns(rows)];
  return type instanceof z.ZodObject ? ['', 'Takes no arguments.'] : [];
}

function columns(rows: readonly (readonly [string, string])[]): readonly string[] {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, text]) => `  ${name.padEnd(width)}  ${text}`.trimEnd());
}

const EXAMPLES: Readonly<Record<Exclude<Nature['is'], 'count' | 'ref' | 'declares'>, string>> = {
  size: '64KiB',
  address: '0x1000',
  limit: '8MiB',
  duration: '1ms',
  prot: 'rw',
  name: 'a',
  content: 'A',
  kernel: 'v6.12',
};
const NAMED: Readonly<Record<string, string>> = { memory: 'ram', process: 'vmm', device: 'nic', vm: 'guest' };
/** Names for what is new, beside those. */
const DECLARED: Readonly<Record<string, string>> = { memory: 'more', process: 'child', vm: 'other' };

/** The arguments that must be there, with values that could stand there. */
function exampleOf(type: z.ZodType): string {
  if (!(type instanceof z.ZodObject)) return '{}';
  const needed = Object.entries(type.shape as Readonly<Record<string, z.ZodType>>).filter(
    ([key, value]) => key === 'memory' || !value.safeParse(undefined).success,
  );
  return `{${needed.map(([key, value]) => `${key}: ${placeholder(value)}`).join(', ')}}`;
}

function placeholder(type: z.ZodType): string {
  const inner = type instanceof z.ZodOptional ? (type.unwrap() as z.ZodType) : type;
  const nature = natureOf(inner);
  if (nature?.is === 'count') return String(nature.min);
  if (nature?.is === 'ref') return NAMED[nature.kinds[0]!] ?? nature.kinds[0]!;
  if (nature?.is === 'declares') return DECLARED[nature.kinds[0]!] ?? nature.kinds[0]!;
  if (nature !== undefined) return EXAMPLES[nature.is];
  if (isScriptType(inner)) return '[{touch: {memory: ram}}]';
  if (inner instanceof z.ZodArray) return `[${placeholder(inner.element as z.ZodType)}]`;
  if (inner instanceof z.ZodObject) return exampleOf(inner);
  if (inner instanceof z.ZodUnion) return placeholder(inner.options[0] as z.ZodType);
  if (inner instanceof z.ZodEnum) return String(inner.options[0]);
  if (inner instanceof z.ZodBoolean) return 'true';
  return '...';
}
