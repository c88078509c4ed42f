// A scenario file whose actors can be exchanged: the rest of the story stays, and what its author expected of his own
// steps goes. Workloads are plain data as YAML has it, and JSON text where they are kept or sent.
import { stringify } from 'yaml';
import { readSource } from '../file/source.ts';
import { CONTROL_WORDS, MODIFIERS } from '../file/step.ts';
import type { OperationRegistry } from '../operation.ts';

/** One step: a word with its arguments, and modifiers. */
export type RawStep = Record<string, unknown>;

/** One actor. */
export interface Part {
  on: string;
  vcpu?: unknown;
  cpu?: unknown;
  do: RawStep[];
}

/** Actors by name. */
export type Workload = Record<string, Part>;

/** A scenario as text, and how to write it with other actors. */
export class Story {
  /** What its author lets the actors do, without what he expects of it. */
  readonly original: Workload;
  readonly registry: OperationRegistry;
  private readonly rest: Readonly<Record<string, unknown>>;

  /** `text` must load without mistakes. */
  constructor(file: string, text: string, registry: OperationRegistry) {
    const { source } = readSource(file, text);
    if (source === undefined) throw new Error(`${file} cannot be read`);
    this.registry = registry;
    const { actors, reaches: _, ...rest } = plain(source.value) as Record<string, unknown>;
    this.rest = rest;
    this.original = {};
    for (const [name, actor] of Object.entries(actors as Record<string, unknown>)) {
      const written = (Array.isArray(actor) ? { do: actor } : actor) as Record<string, unknown>;
      this.original[name] = { on: name, ...written, do: this.freed(written.do as readonly unknown[]) };
    }
  }

  /** The file with `workload` in place of its actors. */
  with(workload: Workload): string {
    const { title, cases, ...rest } = this.rest;
    const unbound = (cases as readonly Record<string, unknown>[] | undefined)?.map(({ steps: _, ...one }) => one);
    const whole = {
      title: `made up from: ${String(title)}`,
      ...rest,
      actors: workload,
      ...(unbound === undefined ? {} : { cases: unbound }),
    };
    return stringify(whole, { lineWidth: 0, aliasDuplicateObjects: false });
  }

  /** The word of a step that says what it does. */
  wordOf(step: RawStep): string {
    return Object.keys(step).find((key) => !(MODIFIERS as readonly string[]).includes(key)) ?? '';
  }

  /** The scripts inside the arguments of a step: of a forked child, of a repetition, of a choice. */
  scriptsIn(step: RawStep): readonly RawStep[][] {
    const found: RawStep[][] = [];
    const look = (value: unknown): void => {
      if (Array.isArray(value)) {
        if (value.length > 0 && value.every((item) => this.isStep(item))) found.push(value as RawStep[]);
        else value.forEach(look);
      } else if (typeof value === 'object' && value !== null) Object.values(value).forEach(look);
    };
    look(step[this.wordOf(step)]);
    return found;
  }

  private isStep(value: unknown): boolean {
    if (typeof value === 'string') return this.registry.get(value) !== undefined;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
    const word = this.wordOf(value as RawStep);
    return this.registry.get(word) !== undefined || (CONTROL_WORDS as readonly string[]).includes(word);
  }

  /** Steps without expectations, names and holds; of waits only those for the end of an actor, which cannot hang. */
  private freed(script: readonly unknown[]): RawStep[] {
    const steps: RawStep[] = [];
    for (const raw of script) {
      const step = (typeof raw === 'string' ? { [raw]: {} } : raw) as RawStep;
      const word = this.wordOf(step);
      if (word === 'wait') {
        const targets = [step.wait].flat().filter((target) => typeof target === 'string');
        if (targets.length > 0) steps.push({ wait: targets });
        continue;
      }
      const args = this.freedArgs(step[word]);
      steps.push(this.registry.get(word) === undefined ? { [word]: args } : { [word]: args ?? {}, expect: 'any' });
    }
    return steps;
  }

  private freedArgs(value: unknown): unknown {
    if (Array.isArray(value)) {
      const script = value.length > 0 && value.every((item) => this.isStep(item));
      return script ? this.freed(value) : value.map((item) => this.freedArgs(item));
    }
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, this.freedArgs(inner)]));
  }
}

/** Ordinary objects, and integers that a number cannot hold as text, which every integer of a scenario may be. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return String(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
}
