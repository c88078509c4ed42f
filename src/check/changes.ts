// What a step changed, in words: object by object, in the words of the store that keeps it.
import type { Sim } from '../engine/sim.ts';

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
  readonly changeText?: ((was: (column: Told) => number, is: (column: Told) => number) => string) | undefined;
  readonly first?: Told;
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

/** Fields that say something together are told together, others one by one. */
function textsOf(fields: readonly Field[]): readonly string[] {
  const { store, row } = fields[0]!;
  const { changeText } = store;
  if (changeText === undefined) return fields.map(textOf);
  const was = (column: Told): number => (fields.find((one) => one.store === column)?.old ?? column.peek(row)) as number;
  const where = (store.first ?? store).nameOf(row);
  const text = changeText(was, (column) => column.peek(row) as number);
  return [text === '' ? `${where} changes` : `${where}: ${text}`];
}

function textOf({ store, row, old, now }: Field): string {
  const field = store.name.includes('.') ? (store.name.split('.').pop() ?? '') : '';
  const where = store.nameOf(row);
  const what = field !== '' && !where.includes(field.split('_')[0]!) ? `${field} of ${where}` : where;
  const words = (value: unknown): string =>
    store.valueText === undefined ? valueInWords(value) : store.valueText(value as number);
  const [from, to] = [words(old), words(now)];
  return from === to ? `${what} changes` : `${what}: ${from} -> ${to}`;
}

function valueInWords(value: unknown): string {
  if (value === null || value === undefined) return 'none';
  if (Array.isArray(value))
    return value.length === 0 ? 'empty' : `${value.length} item${value.length === 1 ? '' : 's'}`;
  if (typeof value === 'object') return String((value as { name?: unknown }).name ?? 'changed');
  return String(value);
}
