// Names that point at things of a scenario, and names that operations give to things they make. The loader collects
// both after parsing, so that a reference may come before what it names, and an unknown one is reported at its place.
import * as z from 'zod';
import { scalar } from './scalar.ts';
import { UnitError } from './units.ts';

/**
 * What a name can name. The first five are declared at the top of a scenario; operations add names of these and of any
 * other kind (`cache`, `hwpt`, `buffer`) with `zDeclares`.
 */
export type NameKind = 'memory' | 'process' | 'vm' | 'device' | 'actor' | (string & {});

/** A name that must exist, as something of one of `kinds`. */
export class Ref {
  readonly kinds: readonly NameKind[];
  readonly name: string;

  constructor(kinds: readonly NameKind[], name: string) {
    this.kinds = kinds;
    this.name = name;
  }

  toString(): string {
    return this.name;
  }
}

/** A name that comes into being when the step runs. */
export class Declared {
  readonly kinds: readonly NameKind[];
  readonly name: string;

  constructor(kinds: readonly NameKind[], name: string) {
    this.kinds = kinds;
    this.name = name;
  }

  toString(): string {
    return this.name;
  }
}

/** The type of an argument that refers to something by name: `memory: zRef('memory')`. */
export function zRef(...kinds: readonly [NameKind, ...NameKind[]]) {
  const what = `the name of a ${kinds.join(' or ')}`;
  return scalar(
    what,
    { is: 'ref', kinds },
    { type: 'string', description: `The name of a ${kinds.join(' or ')}.` },
    (written) => {
      if (typeof written !== 'string') throw new UnitError(`\`${written}\` is not a name`, what);
      return new Ref(kinds, written);
    },
  );
}

/** The type of an argument that names what the operation makes: `as: zDeclares('process', 'actor')`. */
export function zDeclares(...kinds: readonly [NameKind, ...NameKind[]]) {
  const what = `a name for the new ${kinds[0]}`;
  return scalar(
    what,
    { is: 'declares', kinds },
    { type: 'string', description: `A name for the new ${kinds[0]}.` },
    (written) => {
      if (typeof written === 'string' && /^[A-Za-z_][\w.-]*$/.test(written)) return new Declared(kinds, written);
      throw new UnitError(`\`${written}\` is not a name`, what);
    },
  );
}

/** Who acts: decides which operations an actor can perform. */
export type SubjectKind = 'process' | 'vcpu' | 'device' | 'kernel';

// Keyed by definition, which survives `.describe()` and `.meta()`.
const scriptTypes = new WeakSet<object>();

/** A list of steps. Parsing keeps it as written; the loader fills in `steps` once all names are known. */
export class Script<Step = unknown> {
  readonly raw: readonly unknown[];
  /** Who acts in it; absent: whoever acts around it. */
  readonly subject: SubjectKind | undefined;
  private compiled: readonly Step[] | undefined;

  constructor(raw: readonly unknown[], subject: SubjectKind | undefined) {
    this.raw = raw;
    this.subject = subject;
  }

  get steps(): readonly Step[] {
    if (this.compiled === undefined) throw new Error('a script was read before the loader compiled it');
    return this.compiled;
  }

  set steps(steps: readonly Step[]) {
    this.compiled = steps;
  }
}

/** The type of an argument that is a script of its own, such as that of a forked child. */
export function zScript(subject?: SubjectKind) {
  const type = z.unknown().transform((value, context): Script => {
    if (Array.isArray(value)) return new Script(value, subject);
    context.issues.push({
      code: 'custom',
      message: value === undefined ? 'missing' : 'this is not a list of steps',
      input: value,
      params: { expected: 'a list of steps: `- touch: {memory: ram}`', mismatch: true },
    });
    return z.NEVER;
  });
  scriptTypes.add(type._zod.def);
  return type;
}

/** Whether a zod type came from `zScript`; the JSON Schema refers to one definition for all of them. */
export function isScriptType(type: z.core.$ZodType): boolean {
  return scriptTypes.has(type._zod.def);
}

/** Calls `visit` for every Ref, Declared and Script inside parsed arguments, with the path at which it was found. */
export function visitNames(
  value: unknown,
  path: readonly PropertyKey[],
  visit: (found: Ref | Declared | Script, path: readonly PropertyKey[]) => void,
): void {
  if (value instanceof Ref || value instanceof Declared || value instanceof Script) visit(value, path);
  else if (Array.isArray(value)) for (const [index, item] of value.entries()) visitNames(item, [...path, index], visit);
  else if (typeof value === 'object' && value !== null)
    for (const [key, item] of Object.entries(value)) visitNames(item, [...path, key], visit);
}
