// What there is to name in scenario files and on command lines, in words: kernels, behaviours, findings, operations,
// memory kinds.
import { BEHAVIOURS, type Behaviour, findBehaviour, Kernel, namedProfiles, resolveProfile } from '../kernel/index.ts';
import { FINDING_KINDS } from './finding-kinds.ts';
import type { OperationRegistry } from './operation.ts';
import { MEMORY_KINDS } from './schema-memory.ts';

export interface Entry {
  readonly name: string;
  readonly summary: string;
}

/** The subjects of `pinsim list`, save for templates. */
export const LISTS = ['kernels', 'behaviours', 'operations', 'findings', 'memory-kinds'] as const;
export type ListName = (typeof LISTS)[number];

/** The entries of one list, in its own order. */
export function listEntries(list: ListName, registry: OperationRegistry): readonly Entry[] {
  switch (list) {
    case 'kernels':
      return namedProfiles().map(({ name, note }) => ({ name, summary: note }));
    case 'behaviours':
      return BEHAVIOURS.map(({ id, summary, ways }) => {
        return { name: id, summary: ways === undefined ? summary : `${summary} [${Object.keys(ways).join(' | ')}]` };
      });
    case 'operations':
      return registry.all().map(({ name, summary }) => ({ name, summary }));
    case 'findings':
      return FINDING_KINDS;
    case 'memory-kinds':
      return MEMORY_KINDS;
  }
}

/** The name under which the kernel room knows a kernel: `6.1` and `v6.1` are `v6.1`. Throws KernelError. */
export function canonicalKernel(name: string): string {
  return resolveProfile(name).name;
}

/** What is known of a name, in lines of text; undefined when nothing has it. */
export function explain(name: string, registry: OperationRegistry): readonly string[] | undefined {
  const finding = FINDING_KINDS.find((kind) => kind.name === name);
  if (finding !== undefined) return [`${name}: ${finding.summary}`, '', finding.explanation];
  const behaviour = findBehaviour(name);
  if (behaviour !== undefined) return explainBehaviour(behaviour);
  const operation = registry.get(name);
  if (operation !== undefined) {
    const shows = Object.entries(operation.shows ?? {}).map(([key, meaning]) => `  ${key}: ${meaning}`);
    const who = operation.on === undefined ? [] : ['', `Who can do it: ${operation.on.join(', ')}.`];
    return [`${name}: ${operation.summary}`, ...who, ...(shows.length === 0 ? [] : ['', 'Shows:', ...shows])];
  }
  const memory = MEMORY_KINDS.find((kind) => kind.name === name);
  return memory === undefined ? undefined : [`${name}: ${memory.summary}`];
}

/** Everything that `explain` knows. */
export function explainableNames(registry: OperationRegistry): readonly string[] {
  return [
    ...FINDING_KINDS.map((kind) => kind.name),
    ...BEHAVIOURS.map((behaviour) => behaviour.id),
    ...registry.names(),
    ...MEMORY_KINDS.map((kind) => kind.name),
  ];
}

function explainBehaviour(behaviour: Behaviour): readonly string[] {
  const { id, summary, commit, source, evidence, ways, requires, excludes, proposal } = behaviour;
  const lines = [`${id}: ${summary}`, ''];
  if (proposal === true) lines.push('A design that was proposed but never merged: off unless asked for.');
  if (commit !== undefined) lines.push(`Commit: ${commit}`);
  lines.push(`Source: ${source} (${evidence})`);
  for (const [way, { summary: meaning }] of Object.entries(ways ?? {})) lines.push(`Way ${way}: ${meaning}`);
  if (requires !== undefined) lines.push(`Requires: ${requires.join(', ')}`);
  if (excludes !== undefined) lines.push(`Excludes: ${excludes.join(', ')}`);
  lines.push('', 'On:');
  const profiles = namedProfiles();
  const width = Math.max(...profiles.map((profile) => profile.name.length));
  for (const profile of profiles) {
    const answer = new Kernel(profile).answer(id as Parameters<Kernel['answer']>[0]);
    lines.push(`  ${profile.name.padEnd(width)}  ${answer === true ? 'yes' : answer === false ? 'no' : answer}`);
  }
  return lines;
}
