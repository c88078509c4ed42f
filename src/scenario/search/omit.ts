// A scenario with actors and steps left out, as shrinking makes it and as a token names it:
//   guest                 the actor guest
//   vmm:madvise#2         the second madvise in the script of vmm
//   driver:@ready         the step of driver that is named ready
//   vmm:repeat#1/touch    the first touch inside that repetition
//   vmm:repeat#1=3        only three rounds of it
//   vmm:choose#1.2/touch  the first touch in the second list of that choice
// Names and words rather than lines or positions: an added step elsewhere changes nothing. Orders that the author asked
// for stay: whoever waited for an actor that is gone waits for what that actor waited for; a step that is waited for
// leaves its name behind.
import { type Ref, Script, visitNames } from '../file/reference.ts';
import type { Actor, Scenario } from '../file/scenario.ts';
import type { Hold, OperationStep, RepeatStep, ScriptStep, WaitTarget } from '../file/step.ts';
import { waitTargets } from '../file/wait-targets.ts';

/** One step of a script and what a token calls it. */
export interface ScriptPlace {
  readonly path: string;
  readonly actor: string;
  readonly step: ScriptStep;
  /** How deep inside other steps. */
  readonly depth: number;
}

/** What omitting came to. */
export interface Omitted {
  readonly scenario: Scenario;
  /** Paths that name nothing in this scenario. */
  readonly unknown: readonly string[];
}

const EMPTY = new Script<ScriptStep>([], undefined);
EMPTY.steps = [];

/** `madvise`, `repeat`, ... */
export function wordOf(step: ScriptStep): string {
  return step.kind === 'operation' ? step.operation.name : step.kind;
}

/** Every step of every script, outer ones before those inside, in the order of the file. */
export function placesOf(scenario: Scenario): readonly ScriptPlace[] {
  const places: ScriptPlace[] = [];
  const walk = (actor: string, script: Script<ScriptStep>, before: string, depth: number): void => {
    for (const [step, part] of partsOf(script)) {
      const path = `${before}${part}`;
      places.push({ path, actor, step, depth });
      for (const [index, inner] of scriptsOf(step).entries()) {
        const list = index === 0 ? path : `${part.includes('#') ? path : `${path}#1`}.${index + 1}`;
        walk(actor, inner, `${list}/`, depth + 1);
      }
    }
  };
  for (const actor of scenario.actors) walk(actor.name, actor.script, `${actor.name}:`, 0);
  return places;
}

/** The steps of one script with their parts of a path. */
function partsOf(script: Script<ScriptStep>): readonly (readonly [ScriptStep, string])[] {
  const counts = new Map<string, number>();
  return script.steps.map((step) => {
    const word = wordOf(step);
    const nth = (counts.get(word) ?? 0) + 1;
    counts.set(word, nth);
    return [step, step.name !== undefined ? `@${step.name}` : nth === 1 ? word : `${word}#${nth}`] as const;
  });
}

/** The scripts inside a step. */
export function scriptsOf(step: ScriptStep): readonly Script<ScriptStep>[] {
  if (step.kind === 'repeat') return [step.script];
  if (step.kind === 'choose') return step.scripts;
  if (step.kind !== 'operation') return [];
  const found: Script<ScriptStep>[] = [];
  visitNames(step.args, [], (one) => {
    if (one instanceof Script) found.push(one as Script<ScriptStep>);
  });
  return found;
}

/** The scenario without what `paths` name. */
export function omit(scenario: Scenario, paths: readonly string[]): Omitted {
  if (paths.length === 0) return { scenario, unknown: [] };
  const steps = new Map(placesOf(scenario).map(({ path, step }) => [normal(path), step]));
  const gone = new Set<ScriptStep>();
  const rounds = new Map<ScriptStep, number>();
  const goneActors = new Set<string>();
  const unknown: string[] = [];
  for (const path of paths) {
    const times = /=(\d+)$/.exec(path);
    const step = steps.get(normal(times === null ? path : path.slice(0, times.index)));
    if (!path.includes(':') && scenario.actors.some(({ name }) => name === path)) goneActors.add(path);
    else if (step === undefined || (times !== null && step.kind !== 'repeat')) unknown.push(path);
    else if (times === null) gone.add(step);
    else rounds.set(step, Number(times[1]));
  }
  return { scenario: new Cutter(scenario, gone, goneActors, rounds).cut(), unknown };
}

/** `x#1` is `x`. */
function normal(path: string): string {
  return path.replace(/#1(?![\d.])/g, '');
}

/** Makes the smaller scenario. */
class Cutter {
  private readonly scenario: Scenario;
  private readonly gone: ReadonlySet<ScriptStep>;
  private readonly rounds: ReadonlyMap<ScriptStep, number>;
  /** Actors that do not exist any more, with what they would have waited for. */
  private readonly goneActors = new Map<string, readonly WaitTarget[]>();
  /** Steps that somebody waits for: `actor` and name. */
  private readonly waitedFor: ReadonlySet<string>;

  constructor(
    scenario: Scenario,
    gone: ReadonlySet<ScriptStep>,
    goneActors: ReadonlySet<string>,
    rounds: ReadonlyMap<ScriptStep, number>,
  ) {
    this.scenario = scenario;
    this.gone = gone;
    this.rounds = rounds;
    for (const actor of scenario.actors) {
      if (goneActors.has(actor.name)) this.goneActors.set(actor.name, [...waitTargets(actor.script)]);
      else this.noteChildren(actor.script);
    }
    const waited = scenario.actors
      .filter(({ name }) => !goneActors.has(name))
      .flatMap(({ script }) => [...waitTargets(script)]);
    this.waitedFor = new Set(waited.map(({ actor, step }) => `${actor.name}:${step}`));
  }

  /** Children of forks that are gone are gone, too. */
  private noteChildren(script: Script<ScriptStep>): void {
    for (const step of script.steps) {
      if (this.gone.has(step) && step.kind === 'operation') {
        visitNames(step.args, [], (found) => {
          if (!(found instanceof Script) && 'kinds' in found && isChild(step, found.name))
            this.goneActors.set(found.name, []);
        });
      }
      for (const inner of scriptsOf(step)) this.noteChildren(inner);
    }
  }

  cut(): Scenario {
    const actors = this.scenario.actors
      .filter(({ name }) => !this.goneActors.has(name))
      .map((actor): Actor => ({ ...actor, script: this.script(actor.script, actor.name) }));
    return { ...this.scenario, actors };
  }

  private script(script: Script<ScriptStep>, actor: string): Script<ScriptStep> {
    const smaller = new Script<ScriptStep>(script.raw, script.subject);
    smaller.steps = script.steps.flatMap((step) => this.step(step, actor));
    return smaller;
  }

  private step(step: ScriptStep, actor: string): readonly ScriptStep[] {
    if (this.gone.has(step)) {
      const { name, where } = step;
      if (name === undefined || !this.waitedFor.has(`${actor}:${name}`)) return [];
      return [{ kind: 'repeat', times: 1, advance: {}, script: EMPTY, name, where }];
    }
    switch (step.kind) {
      case 'wait': {
        const targets = this.targets(step.targets, actor);
        return targets.length === 0 && step.name === undefined ? [] : [{ ...step, targets }];
      }
      case 'repeat': {
        const times = this.rounds.get(step) ?? step.times;
        return [{ ...step, times, script: this.script(step.script, actor) } satisfies RepeatStep];
      }
      case 'choose':
        return [{ ...step, scripts: step.scripts.map((script) => this.script(script, actor)) }];
      case 'operation':
        return [this.operation(step, actor)];
      default:
        return [step];
    }
  }

  private operation(step: OperationStep, actor: string): OperationStep {
    const holds = step.holds.flatMap((hold): Hold[] => {
      const until = this.targets(hold.until, actor);
      return until.length === 0 ? [] : [{ ...hold, until }];
    });
    if (scriptsOf(step).length === 0) return { ...step, holds };
    const child = (found: unknown): unknown =>
      found instanceof Script ? this.script(found as Script<ScriptStep>, childOf(step) ?? actor) : found;
    return { ...step, holds, args: mapped(step.args, child) };
  }

  /** What is left to wait for. */
  private targets(targets: readonly WaitTarget[], waiter: string, seen: readonly string[] = []): readonly WaitTarget[] {
    return targets.flatMap((target): readonly WaitTarget[] => {
      const { name } = target.actor;
      const instead = this.goneActors.get(name);
      if (instead === undefined) return name === waiter && seen.length > 0 ? [] : [target];
      return seen.includes(name) ? [] : this.targets(instead, waiter, [...seen, name]);
    });
  }
}

/** The name of the actor that an operation makes; undefined when it makes none. */
function childOf(step: OperationStep): string | undefined {
  let child: string | undefined;
  visitNames(step.args, [], (found) => {
    if (!(found instanceof Script) && isChild(step, found.name)) child = found.name;
  });
  return child;
}

function isChild(step: OperationStep, name: string): boolean {
  const made = (step.args as Readonly<Record<string, unknown>>).as as Ref | undefined;
  return made?.name === name && made.kinds.includes('actor');
}

/** A copy of arguments in which every script has been replaced. */
function mapped(value: unknown, replace: (found: unknown) => unknown): unknown {
  if (value instanceof Script) return replace(value);
  if (Array.isArray(value)) return value.map((item) => mapped(item, replace));
  if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mapped(item, replace)]));
}
