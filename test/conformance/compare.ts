// Compares what the model did with what was recorded, field by field.
import type { Emitted } from './session.ts';

/** One recorded case (see reality/README.md). */
export interface Recorded {
  readonly case: string;
  readonly kernel: string;
  readonly args: Readonly<Record<string, unknown>>;
  readonly ret: number;
  readonly errno: string | null;
  readonly observed: Readonly<Record<string, unknown>>;
}

export type Verdict = 'agree' | 'wrong' | 'unsupported';

export interface Judged {
  readonly key: string;
  readonly family: string;
  readonly verdict: Verdict;
  /** Fields that differ, as `field: recorded x, model y`; or why it is unsupported. */
  readonly reasons: readonly string[];
}

/** What identifies a case: its name and arguments. */
export function keyOf(one: { readonly case: string; readonly args: Readonly<Record<string, unknown>> }): string {
  const args = Object.entries(one.args)
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join(' ');
  return args === '' ? one.case : `${one.case} ${args}`;
}

/** `type1/map`, `pins/munmap`. */
export function familyOf(name: string): string {
  return name.split('/').slice(0, 2).join('/');
}

/** Fields that are not outcomes of memory management: console text, timings, counters of the whole machine. */
const NOT_COMPARED = new Set(['map_us', 'elapsed_us', 'iommu_faults_logged']);

/** Judge one recorded case; `model` is undefined when no program reports it. */
export function judge(recorded: Recorded, model: Emitted | undefined): Judged {
  const base = { key: keyOf(recorded), family: familyOf(recorded.case) };
  if (model === undefined) return { ...base, verdict: 'unsupported', reasons: ['no program reports this case'] };
  const reasons: string[] = [];
  const differ = (field: string, real: unknown, ours: unknown): void => {
    if (JSON.stringify(real) !== JSON.stringify(ours)) {
      reasons.push(`${field}: recorded ${JSON.stringify(real)}, model ${JSON.stringify(ours)}`);
    }
  };
  differ('ret', recorded.ret, model.ret);
  differ('errno', recorded.errno, model.errno);
  for (const [field, real] of Object.entries(recorded.observed)) {
    if (!NOT_COMPARED.has(field)) differ(field, real, model.observed[field]);
  }
  return { ...base, verdict: reasons.length === 0 ? 'agree' : 'wrong', reasons };
}
