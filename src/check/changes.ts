// What a step changed, in words: object by object, page flags and page-table entries decoded.
import type { Sim } from '../engine/sim.ts';
import { flagNames } from '../mm/page-flags.ts';
import {
  PMD_LEAF,
  PMD_TABLE,
  PTE_DIRTY,
  PTE_EXCLUSIVE,
  PTE_HWPOISON,
  PTE_MIGRATION,
  PTE_PROTNONE,
  PTE_SPECIAL,
  PTE_SWAP,
  PTE_UFFD_WP,
  PTE_WRITE,
  ptePresent,
} from '../mm/pte.ts';

/** One object changed by a step. */
export interface Change {
  /** Id of the object. */
  readonly object: number;
  /** `refcount of pfn 1536: 1 -> 1025`. */
  readonly text: string;
}

/** A store as far as its changes can be told. */
interface Told {
  readonly name: string;
  readonly base?: number;
  readonly id?: number;
  readonly valueText?: ((value: number) => string) | undefined;
  nameOf(row: number): string;
  peek(row: number): unknown;
}

interface Field {
  readonly store: Told;
  readonly row: number;
  readonly old: unknown;
  readonly now: unknown;
}

/** The changes journalled from `from` on, in the order in which objects were first written; `most` of them in words. */
export function changesSince(
  sim: Sim,
  from: number,
  most = Number.POSITIVE_INFINITY,
): { readonly changes: readonly Change[]; readonly more: number } {
  const objects = new Map<number, Map<Told, Field>>();
  for (const { store, row, old } of sim.changes(from)) {
    const told = store as Partial<Told>;
    if (told.nameOf === undefined || told.peek === undefined) continue;
    const object = told.base !== undefined ? told.base + row : told.id;
    if (object === undefined) continue;
    let fields = objects.get(object);
    if (fields === undefined) {
      fields = new Map();
      objects.set(object, fields);
    }
    // The first old value counts: a step that writes twice shows what came of it.
    if (!fields.has(told as Told)) fields.set(told as Told, { store: told as Told, row, old, now: told.peek(row) });
  }
  const changes: Change[] = [];
  let more = 0;
  for (const [object, fields] of objects) {
    const changed = [...fields.values()].filter(({ old, now }) => old !== now);
    if (changed.length === 0) continue;
    if (changes.length >= most) more++;
    else changes.push(...textsOf(changed).map((text) => ({ object, text })));
  }
  return { changes, more };
}

/** Fields of one entry are told together, others one by one. */
function textsOf(fields: readonly Field[]): readonly string[] {
  const bits = fields.find(({ store, row }) => store.name.endsWith('.bits') && /^(PTE|PMD) /.test(store.nameOf(row)));
  if (bits === undefined) return fields.map(textOf);
  const pfn = fields.find(({ store }) => store.name.endsWith('.pfn'));
  const where = bits.store.nameOf(bits.row);
  const entry = (value: unknown, frame: unknown): string => entryInWords(value as number, frame as number | undefined);
  return [`${where}: ${entry(bits.old, pfn?.old)} -> ${entry(bits.now, pfn?.now)}`];
}

function textOf({ store, row, old, now }: Field): string {
  const field = store.name.includes('.') ? (store.name.split('.').pop() ?? '') : '';
  const where = store.nameOf(row);
  const what = field !== '' && !where.includes(field.split('_')[0]!) ? `${field} of ${where}` : where;
  if (store.name === 'folio.flags') return `${what}: ${flagsInWords(old as number, now as number)}`;
  const words = (value: unknown): string =>
    store.valueText === undefined ? valueInWords(value) : store.valueText(value as number);
  const [from, to] = [words(old), words(now)];
  return from === to ? `${what} changes` : `${what}: ${from} -> ${to}`;
}

/** `+LOCKED -LRU`. */
function flagsInWords(old: number, now: number): string {
  const set = flagNames(now & ~old).map((name) => `+${name}`);
  const cleared = flagNames(old & ~now).map((name) => `-${name}`);
  const words = [...set, ...cleared].join(' ');
  return words === '' ? `${old} -> ${now}` : words;
}

const ENTRY_WORDS: readonly (readonly [number, string])[] = [
  [PTE_SWAP, 'swap entry'],
  [PTE_MIGRATION, 'migration entry'],
  [PTE_HWPOISON, 'hwpoison entry'],
  [PMD_TABLE, 'table'],
  [PMD_LEAF, 'huge'],
  [PTE_SPECIAL, 'special'],
  [PTE_PROTNONE, 'prot-none'],
  [PTE_UFFD_WP, 'uffd-wp'],
  [PTE_EXCLUSIVE, 'exclusive'],
];

/** `pfn 1536 rw dirty`; without the frame when that did not change. */
function entryInWords(bits: number, pfn: number | undefined): string {
  if (bits === 0) return 'none';
  const words = pfn === undefined || (bits & PMD_TABLE) !== 0 ? [] : [`pfn ${pfn}`];
  for (const [bit, word] of ENTRY_WORDS) if ((bits & bit) !== 0) words.push(word);
  if (ptePresent(bits)) words.push((bits & PTE_WRITE) !== 0 ? 'rw' : 'ro');
  if ((bits & PTE_DIRTY) !== 0) words.push('dirty');
  return words.join(' ');
}

function valueInWords(value: unknown): string {
  if (value === null || value === undefined) return 'none';
  if (Array.isArray(value)) return `[${value.length}]`;
  if (typeof value === 'object') return String((value as { name?: unknown }).name ?? 'changed');
  return String(value);
}
