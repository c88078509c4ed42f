// Reads scripts: every step names one operation or control word; its arguments are parsed by that word's own type.
// Names are collected on the way and checked at the end, so that a reference may come before what it names.

import type { Operation, OperationRegistry } from '../operation.ts';
import { type Diagnostic, didYouMean, nameList, type Where } from './diagnostic.ts';
import type { Expectation } from './expectation.ts';
import { parseAt, unknownKey } from './issue.ts';
import type { NameTable } from './names.ts';
import { Declared, type NameKind, Script, type SubjectKind, visitNames } from './reference.ts';
import { describeType } from './scalar.ts';
import type { Path, Source } from './source.ts';
import {
  CONTROL_TYPES,
  CONTROL_WORDS,
  type ControlWord,
  type Hold,
  MODIFIER_TYPES,
  MODIFIERS,
  type OperationStep,
  type ScriptStep,
  type WaitTarget,
} from './step.ts';

/** Whose script it is, for the checks that need to know. */
export interface ScriptOwner {
  readonly actor: string;
  readonly subject: SubjectKind;
}

export class ScriptCompiler {
  readonly diagnostics: Diagnostic[] = [];
  /** Names of steps (`as: name`) by actor. */
  readonly stepNames = new Map<string, Set<string>>();
  private readonly source: Source;
  private readonly registry: OperationRegistry;
  private readonly names: NameTable;

  constructor(source: Source, registry: OperationRegistry, names: NameTable) {
    this.source = source;
    this.registry = registry;
    this.names = names;
  }

  /** Fill in the steps of a script that was written at or below `path`. */
  compile(script: Script<ScriptStep>, path: Path, owner: ScriptOwner): void {
    const place = locate(this.source, script.raw, path);
    const steps: ScriptStep[] = [];
    for (const [index, raw] of script.raw.entries()) {
      const step = this.step(raw, [...place, index], owner);
      if (step !== undefined) steps.push(step);
      // A step that could not be read keeps its name, so that who waits for it is not blamed as well.
      const name = step === undefined ? this.source.get([...place, index, 'as']) : step.name;
      if (typeof name === 'string') this.nameStep(name, [...place, index], owner);
      const before = steps.at(-2);
      if (step !== undefined && before?.kind === 'operation' && before.operation.ends === 'process') {
        this.complain([...place, index], `nothing is done after \`${before.operation.name}\``, 'the end of the script');
      }
    }
    script.steps = steps;
  }

  private nameStep(name: string, path: Path, owner: ScriptOwner): void {
    const names = this.stepNames.get(owner.actor) ?? new Set();
    this.stepNames.set(owner.actor, names);
    if (names.has(name)) this.complain([...path, 'as'], `\`${owner.actor}\` has a step named \`${name}\` already`);
    names.add(name);
  }

  private step(raw: unknown, path: Path, owner: ScriptOwner): ScriptStep | undefined {
    const written = typeof raw === 'string' ? { [raw]: null } : raw;
    if (typeof written !== 'object' || written === null || Array.isArray(written)) {
      this.complain(path, `this is ${describeType(raw)}`, 'a step such as `touch: {memory: ram}`');
      return undefined;
    }
    const entries = written as Readonly<Record<string, unknown>>;
    const keys = Object.keys(entries);
    const words = keys.filter((key) => !(MODIFIERS as readonly string[]).includes(key));
    const word = this.theWord(words, path);
    if (word === undefined) return undefined;
    const operation = this.registry.get(word);
    const where = this.source.where(path);
    if (operation !== undefined) return this.operation(operation, entries, path, where, owner);
    return this.control(word as ControlWord, entries, path, where, owner);
  }

  /** The one key of a step that says what it does. */
  private theWord(words: readonly string[], path: Path): string | undefined {
    const known = [...this.registry.names(), ...CONTROL_WORDS];
    const right = words.filter((word) => known.includes(word));
    const wrong = words.filter((word) => !known.includes(word));
    for (const word of wrong) {
      if (right.length > 0) this.diagnostics.push(unknownKey(word, MODIFIERS, this.source, path));
      else {
        const hint = didYouMean(word, [...known, ...MODIFIERS]) ?? 'see `pinsim list operations`';
        this.complain([...path, word], `unknown operation \`${word}\``, undefined, hint, 'key');
      }
    }
    if (words.length === 0)
      this.complain(path, 'this step does nothing', 'an operation such as `touch: {memory: ram}`');
    if (right.length > 1) {
      const hint = 'write a list entry for each';
      this.complain([...path, right[1]!], `a step does one thing, this does ${nameAnd(right)}`, undefined, hint, 'key');
      return undefined;
    }
    return wrong.length === 0 ? right[0] : undefined;
  }

  private operation(
    operation: Operation,
    entries: Readonly<Record<string, unknown>>,
    path: Path,
    where: Where,
    owner: ScriptOwner,
  ): OperationStep | undefined {
    const { name } = operation;
    const argsPath = [...path, name];
    if (operation.on !== undefined && !operation.on.includes(owner.subject)) {
      const message = `\`${name}\` cannot be done by ${aSubject(owner.subject)}, which \`${owner.actor}\` is`;
      this.complain(argsPath, message, operation.on.map(aSubject).join(' or '), undefined, 'key');
    }
    // `- drop_caches:` and `- drop_caches` mean the same as `- drop_caches: {}`.
    const parsed = parseAt(operation.args, this.source, argsPath, entries[name] ?? {});
    this.diagnostics.push(...parsed.diagnostics);
    const modifiers = this.modifiers(entries, path);
    if (parsed.diagnostics.length > 0 || modifiers === undefined) return undefined;
    this.checkShown(operation, modifiers.expectation, path);
    this.collect(parsed.value, argsPath, owner);
    this.collect(modifiers.holds, [...path, 'hold'], owner);
    for (const hold of modifiers.holds) {
      this.checkLabel(hold.at, [...path, 'hold']);
      this.waitTargets(hold.until, [...path, 'hold', 'until'], owner);
    }
    return { kind: 'operation', operation, args: parsed.value, where, ...modifiers };
  }

  private control(
    word: ControlWord,
    entries: Readonly<Record<string, unknown>>,
    path: Path,
    where: Where,
    owner: ScriptOwner,
  ): ScriptStep | undefined {
    const argsPath = [...path, word];
    for (const key of Object.keys(entries))
      if (key !== word && key !== 'as')
        this.complain([...path, key], `\`${key}\` makes no sense with \`${word}\``, undefined, undefined, 'key');
    const modifiers = this.modifiers(entries, path);
    const parsed = parseAt(CONTROL_TYPES[word], this.source, argsPath, entries[word]);
    this.diagnostics.push(...parsed.diagnostics);
    if (parsed.diagnostics.length > 0 || modifiers === undefined) return undefined;
    const placed = { where, ...(modifiers.name === undefined ? {} : { name: modifiers.name }) };
    const { value } = parsed;
    this.collect(value, argsPath, owner);
    switch (word) {
      case 'wait': {
        const targets = value as readonly WaitTarget[];
        this.waitTargets(targets, argsPath, owner);
        return { kind: 'wait', targets, ...placed };
      }
      case 'at':
        return { kind: 'at', timeNs: value as number, ...placed };
      case 'sleep':
        return { kind: 'sleep', durationNs: value as number, ...placed };
      case 'repeat': {
        const { times, advance = {}, do: script } = value as RepeatArgs;
        this.checkAdvance(advance, script, argsPath);
        return { kind: 'repeat', times, advance, script, ...placed };
      }
      case 'choose':
        return { kind: 'choose', scripts: value as readonly Script<ScriptStep>[], ...placed };
    }
  }

  private modifiers(entries: Readonly<Record<string, unknown>>, path: Path): Modifiers | undefined {
    const values: Record<string, unknown> = {};
    let failed = false;
    for (const key of MODIFIERS) {
      if (!(key in entries)) continue;
      const parsed = parseAt(MODIFIER_TYPES[key], this.source, [...path, key], entries[key]);
      this.diagnostics.push(...parsed.diagnostics);
      if (parsed.diagnostics.length > 0) failed = true;
      else values[key] = parsed.value;
    }
    if (failed) return undefined;
    const { as: name, hold, ...expectation } = values as { as?: string; hold?: readonly Hold[] } & Expectation;
    return { expectation, holds: hold ?? [], ...(name === undefined ? {} : { name }) };
  }

  /** References are noted, scripts inside the arguments compiled. */
  private collect(value: unknown, path: Path, owner: ScriptOwner): void {
    const scripts: { readonly script: Script<ScriptStep>; readonly path: Path }[] = [];
    let child = owner.actor;
    visitNames(value, path, (found, foundPath) => {
      if (found instanceof Script) {
        scripts.push({ script: found as Script<ScriptStep>, path: foundPath });
        return;
      }
      this.names.note(found, foundPath);
      if (found instanceof Declared && found.kinds.includes('actor')) child = found.name;
    });
    for (const { script, path: scriptPath } of scripts) {
      // A script with a subject of its own is another actor's: the one that this operation makes.
      const { subject } = script;
      this.compile(script, scriptPath, subject === undefined ? owner : { actor: child, subject });
    }
  }

  private waitTargets(targets: readonly WaitTarget[], path: Path, owner: ScriptOwner): void {
    for (const { actor, step, label } of targets) {
      if (step !== undefined && label !== undefined)
        this.complain(path, 'wait for a `step` or for a `label`, not both');
      if (step === undefined && label === undefined && actor.name === owner.actor)
        this.complain(path, `\`${actor.name}\` would wait for its own end`);
      if (step !== undefined) this.names.noteStepUse(actor.name, step, path);
      if (label !== undefined) this.checkLabel(label, path);
    }
  }

  /** A label that no step of the model has would be waited for in vain. */
  checkLabel(label: string, path: Path): void {
    const known = this.registry.labels?.();
    if (known === undefined || known.has(label)) return;
    const prefix = label.split(':')[0]!;
    const kin = [...known].filter((one) => one === prefix || one.startsWith(`${prefix}:`));
    const hint = didYouMean(label, [...known]) ?? 'see `pinsim list labels`';
    this.complain(
      path,
      `no step of the model is labelled \`${label}\``,
      kin.length === 0 ? undefined : nameList(kin),
      hint,
    );
  }

  private checkShown(operation: Operation, expectation: Expectation, path: Path): void {
    const known = operation.shows ?? {};
    if ('*' in known) return;
    for (const key of Object.keys(expectation.shows ?? {})) {
      if (key in known) continue;
      const names = Object.keys(known);
      const message = `\`${operation.name}\` shows no \`${key}\``;
      this.complain([...path, 'shows', key], message, nameList(names), didYouMean(key, names), 'key');
    }
  }

  private checkAdvance(advance: Readonly<Record<string, bigint>>, script: Script<ScriptStep>, path: Path): void {
    for (const key of Object.keys(advance)) {
      if (!takes(script, key) && script.steps.length === script.raw.length)
        this.complain(
          [...path, 'advance', key],
          `no step repeated has a size or address \`${key}\` to begin with`,
          undefined,
          undefined,
          'key',
        );
    }
  }

  private complain(
    path: Path,
    message: string,
    expected?: string,
    hint?: string,
    part: 'key' | 'value' = 'value',
  ): void {
    this.diagnostics.push(this.source.diagnostic(path, { message, expected, hint }, part));
  }
}

/** Has any step of the script, or of those within it, a size or address of that name? */
function takes(script: Script<ScriptStep>, key: string): boolean {
  return script.steps.some((step) => {
    if (step.kind === 'repeat') return takes(step.script, key);
    if (step.kind === 'choose') return step.scripts.some((inner) => takes(inner, key));
    return step.kind === 'operation' && typeof (step.args as Readonly<Record<string, unknown>>)[key] === 'bigint';
  });
}

interface RepeatArgs {
  readonly times: number;
  readonly advance?: Readonly<Record<string, bigint>>;
  readonly do: Script<ScriptStep>;
}

interface Modifiers {
  readonly expectation: Expectation;
  readonly holds: readonly Hold[];
  readonly name?: string;
}

/** Where a script was written: parsing may have moved it, but the list itself is still the one in the source. */
function locate(source: Source, raw: readonly unknown[], path: Path): Path {
  for (let length = path.length; length >= 0; length--) {
    const found = findBelow(source, raw, path.slice(0, length));
    if (found !== undefined) return found;
  }
  return path;
}

function findBelow(source: Source, raw: readonly unknown[], path: Path): Path | undefined {
  const value = source.get(path);
  if (value === raw) return path;
  if (typeof value !== 'object' || value === null) return undefined;
  for (const key of Array.isArray(value) ? value.keys() : Object.keys(value)) {
    const found = findBelow(source, raw, [...path, key]);
    if (found !== undefined) return found;
  }
  return undefined;
}

function nameAnd(words: readonly string[]): string {
  return words.map((word) => `\`${word}\``).join(' and ');
}

const SUBJECT_WORDS: Readonly<Record<SubjectKind, string>> = {
  process: 'a process',
  vcpu: 'a vCPU',
  device: 'a device',
  kernel: 'the kernel',
};

/** `a process`, `a vCPU`, ... */
export function aSubject(kind: NameKind): string {
  return SUBJECT_WORDS[kind as SubjectKind] ?? `a ${kind}`;
}
