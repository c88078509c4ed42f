// Made-up workloads: what actors of a scenario do is changed at random, within what the loader accepts. Steps come and go,
// change places and arguments, are taken from another workload of the same scenario, or get an actor of their own.

import { hashText } from '../../engine/hash.ts';
import type { Draws } from '../../explore/draws.ts';
import { ScenarioError } from '../file/diagnostic.ts';
import { loadScenario } from '../file/load.ts';
import type { SubjectKind } from '../file/reference.ts';
import type { Scenario } from '../file/scenario.ts';
import type { OperationRegistry } from '../operation.ts';
import { declaredBy, ENDINGS, familyOf, Grammar, type Vocabulary } from './grammar.ts';
import { type RawStep, Story, type Workload } from './workload.ts';

/** Attempts before the parent is run as it is. */
const ATTEMPTS_MAX = 8;
/** Changes at once. */
const CHANGES_MAX = 4;
/** Workloads stay small enough to be read, and to be searched. */
const STEPS_MAX = 24;
const EXTRA_ACTORS_MAX = 2;

export interface MadeUp {
  /** The workload as text, for later mutations. */
  readonly workload: string;
  /** The scenario file that has it, and the name by which a token calls it. */
  readonly file: string;
  readonly text: string;
  readonly scenario: Scenario;
}

/** A script, and who performs it. */
interface Place {
  readonly script: RawStep[];
  readonly kind: SubjectKind;
}

export class Mutator {
  private readonly file: string;
  private readonly story: Story;
  private readonly grammar: Grammar;
  private readonly registry: OperationRegistry;
  private readonly scenario: Scenario;

  /** `text` must load without mistakes. */
  constructor(scenario: Scenario, text: string, registry: OperationRegistry) {
    this.scenario = scenario;
    this.file = scenario.file;
    this.registry = registry;
    this.story = new Story(scenario.file, text, registry);
    this.grammar = new Grammar(registry);
  }

  /**
   * Change `parent` (null: the author's workload), maybe taking something from `donor`. The result loads without
   * mistakes. Null: nothing of the sort was found in a few attempts.
   */
  mutate(parent: string | null, donor: string | null, draws: Draws): MadeUp | null {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const workload = this.read(parent);
      const changes = 1 + draws.below(CHANGES_MAX);
      for (let change = 0; change < changes; change++) this.change(workload, donor, draws);
      const made = this.load(workload);
      if (made !== null && made.workload !== parent) return made;
    }
    return null;
  }

  private read(workload: string | null): Workload {
    return JSON.parse(workload ?? JSON.stringify(this.story.original)) as Workload;
  }

  private load(workload: Workload): MadeUp | null {
    const text = this.story.with(workload);
    const hash = hashText(text).toString(16).padStart(8, '0');
    const file = this.file.replace(/(\.ya?ml)?$/, `.${hash}.yaml`);
    try {
      return { workload: JSON.stringify(workload), file, text, scenario: loadScenario(file, text, this.registry) };
    } catch (error) {
      if (error instanceof ScenarioError) return null;
      throw error;
    }
  }

  private change(workload: Workload, donor: string | null, draws: Draws): void {
    const places = this.places(workload);
    const place = places[draws.below(places.length)]!;
    const { script } = place;
    switch (draws.below(10)) {
      case 0:
        if (script.length > 1) script.splice(draws.below(script.length), 1);
        break;
      case 1:
        this.copy(place, places, draws);
        break;
      case 2:
        this.exchange(script, draws);
        break;
      case 3:
        this.take(workload, place, donor, draws);
        break;
      case 4:
        this.addActor(workload, draws);
        break;
      case 5:
      case 6:
      case 7:
        this.changeArgument(workload, script, draws);
        break;
      default:
        this.insert(place, this.grammar.step(place.kind, this.vocabulary(workload), draws), draws);
    }
  }

  private insert({ script }: Place, step: RawStep | null, draws: Draws): void {
    if (step === null || script.length >= STEPS_MAX) return;
    script.splice(draws.below(script.length + 1), 0, JSON.parse(JSON.stringify(step)) as RawStep);
  }

  /** A step of anybody of the same kind once more. */
  private copy(place: Place, places: readonly Place[], draws: Draws): void {
    const alike = places.filter(({ kind, script }) => kind === place.kind && script.length > 0);
    if (alike.length === 0) return;
    const { script } = alike[draws.below(alike.length)]!;
    const step = script[draws.below(script.length)]!;
    const word = this.story.wordOf(step);
    // A copied wait might wait for itself.
    if (word !== 'wait' && !ENDINGS.includes(word)) this.insert(place, step, draws);
  }

  private exchange(script: RawStep[], draws: Draws): void {
    if (script.length < 2) return;
    const a = draws.below(script.length);
    const b = draws.below(script.length);
    [script[a], script[b]] = [script[b]!, script[a]!];
  }

  /** A step of another workload. */
  private take(workload: Workload, place: Place, donor: string | null, draws: Draws): void {
    const theirs = this.places(this.read(donor)).filter(({ kind }) => kind === place.kind);
    if (theirs.length > 0) this.copy(place, theirs, draws);
    else this.insert(place, this.grammar.step(place.kind, this.vocabulary(workload), draws), draws);
  }

  private changeArgument(workload: Workload, script: RawStep[], draws: Draws): void {
    if (script.length === 0) return;
    const step = script[draws.below(script.length)]!;
    const word = this.story.wordOf(step);
    const operation = this.registry.get(word);
    if (operation === undefined) return;
    const changed = this.grammar.changed(operation, step[word], this.vocabulary(workload), draws);
    if (changed !== null) step[word] = changed;
  }

  /** One more thread of somebody who acts already: what was done in turn is now done at once. */
  private addActor(workload: Workload, draws: Draws): void {
    const names = Object.keys(workload);
    if (names.length >= this.scenario.actors.length + EXTRA_ACTORS_MAX) return;
    const like = workload[names[draws.below(names.length)]!]!;
    const kind = this.kindOf(like.on);
    // A vCPU is one thread.
    if (kind === 'vcpu') return;
    const script: RawStep[] = [];
    const vocabulary = this.vocabulary(workload);
    for (let tries = 1 + draws.below(3); tries > 0; tries--) {
      const step = this.grammar.step(kind, vocabulary, draws);
      if (step !== null) script.push(step);
    }
    let number = 1;
    while (`also-${number}` in workload) number++;
    if (script.length > 0) workload[`also-${number}`] = { on: like.on, do: script };
  }

  /** Every script, those of children and repetitions too. */
  private places(workload: Workload): readonly Place[] {
    const places: Place[] = [];
    const add = (script: RawStep[], kind: SubjectKind): void => {
      places.push({ script, kind });
      for (const step of script) {
        const inner = this.story.wordOf(step) === 'fork' ? 'process' : kind;
        for (const nested of this.story.scriptsIn(step)) add(nested, inner);
      }
    };
    for (const { on, do: script } of Object.values(workload)) add(script, this.kindOf(on));
    return places;
  }

  private kindOf(on: string): SubjectKind {
    const { processes, devices } = this.scenario;
    if (on === 'kernel') return 'kernel';
    if (processes.some(({ name }) => name === on)) return 'process';
    return devices.some(({ name }) => name === on) ? 'device' : 'vcpu';
  }

  /** What steps of this workload can name, and the values that it uses. */
  private vocabulary(workload: Workload): Vocabulary {
    const { memory, processes, vms, devices } = this.scenario;
    const names = new Map<string, string[]>();
    const values = new Map<string, unknown[]>();
    const families = new Set<string>(['']);
    const name = (kind: string, one: string): void => addTo(names, kind, one);
    for (const one of memory) name('memory', one.name);
    for (const { name: process, maps } of processes) {
      name('process', process);
      for (const map of maps) name('memory', map.name);
    }
    for (const one of vms) name('vm', one.name);
    for (const { name: device, spec } of devices) {
      name('device', device);
      if (spec.container !== undefined) name('container', spec.container);
    }
    for (const actor of Object.keys(workload)) name('actor', actor);
    for (const { script } of this.places(workload)) {
      for (const step of script) {
        const word = this.story.wordOf(step);
        const operation = this.registry.get(word);
        if (operation === undefined) continue;
        families.add(familyOf(word));
        const args = step[word];
        for (const made of declaredBy(operation, args)) name(made.kind, made.name);
        if (typeof args !== 'object' || args === null) continue;
        for (const [key, value] of Object.entries(args))
          if (typeof value === 'string' || typeof value === 'number') addTo(values, key, value);
      }
    }
    return { names, values, families };
  }
}

function addTo<T>(lists: Map<string, T[]>, key: string, value: T): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [value]);
  else if (!list.includes(value)) list.push(value);
}
