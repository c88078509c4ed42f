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
    const [recordedText, modelText] = [JSON.stringify(real), JSON.stringify(ours)];
    if (recordedText !== modelText) reasons.push(`${field}: recorded ${recordedText}, model ${modelText}`);
  };
  differ('ret', recorded.ret, model.ret);
  differ('errno', recorded.errno, model.errno);
  const inErrno = reasons.length > 0;
  for (const [field, real] of Object.entries(recorded.observed)) {
    if (!NOT_COMPARED.has(field)) differ(field, real, model.observed[field]);
  }
  return { ...base, verdict: reasons.length === 0 ? 'agree' : 'wrong', inErrno, reasons };
}
