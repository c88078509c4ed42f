// The ledger: every recorded case that does not agree, with the reason. A case leaves it when it agrees; nothing else may.
import { readFileSync } from 'node:fs';
import type { Judged, Verdict } from './compare.ts';

export interface Ledger {
  /** Families that are out of reach as a whole: a prefix of case names. */
  readonly families: readonly { readonly family: string; readonly verdict: Verdict; readonly reason: string }[];
  readonly cases: readonly {
    /** Name and arguments. */
    readonly case: string;
    /** Recorded kernels on which it does not agree. */
    readonly kernels: readonly string[];
    readonly verdict: Verdict;
    readonly reason: string;
  }[];
}

export function readLedger(file: string): Ledger {
  return JSON.parse(readFileSync(file, 'utf8')) as Ledger;
}

/** What the ledger says of a case on a kernel; `agree` when it is not listed. */
export function expectedVerdict(ledger: Ledger, kernel: string, key: string): Verdict {
  const family = ledger.families.find((one) => [...'/ '].some((end) => key.startsWith(one.family + end)));
  const listed = ledger.cases.find((one) => one.case === key && one.kernels.includes(kernel));
  return family?.verdict ?? listed?.verdict ?? 'agree';
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

/** Cases of the ledger on this kernel that nobody recorded: leftovers. */
export function leftovers(ledger: Ledger, kernel: string, judged: readonly Judged[]): readonly string[] {
  const known = new Set(judged.map(({ key }) => key));
  return ledger.cases
    .filter((one) => one.kernels.includes(kernel) && !known.has(one.case))
    .map((one) => `${one.case} is listed, but was not recorded on ${kernel}`);
}
