// What a campaign knows by now: findings by cause, coverage, counts. Everything in it is a sum, a union or a minimum, so
// that the order in which units arrive does not show.
import { createHash } from 'node:crypto';
import type { FuzzFinding, UnitResult } from '../../scenario/search/fuzz-result.ts';

/** The same cause: the same identity in the same case of the same file. */
export function causeOf({ file, case: one, finding }: FuzzFinding): string {
  return [file, one, finding.identity].join('|');
}

/** A cause in eight letters, for file names. */
export function hashOfCause(cause: string): string {
  return createHash('sha256').update(cause).digest('hex').slice(0, 8);
}

export class Tally {
  runs = 0;
  steps = 0;
  workloads = 0;
  readonly runsBy = new Map<string, number>();
  readonly limits = new Map<string, number>();
  /** Runs by case, by index. */
  readonly cases = new Map<number, number>();
  /** Steps by case, by index. */
  readonly caseSteps = new Map<number, number>();
  readonly labels = new Set<string>();
  /** Answers by behaviour. */
  readonly asked = new Map<string, Set<string>>();
  private readonly causes = new Map<string, { first: FuzzFinding; runs: number }>();

  /** Count a unit of case number `subject`. */
  count(subject: number, { runs, steps, runsBy, limits, labels, asked, findings, workload }: UnitResult): void {
    this.runs += runs;
    this.steps += steps;
    if (workload !== null) this.workloads++;
    addAll(this.cases, [[subject, runs]]);
    addAll(this.caseSteps, [[subject, steps]]);
    addAll(this.runsBy, Object.entries(runsBy));
    addAll(this.limits, Object.entries(limits));
    this.cover(labels, asked);
    for (const finding of findings) this.show(finding, finding.runs);
  }

  cover(labels: readonly string[], asked: readonly (readonly [string, string])[]): void {
    for (const label of labels) this.labels.add(label);
    for (const [id, answer] of asked) {
      const answers = this.asked.get(id);
      if (answers === undefined) this.asked.set(id, new Set([answer]));
      else answers.add(answer);
    }
  }

  /** `runs` more runs showed this. Returns whether it tells more than was known: a new cause, or an earlier run. */
  show(finding: FuzzFinding, runs: number): boolean {
    const cause = causeOf(finding);
    const known = this.causes.get(cause);
    if (known === undefined) {
      this.causes.set(cause, { first: finding, runs });
      return true;
    }
    known.runs += runs;
    if (known.first.firstRun <= finding.firstRun) return false;
    known.first = finding;
    return true;
  }

  /** Causes, in the order of the plan. */
  get findings(): readonly FuzzFinding[] {
    return [...this.causes.values()]
      .map(({ first, runs }) => ({ ...first, runs }))
      .sort((a, b) => a.firstRun - b.firstRun || (a.finding.identity < b.finding.identity ? -1 : 1));
  }

  /** More runs that showed a cause which is known. */
  showMore(cause: string, runs: number): void {
    const known = this.causes.get(cause);
    if (known !== undefined) known.runs += runs;
  }

  get unexpected(): number {
    return [...this.causes.values()].filter(({ first }) => first.expected === 'no').length;
  }

  get causesKnown(): number {
    return this.causes.size;
  }
}

/** Add numbers by name. */
export function addAll<K>(sums: Map<K, number>, more: Iterable<readonly [K, number]>): void {
  for (const [key, value] of more) sums.set(key, (sums.get(key) ?? 0) + value);
}
