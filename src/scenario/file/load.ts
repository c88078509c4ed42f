// From the text of a file to a Scenario: syntax, shape, names, kernels, and the sums that cannot come out. Collects as
// many mistakes as it can before giving up.

import type { OperationRegistry } from '../operation.ts';
import { threadsOf } from '../world/threads.ts';
import { ScriptCompiler } from './compile.ts';
import { type Diagnostic, ScenarioError } from './diagnostic.ts';
import { parseAt } from './issue.ts';
import { bindActors, type Subjects, subjectsOf } from './load-actors.ts';
import { buildCases } from './load-cases.ts';
import { buildProcesses, checkVms } from './load-memory.ts';
import { NameTable } from './names.ts';
import { Script, visitNames } from './reference.ts';
import type { Memory, Scenario } from './scenario.ts';
import { type ScenarioSpec, zScenario } from './schema.ts';
import { readSource, type Source } from './source.ts';
import type { ScriptStep } from './step.ts';

/** Load the text of one scenario file. Throws ScenarioError with every mistake found. */
export function loadScenario(file: string, text: string, registry: OperationRegistry): Scenario {
  const { source, diagnostics } = readSource(file, text);
  if (source === undefined) throw new ScenarioError(diagnostics);
  const parsed = parseAt(zScenario, source, [], source.value);
  if (parsed.value === undefined) throw new ScenarioError(inOrder(parsed.diagnostics));
  return new Loader(source, parsed.value, registry).load();
}

class Loader {
  private readonly source: Source;
  private readonly spec: ScenarioSpec;
  private readonly registry: OperationRegistry;
  private readonly diagnostics: Diagnostic[] = [];

  constructor(source: Source, spec: ScenarioSpec, registry: OperationRegistry) {
    this.source = source;
    this.spec = spec;
    this.registry = registry;
  }

  load(): Scenario {
    const { source, spec } = this;
    const complain = (diagnostic: Diagnostic): void => {
      this.diagnostics.push(diagnostic);
    };
    const memory = Object.entries(spec.memory ?? {}).map(
      ([name, one]): Memory => ({ name, spec: one, where: source.where(['memory', name], 'key') }),
    );
    const processes = buildProcesses(spec, memory, source, complain);
    checkVms(spec, processes, source, complain);
    const subjects = subjectsOf(spec, source, complain);
    const actors = bindActors(spec, subjects, source, complain);
    const stepNames = this.compileScripts(subjects, new Map(actors.map((actor) => [actor.name, actor.subjectKind])));
    const vms = this.section('vms', spec.vms);
    for (const process of processes) {
      const needed = threadsOf({ actors, vms }, process.name);
      if (process.spec.threads === undefined || process.spec.threads >= needed) continue;
      const message = `${needed} actors are threads of \`${process.name}\``;
      const path = ['processes', process.name, 'threads'];
      complain(source.diagnostic(path, { message, expected: `at least ${needed}` }));
    }
    const { cases, base } = buildCases(spec, stepNames, source, complain);
    if (this.diagnostics.length > 0) throw new ScenarioError(inOrder(this.diagnostics));
    return {
      file: source.file,
      title: spec.title,
      description: spec.description,
      sources: typeof spec.source === 'string' ? [spec.source] : (spec.source ?? []),
      bug: spec.bug,
      seed: String(spec.seed ?? 1),
      memory,
      processes,
      vms,
      devices: this.section('devices', spec.devices),
      actors,
      reaches: (spec.reaches ?? []).map((label, index) => ({ label, where: source.where(['reaches', index]) })),
      cases,
      base,
      where: source.where(['title'], 'key'),
    };
  }

  private section<T>(section: string, entries: Readonly<Record<string, T>> | undefined) {
    return Object.entries(entries ?? {}).map(([name, spec]) => {
      return { name, spec, where: this.source.where([section, name], 'key') };
    });
  }

  /** Reads all scripts, then checks all names. Returns the names of steps by actor. */
  private compileScripts(
    subjects: Subjects,
    kinds: ReadonlyMap<string, 'process' | 'vcpu' | 'device' | 'kernel'>,
  ): ReadonlyMap<string, ReadonlySet<string>> {
    const names = new NameTable(this.source);
    for (const name of Object.keys(this.spec.memory ?? {})) names.declare('memory', name);
    for (const process of Object.values(this.spec.processes ?? {}))
      for (const name of Object.keys(process.maps ?? {})) names.declare('memory', name);
    for (const { name, kind } of subjects.all) names.declare(kind, name);
    for (const name of Object.keys(this.spec.actors)) names.declare('actor', name);
    for (const device of Object.values(this.spec.devices ?? {})) {
      if (device.container !== undefined) names.declare('container', device.container);
    }
    const compiler = new ScriptCompiler(this.source, this.registry, names);
    visitNames(this.spec, [], (found, path) => {
      if (!(found instanceof Script)) names.note(found, path);
      else {
        const actor = String(path[1]);
        compiler.compile(found as Script<ScriptStep>, path, { actor, subject: kinds.get(actor) ?? 'process' });
      }
    });
    for (const [index, label] of (this.spec.reaches ?? []).entries()) compiler.checkLabel(label, ['reaches', index]);
    this.diagnostics.push(...compiler.diagnostics);
    this.diagnostics.push(...names.check((actor) => [...(compiler.stepNames.get(actor) ?? [])]));
    return compiler.stepNames;
  }
}

/** In the order of the file, each mistake once: a setting that several cases share is checked for each of them. */
function inOrder(diagnostics: readonly Diagnostic[]): readonly Diagnostic[] {
  const at = ({ where }: Diagnostic): number => (where?.line ?? 0) * 1e6 + (where?.column ?? 0);
  const once = new Map(diagnostics.map((diagnostic) => [`${at(diagnostic)} ${diagnostic.message}`, diagnostic]));
  return [...once.values()].sort((a, b) => at(a) - at(b));
}
