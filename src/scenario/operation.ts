// What an operation is: data about it, the zod type of its arguments, and a generator that performs it on the model.
// Operations live in operations/<subject>.ts, each file exporting a list; a registry is built from such lists.
import * as z from 'zod';
import type { Steps } from '../engine/process.ts';
import type { SubjectKind } from './file/reference.ts';
import type { OperationContext } from './world/context.ts';

/** A value that an operation shows: what a person can write in `shows:` to expect it. */
export type Shown = string | number | boolean | bigint | null | readonly Shown[];

/** How an operation ended. Without `errno` it succeeded; `returns` is what the system call returned (default 0). */
export interface Outcome {
  readonly returns?: number | bigint;
  /** An errno (`ENOMEM`) or, for an access to memory, the signal raised (`SIGBUS`). */
  readonly errno?: string;
  readonly shows?: Readonly<Record<string, Shown>>;
}

export interface Operation<Args extends z.ZodType = z.ZodType> {
  /** As users know it: `madvise`, `vfio.map`. */
  readonly name: string;
  /** One sentence: what it does. Names the system call, ioctl or file it stands for. */
  readonly summary: string;
  /** Who can perform it; absent: anyone. */
  readonly on?: readonly SubjectKind[];
  /** `z.strictObject({...})` of the types in scalar.ts and reference.ts. */
  readonly args: Args;
  /** `process`: gone afterwards, and the script of who performs it, too. `threads`: all others of the process end. */
  readonly ends?: 'process' | 'threads';
  /**
   * What others may look up meanwhile: what mappings are called and where they are, or who has which descriptor of VFIO and
   * which container a group is in. Names that it declares need not be said.
   */
  readonly changes?: 'mappings' | 'descriptors';
  /** Every key of `Outcome.shows` with its meaning; `*` when the keys are open (the counters of vmstat). */
  readonly shows?: Readonly<Record<string, string>>;
  /** Arguments as a script has them, to copy, where those that must be there do nothing by themselves. */
  readonly example?: string;
  /** Performs it. Failures that Linux reports are outcomes; what cannot happen throws. */
  run(context: OperationContext, args: z.output<Args>): Steps<Outcome>;
}

/** Types an operation: the arguments of `run` follow from `args`. */
export function defineOperation<Args extends z.ZodType>(operation: Operation<Args>): Operation {
  return operation;
}

/** Words that a step uses for itself, and so no operation can be called. */
export const STEP_WORDS = [
  ...['wait', 'at', 'sleep', 'repeat', 'choose'],
  ...['expect', 'returns', 'shows', 'as', 'hold'],
] as const;

/** All operations of a program, by name, in the order of the lists. */
export class OperationRegistry {
  private readonly byName = new Map<string, Operation>();
  /** The labels that the model's steps have; null: unknown, so that any may be waited for. */
  labels: (() => ReadonlySet<string>) | null = null;

  /** Throws when two operations share a name or an operation takes arguments it does not declare. */
  constructor(...lists: readonly (readonly Operation[])[]) {
    for (const operation of lists.flat()) {
      const { name, args } = operation;
      if (!/^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$/.test(name)) throw new Error(`'${name}' is no name for an operation`);
      if ((STEP_WORDS as readonly string[]).includes(name))
        throw new Error(`operation '${name}' would hide a word of steps`);
      if (this.byName.has(name)) throw new Error(`operation '${name}' is defined twice`);
      if (args instanceof z.ZodObject && !(args.def.catchall instanceof z.ZodNever))
        throw new Error(`operation '${name}' must declare its arguments with z.strictObject`);
      this.byName.set(name, operation);
    }
  }

  get(name: string): Operation | undefined {
    return this.byName.get(name);
  }

  /** All of them, in the order of the lists. */
  all(): readonly Operation[] {
    return [...this.byName.values()];
  }

  names(): readonly string[] {
    return [...this.byName.keys()];
  }
}
