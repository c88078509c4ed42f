// The grammar of valid steps: any operation of the registry that an actor can perform, with arguments of the types that
// it declares, over the names and values of a scenario. What it writes is checked by the loader, like everything else.
import * as z from 'zod';
import type { Draws } from '../../explore/draws.ts';
import { isScriptType, type SubjectKind } from '../file/reference.ts';
import { type Nature, natureOf } from '../file/scalar.ts';
import type { Operation, OperationRegistry } from '../operation.ts';
import type { RawStep } from './workload.ts';

/** What a step may refer to, and values that the scenario uses, by argument. */
export interface Vocabulary {
  /** Names by kind. */
  readonly names: ReadonlyMap<string, readonly string[]>;
  readonly values: ReadonlyMap<string, readonly unknown[]>;
  /** Operations whose family (`vfio` of `vfio.map`) the scenario uses. */
  readonly families: ReadonlySet<string>;
}

const PAGES = [1, 1, 1, 2, 2, 3, 4, 8, 16] as const;
const PAGE = 4096;
const PROTS = ['r', 'w', 'rw', 'rw', 'none', 'rx'] as const;
const CONTENTS = ['zero', 'X', 'Y', 'Z'] as const;
const DURATIONS = ['0', '1us', '1ms', '20ms'] as const;
/** Arguments that a person gives seldom: raw fields, and addresses instead of names. Drawn one time in so many. */
const SELDOM: Readonly<Record<string, number>> = { flags: 12, argsz: 16, fault: 24, at: 12, vaddr: 16, node: 8 };

/** They end every thread of a process, where the model ends the one that calls: only authors know when that is right. */
export const ENDINGS: readonly string[] = ['exit', 'exec', 'kill'];

/** No value can be made: the scenario has nothing of that kind. */
const NOTHING = Symbol('nothing');

export class Grammar {
  private readonly registry: OperationRegistry;

  constructor(registry: OperationRegistry) {
    this.registry = registry;
  }

  /** A step that an actor of this kind can perform; null when the draw fell on one that needs what is not there. */
  step(kind: SubjectKind, vocabulary: Vocabulary, draws: Draws): RawStep | null {
    const able = this.registry
      .all()
      .filter(({ name, on }) => !ENDINGS.includes(name) && (on === undefined || on.includes(kind)));
    const familiar = able.filter(({ name }) => vocabulary.families.has(familyOf(name)));
    const from = familiar.length > 0 && draws.below(4) > 0 ? familiar : able;
    if (from.length === 0) return null;
    const operation = from[draws.below(from.length)]!;
    const args = new ArgumentWriter(vocabulary, draws).write(operation.args, operation.name);
    return args === NOTHING ? null : { [operation.name]: args, expect: 'any' };
  }

  /** The arguments of a step with one of them written anew, added or left out; null when there is none to change. */
  changed(operation: Operation, args: unknown, vocabulary: Vocabulary, draws: Draws): unknown {
    const type = bare(operation.args);
    if (!(type instanceof z.ZodObject) || typeof args !== 'object' || args === null) return null;
    const keys = Object.keys(type.shape).filter((key) => !isScriptType(bare(type.shape[key])));
    if (keys.length === 0) return null;
    const key = keys[draws.below(keys.length)]!;
    const { [key]: _, ...others } = args as Record<string, unknown>;
    const optional = type.shape[key] instanceof z.ZodOptional;
    if (optional && key in args && draws.below(3) === 0) return bounded(others);
    const value = new ArgumentWriter(vocabulary, draws).write(bare(type.shape[key]), key);
    return value === NOTHING ? null : bounded({ ...args, [key]: value });
  }
}

/** `vfio` of `vfio.map`; operations without a dot are of one family. */
export function familyOf(operation: string): string {
  const dot = operation.indexOf('.');
  return dot < 0 ? '' : operation.slice(0, dot);
}

/** The names that the arguments of an operation make, by kind. */
export function declaredBy(operation: Operation, args: unknown): readonly { kind: string; name: string }[] {
  const type = bare(operation.args);
  if (!(type instanceof z.ZodObject) || typeof args !== 'object' || args === null) return [];
  return Object.entries(type.shape).flatMap(([key, inner]) => {
    const nature = natureOf(bare(inner));
    const name = (args as Record<string, unknown>)[key];
    if (nature?.is !== 'declares' || typeof name !== 'string') return [];
    return nature.kinds.map((kind) => ({ kind, name }));
  });
}

function bare(type: unknown): z.ZodType {
  let inner = type as z.ZodType;
  while (inner instanceof z.ZodOptional) inner = inner.unwrap() as z.ZodType;
  return inner;
}

/** An address with a mapping but no length means everything from there to the mapping's end, wherever that is. */
function bounded(args: Record<string, unknown>): Record<string, unknown> {
  if (!('at' in args) || !('memory' in args) || 'length' in args) return args;
  const { at: _, ...others } = args;
  return others;
}

/** Writes values of types. */
class ArgumentWriter {
  private readonly vocabulary: Vocabulary;
  private readonly draws: Draws;

  constructor(vocabulary: Vocabulary, draws: Draws) {
    this.vocabulary = vocabulary;
    this.draws = draws;
  }

  write(written: z.ZodType, key: string): unknown {
    const type = bare(written);
    const nature = natureOf(type);
    if (nature !== undefined) return this.scalar(nature, key);
    if (isScriptType(type)) return [];
    if (type instanceof z.ZodObject) return this.object(type);
    if (type instanceof z.ZodEnum) return this.one(type.options);
    if (type instanceof z.ZodBoolean) return this.draws.below(2) === 0;
    if (type instanceof z.ZodLiteral) return type.value;
    if (type instanceof z.ZodUnion) return this.write(this.one(type.options) as z.ZodType, key);
    if (type instanceof z.ZodArray) {
      const item = this.write(type.element as z.ZodType, key);
      return item === NOTHING ? NOTHING : [item];
    }
    return NOTHING;
  }

  private object(type: z.ZodObject): unknown {
    const value: Record<string, unknown> = {};
    for (const [key, inner] of Object.entries(type.shape)) {
      const optional = inner instanceof z.ZodOptional;
      if (optional && !this.wanted(key, bare(inner))) continue;
      const made = this.write(bare(inner), key);
      if (made !== NOTHING) value[key] = made;
      else if (!optional) return NOTHING;
    }
    return bounded(value);
  }

  /** Is an argument given that may be left out? */
  private wanted(key: string, type: z.ZodType): boolean {
    const nature = natureOf(type);
    if (nature?.is === 'ref') return this.draws.below(8) > 0;
    return this.draws.below(SELDOM[key] ?? 3) === 0;
  }

  private scalar(nature: Nature, key: string): unknown {
    if (nature.is === 'ref') {
      const known = nature.kinds.flatMap((kind) => this.vocabulary.names.get(kind) ?? []);
      return known.length === 0 ? NOTHING : this.one(known);
    }
    // Below a thousand million names, so that it hardly ever meets one that is taken.
    if (nature.is === 'declares') return `made-${this.draws.bits().toString(36)}`;
    const used = this.vocabulary.values.get(key);
    if (used !== undefined && this.draws.below(3) > 0) return this.one(used);
    return this.fresh(nature);
  }

  private fresh(nature: Exclude<Nature, { is: 'ref' } | { is: 'declares' }>): unknown {
    const { draws } = this;
    switch (nature.is) {
      case 'size':
        return `${this.one(PAGES) * (PAGE / 1024)}KiB`;
      case 'address':
        return draws.below(16) === 0 ? draws.below(2 * PAGE) : draws.below(2) * this.one(PAGES) * PAGE;
      case 'limit':
        return draws.below(4) === 0 ? 'unlimited' : `${this.one(PAGES) * (PAGE / 1024)}KiB`;
      case 'duration':
        return this.one(DURATIONS) === '0' ? 0 : this.one(DURATIONS.slice(1));
      case 'count':
        return nature.min + draws.below(Math.min(nature.max - nature.min, 3) + 1);
      case 'prot':
        return this.one(PROTS);
      case 'content':
        return this.one(CONTENTS);
      case 'name':
        return `made-${draws.bits().toString(36)}`;
      case 'kernel':
        return NOTHING;
    }
  }

  private one<T>(values: readonly T[]): T {
    return values[this.draws.below(values.length)]!;
  }
}
