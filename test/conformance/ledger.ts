// The ledger: every recorded case that does not agree, with the reason. A case leaves it when it agrees; nothing else may.
import { readFileSync } from 'node:fs';
import type { Judged, Verdict } from './compare.ts';

interface Family {
  /** A prefix of case names. */
  readonly family: string;
  readonly verdict: Verdict;
  readonly reason: string;
}

interface Entry {
  /** Name and arguments. */
  readonly case: string;
  /** Recorded kernels on which it does not agree. */
  readonly kernels: readonly string[];
  readonly verdict: Verdict;
  readonly reason: string;
}

export interface Ledger {
  /** Families that are out of reach as a whole. */
  readonly families: readonly Family[];
  readonly cases: readonly Entry[];
}

export function readLedger(file: string): Ledger {
  return JSON.parse(readFileSync(file, 'utf8')) as Ledger;
}

/** What the ledger says of a case on a kernel; `agree` when it is not listed. */
export function expectedVerdict(ledger: Ledger, kernel: string, key: string): Verdict {
  const family = familyOf(ledger, key);
  const listed = ledger.cases.find((one) => one.case === key && one.kernels.includes(kernel));
  return family?.verdict ?? listed?.verdict ?? 'agree';
}

function familyOf(ledger: Ledger, key: string): Family | undefined {
  return ledger.families.find((one) => [...'/ '].some((end) => key.startsWith(one.family + end)));
}

/** How verdicts on one kernel differ from the ledger; none: they are as it says. */
export function differences(ledger: Ledger, kernel: string, judged: readonly Judged[]): readonly string[] {
  const found: string[] = [];
  for (const { key, verdict, reasons } of judged) {
    const expected = expectedVerdict(ledger, kernel, key);
    if (verdict === expected) continue;
    if (expected === 'agree') found.push(`${key} is ${verdict}: ${reasons.join('; ')}`);
    else if (verdict === 'agree') found.push(`${key} agrees now: strike it from the ledger`);
    else found.push(`${key} is ${verdict}, the ledger says ${expected}: ${reasons.join('; ')}`);
  }
  return found;
}

/**
 * What a run over recorded cases fails for. Over the cases that the ledger was written for, whatever differs from it;
 * over others, cases that are wrong and not listed as that.
 */
export function failures(ledger: Ledger, kernel: string, judged: readonly Judged[], whole: boolean): readonly string[] {
  return differences(ledger, kernel, whole ? judged : judged.filter(({ verdict }) => verdict === 'wrong'));
}

/** Cases of the ledger on this kernel that nobody recorded: leftovers. */
export function leftovers(ledger: Ledger, kernel: string, judged: readonly Judged[]): readonly string[] {
  const known = new Set(judged.map(({ key }) => key));
  return ledger.cases
    .filter((one) => one.kernels.includes(kernel) && !known.has(one.case))
    .map((one) => `${one.case} is listed, but was not recorded on ${kernel}`);
}

/**
 * The ledger as the verdicts have it: cases that agree are struck, and families of which none is left; cases that differ
 * are added with how they differ for a reason, until somebody finds the true one. Kernels that were not replayed keep
 * what they have.
 */
export function updated(
  ledger: Ledger,
  verdicts: readonly { readonly kernel: string; readonly judged: readonly Judged[] }[],
): Ledger {
  const replayed = new Set(verdicts.map(({ kernel }) => kernel));
  const entries = new Map<string, Entry>();
  const add = (entry: Entry): void => {
    const key = JSON.stringify([entry.case, entry.verdict, entry.reason]);
    const kernels = [...(entries.get(key)?.kernels ?? []), ...entry.kernels];
    entries.set(key, { ...entry, kernels });
  };
  for (const one of ledger.cases) {
    const kernels = one.kernels.filter((kernel) => !replayed.has(kernel));
    if (kernels.length > 0) add({ ...one, kernels });
  }
  for (const { kernel, judged } of verdicts) {
    for (const { key, verdict, reasons } of judged) {
      if (verdict === 'agree' || familyOf(ledger, key)?.verdict === verdict) continue;
      const known = ledger.cases.find(
        (one) => one.case === key && one.verdict === verdict && one.kernels.includes(kernel),
      );
      add({ case: key, kernels: [kernel], verdict, reason: known?.reason ?? reasons.join('; ') });
    }
  }
  const all = verdicts.flatMap(({ judged }) => judged);
  const families = ledger.families.filter((family) => {
    const cases = all.filter(({ key }) => familyOf(ledger, key) === family);
    return cases.length === 0 || cases.some(({ verdict }) => verdict === family.verdict);
  });
  return { families, cases: [...entries.values()] };
}
