// Compares what the model did with what was recorded, field by field.
import type { Emitted } from './session.ts';

/** One recorded case (see the README of the recorded data). */
export interface Recorded {
  readonly case: string;
  readonly kernel: string;
  readonly args: Readonly<Record<string, unknown>>;
  readonly ret: number;
  readonly errno: string | null;
  readonly observed: Readonly<Record<string, unknown>>;
}

/** `wrong`: a field differs, or the model failed; `unsupported`: the model cannot express the case. */
export type Verdict = 'agree' | 'wrong' | 'unsupported';

export interface Judged {
  readonly key: string;
  readonly family: string;
  readonly verdict: Verdict;
  /** Wrong in the return value or the errno; so is a model that failed and returned nothing. */
  readonly inErrno: boolean;
  /** Fields that differ, as `field: recorded x, model y`; or why it is unsupported. */
  readonly reasons: readonly string[];
}

/** A case of which no program reported an outcome, and why. */
export interface Missing {
  readonly verdict: 'wrong' | 'unsupported';
  readonly reason: string;
}

/** What identifies a case: its name and arguments. */
export function keyOf(one: { readonly case: string; readonly args: Readonly<Record<string, unknown>> }): string {
  const args = Object.entries(one.args)
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join(' ');
  return args === '' ? one.case : `${one.case} ${args}`;
}

/** Families that the recorded data name by their first word alone. */
const WHOLE = ['pins', 'kvm_vfio', 'iommufd', 'compat'];

/** First words of the families that the model is to meet: what the agreement with a kernel is counted over. */
export const POOLED = ['type1', 'pins', 'iouring', 'kvm', 'kvm_vfio'];

/** Is this family, or a part of one, counted there? */
export function isPooled(family: string): boolean {
  return POOLED.includes(family.split('/')[0]!);
}

/** `type1/map`, `pins`. */
export function familyOf(name: string): string {
  const words = name.split('/');
  return WHOLE.includes(words[0]!) ? words[0]! : words.slice(0, 2).join('/');
}

/** Fields that say nothing of memory management: timings, and the console, which shows the first fault of a boot only. */
const NOT_COMPARED = new Set(['map_us', 'elapsed_us', 'iommu_faults_logged']);

/** Migrations that failed while all memory was compacted are those of pages of the kernel and of other processes. */
const NOT_COMPARED_HERE = ['pins/compact_memory/', 'pgmigrate_fail'] as const;

/** Counts of everything that the machine did meanwhile, in cases that put all of its memory to work. */
const OF_THE_MACHINE: Readonly<Record<string, readonly string[]>> = {
  'pins/swap_pressure': ['pswpout'],
  'pins/compact_memory': ['compact_scanned', 'pgmigrate_success', 'sampled_unpinned_pages_moved_of_256'],
};

/** What of a recorded field can be compared: of counts of the machine, whether there was any. */
function comparable(name: string, field: string, value: unknown): unknown {
  const family = Object.keys(OF_THE_MACHINE).find((prefix) => name.startsWith(`${prefix}/`));
  if (family !== undefined && OF_THE_MACHINE[family]!.includes(field)) return Number(value) > 0 ? 'some' : 'none';
  // A free frame shows BUDDY on the lists of its zone, and nothing on those of a CPU: where it is has no meaning.
  if (field === 'old_page_flags' && value === 'BUDDY') return '';
  return value;
}

/** Flags of a page that was caught in the hands of reclaim: its lock, and what reclaim takes away and gives back. */
const IN_FLIGHT = ['LOCKED', 'LRU', 'REFERENCED'];

/** Page flags without those that were in flight when they were recorded. */
function settled(recorded: unknown, flags: unknown): unknown {
  const locked = typeof recorded === 'string' && recorded.split('|').includes('LOCKED');
  if (!locked || typeof flags !== 'string') return flags;
  return flags
    .split('|')
    .filter((flag) => !IN_FLIGHT.includes(flag))
    .join('|');
}

/** Judge one recorded case by what a program reported for it, or by why none did. */
export function judge(recorded: Recorded, model: Emitted | Missing): Judged {
  const base = { key: keyOf(recorded), family: familyOf(recorded.case) };
  if ('verdict' in model) {
    return { ...base, verdict: model.verdict, inErrno: model.verdict === 'wrong', reasons: [model.reason] };
  }
  if (model.unsupported !== undefined) {
    return { ...base, verdict: 'unsupported', inErrno: false, reasons: [model.unsupported] };
  }
  const reasons: string[] = [];
  const differ = (field: string, real: unknown, ours: unknown): void => {
    const flags = field === 'old_page_flags';
    const of = (value: unknown) =>
      JSON.stringify(comparable(recorded.case, field, flags ? settled(real, value) : value));
    if (of(real) !== of(ours)) {
      reasons.push(`${field}: recorded ${JSON.stringify(real)}, model ${JSON.stringify(ours)}`);
    }
  };
  differ('ret', recorded.ret, model.ret);
  differ('errno', recorded.errno, model.errno);
  const inErrno = reasons.length > 0;
  for (const [field, real] of Object.entries(recorded.observed)) {
    const others = field === NOT_COMPARED_HERE[1] && recorded.case.startsWith(NOT_COMPARED_HERE[0]);
    if (!NOT_COMPARED.has(field) && !others) differ(field, real, model.observed[field]);
  }
  return { ...base, verdict: reasons.length === 0 ? 'agree' : 'wrong', inErrno, reasons };
}
