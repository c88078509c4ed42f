// What there is to name in scenario files and on command lines, in words: kernels, behaviours, findings, operations,
// memory kinds.
import {
  BEHAVIOURS,
  explainBehaviour,
  findBehaviour,
  isAsked,
  listBehaviours,
  listKernels,
  resolveProfile,
} from '../kernel/index.ts';
import { explainControl, explainOperation } from './file/explain-step.ts';
import { MEMORY_KINDS } from './file/schema-memory.ts';
import { CONTROL_WORDS, MODIFIER_TYPES, MODIFIERS } from './file/step.ts';
import { FINDING_KINDS } from './finding-kinds.ts';
import type { OperationRegistry } from './operation.ts';

export interface Entry {
  readonly name: string;
  readonly summary: string;
}

/** The subjects of `pinsim list`, save for templates. */
export const LISTS = ['kernels', 'behaviours', 'operations', 'findings', 'memory-kinds', 'labels'] as const;
export type ListName = (typeof LISTS)[number];

/** The entries of one list, in its own order. */
export function listEntries(list: ListName, registry: OperationRegistry): readonly Entry[] {
  switch (list) {
    case 'kernels':
      return listKernels().map(({ name, note }) => ({ name, summary: note }));
    case 'behaviours':
      return listBehaviours().map(({ id, summary, where, asked }) => ({
        name: id,
        summary: `${summary} [${where}]${asked ? '' : ' (recorded only)'}`,
      }));
    case 'operations':
      return registry.all().map(({ name, summary }) => ({ name, summary }));
    case 'findings':
      return FINDING_KINDS;
    case 'memory-kinds':
      return MEMORY_KINDS;
    case 'labels':
      return [...(registry.labels?.() ?? [])].sort(byCodeUnit).map((name) => ({ name, summary: '' }));
  }
}

/** The order of names must not depend on the language of the machine. */
function byCodeUnit(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The name under which the kernel room knows a kernel: `6.1` and `v6.1` are `v6.1`. Throws KernelError. */
export function canonicalKernel(name: string): string {
  return resolveProfile(name).name;
}

/** What is known of a name, in lines of text; undefined when nothing has it. */
export function explain(name: string, registry: OperationRegistry): readonly string[] | undefined {
  const finding = FINDING_KINDS.find((kind) => kind.name === name);
  if (finding !== undefined) return [`${name}: ${finding.summary}`, '', finding.explanation];
  if (findBehaviour(name) !== undefined) return behaviourLines(name);
  const operation = registry.get(name);
  if (operation !== undefined) {
    return [`${name}: ${operation.summary}`, ...explainOperation(operation)];
  }
  const memory = MEMORY_KINDS.find((kind) => kind.name === name);
  if (memory !== undefined) return [`${name}: ${memory.summary}`];
  return explainControl(name) ?? modifierLines(name);
}

/** Everything that `explain` knows. */
export function explainableNames(registry: OperationRegistry): readonly string[] {
  return [
    ...FINDING_KINDS.map((kind) => kind.name),
    ...BEHAVIOURS.map((behaviour) => behaviour.id),
    ...registry.names(),
    ...MEMORY_KINDS.map((kind) => kind.name),
    ...CONTROL_WORDS,
    ...MODIFIERS,
  ];
}

/** What may stand beside an operation: `expect`, `hold`, ... */
function modifierLines(name: string): readonly string[] | undefined {
  const type = MODIFIER_TYPES[name as (typeof MODIFIERS)[number]];
  return type === undefined
    ? undefined
    : [`${name}: ${type.description}`, '', 'It stands beside an operation, in the same step.'];
}

function behaviourLines(id: string): readonly string[] {
  const facts = explainBehaviour(id);
  const lines = [`${id}: ${facts.summary}`, ''];
  const fact = (label: string, text: string): void => {
    if (text !== '') lines.push(`${label}: ${text}`);
  };
  if (!isAsked(id)) lines.push('Recorded only: no part of the model asks about it yet.');
  if (facts.proposal) lines.push('A design that was proposed but never merged: off unless asked for.');
  if (facts.ways.length === 0) fact('Where', facts.where);
  for (const way of facts.ways)
    fact(`Way ${way.name}`, `${way.summary} (${[way.where, way.commit].filter(Boolean).join(', ')})`);
  fact('Commit', facts.commit);
  fact('Source', `${facts.source} (${facts.evidence})`);
  fact('Architectures', facts.arch.join(', '));
  fact('Needs option', facts.config === '' ? '' : `CONFIG_${facts.config}`);
  fact('Requires', facts.requires.join(', '));
  fact('Required by', facts.requiredBy.join(', '));
  fact('Excludes', facts.excludes.join(', '));
  fact('Note', facts.note);
  lines.push('', 'On:');
  const width = Math.max(...facts.answers.map((one) => one.kernel.length));
  for (const { kernel, answer } of facts.answers)
    lines.push(`  ${kernel.padEnd(width)}  ${answer === true ? 'yes' : answer === false ? 'no' : answer}`);
  return lines;
}
