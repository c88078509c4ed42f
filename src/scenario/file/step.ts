// The steps of a script as the loader leaves them for the world: operations with checked arguments, and control.
import * as z from 'zod';
import type { Operation } from '../operation.ts';
import type { Where } from './diagnostic.ts';
import { EXPECTATION_TYPES, type Expectation } from './expectation.ts';
import { type Ref, type Script, zRef, zScript } from './reference.ts';
import { zAddress, zCount, zDuration, zName } from './scalar.ts';

/** What a `wait` or a `hold` waits for: the end of an actor, of a step of it, or that it acts a label. */
export interface WaitTarget {
  readonly actor: Ref;
  /** Name of a step (`as: name`); reached when that step has ended. */
  readonly step?: string | undefined;
  /** A label of the model, such as `gup_fast:recheck-pte`; reached when the actor has acted it. */
  readonly label?: string | undefined;
  /** Which time it is reached; default 1. */
  readonly time?: number | undefined;
}

/** Stops an operation in the middle: it may not act the step labelled `at` before `until` has happened. */
export interface Hold {
  readonly at: string;
  /** Which time the operation comes to that label; default 1. */
  readonly time?: number | undefined;
  readonly until: readonly WaitTarget[];
}

interface Placed {
  readonly where: Where;
  /** `as: name`: what `wait` and a case's `steps` call it. */
  readonly name?: string;
}

export interface OperationStep extends Placed {
  readonly kind: 'operation';
  readonly operation: Operation;
  /** As the operation's `args` parsed them. */
  readonly args: unknown;
  readonly expectation: Expectation;
  readonly holds: readonly Hold[];
}

export interface WaitStep extends Placed {
  readonly kind: 'wait';
  /** All of them. */
  readonly targets: readonly WaitTarget[];
}

/** Waits until a date of simulated time; under a search, a timer that may fire at any point. */
export interface AtStep extends Placed {
  readonly kind: 'at';
  readonly timeNs: number;
}

export interface SleepStep extends Placed {
  readonly kind: 'sleep';
  readonly durationNs: number;
}

export interface RepeatStep extends Placed {
  readonly kind: 'repeat';
  readonly times: number;
  /** By how much arguments of these names grow with each round. */
  readonly advance: Readonly<Record<string, bigint>>;
  readonly script: Script<ScriptStep>;
}

/** One of the scripts is performed; which one is a choice of the run. */
export interface ChooseStep extends Placed {
  readonly kind: 'choose';
  readonly scripts: readonly Script<ScriptStep>[];
}

export type ControlStep = WaitStep | AtStep | SleepStep | RepeatStep | ChooseStep;
export type ScriptStep = OperationStep | ControlStep;

/** What `grown` becomes in round `round` (from 0) of a repetition that advances arguments by `advance`. */
export function growBy(
  grown: Readonly<Record<string, bigint>>,
  advance: Readonly<Record<string, bigint>>,
  round: number,
): Readonly<Record<string, bigint>> {
  const sum: Record<string, bigint> = { ...grown };
  for (const [key, by] of Object.entries(advance)) sum[key] = (sum[key] ?? 0n) + by * BigInt(round);
  return sum;
}

/** Arguments of an operation within repetitions: those that advance have grown. */
export function growArgs(args: unknown, grown: Readonly<Record<string, bigint>>): unknown {
  if (typeof args !== 'object' || args === null) return args;
  const advanced: Record<string, unknown> = { ...args };
  for (const [key, by] of Object.entries(grown)) {
    const start = advanced[key];
    if (typeof start === 'bigint') advanced[key] = start + by;
  }
  return advanced;
}

const zWaitTarget = z
  .union([
    zRef('actor').transform((actor): WaitTarget => ({ actor })),
    z.strictObject({
      actor: zRef('actor'),
      step: zName.optional().describe('A step of it, named with `as`: until that has ended.'),
      label: z.string().optional().describe('A label of the model: until the actor has acted it.'),
      time: zCount(1).optional().describe('Which time; default 1.'),
    }),
  ])
  .describe('An actor (until it has ended), or {actor, step} or {actor, label}.');

const zWaitTargets = z.union([zWaitTarget.transform((target) => [target]), z.array(zWaitTarget).min(1)]);

const zHold = z
  .strictObject({
    at: z.string().describe('A label of the model; the operation stops before it acts that.'),
    time: zCount(1).optional().describe('Which time it comes there; default 1.'),
    until: zWaitTargets.describe('Until that has happened.'),
  })
  .describe('Stops the operation in the middle, so that a race takes one certain order.');

/** The arguments of control words, by word. */
export const CONTROL_TYPES = {
  wait: zWaitTargets.describe('Waits for the end of an actor, or {actor, step} or {actor, label}; a list means all.'),
  at: zDuration.describe('Waits until this date of simulated time.'),
  sleep: zDuration.describe('Waits for that long.'),
  repeat: z
    .strictObject({
      times: zCount(1),
      advance: z.record(zName, zAddress).optional().describe('How much these arguments grow each round: {iova: 4KiB}.'),
      do: zScript(),
    })
    .describe('Performs steps several times.'),
  choose: z.array(zScript()).min(2).describe('Performs one of several lists of steps; which one is left open.'),
} as const;
export type ControlWord = keyof typeof CONTROL_TYPES;
export const CONTROL_WORDS = Object.keys(CONTROL_TYPES) as readonly ControlWord[];

/** The keys that may stand beside an operation. */
export const MODIFIER_TYPES = {
  ...EXPECTATION_TYPES,
  as: zName.describe('A name for this step, for `wait` and for the `steps` of a case.'),
  hold: z.union([zHold.transform((hold) => [hold]), z.array(zHold).min(1)]).describe(zHold.description ?? ''),
} as const;
export const MODIFIERS = Object.keys(MODIFIER_TYPES) as readonly (keyof typeof MODIFIER_TYPES)[];
