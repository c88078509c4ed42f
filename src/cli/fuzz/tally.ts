// What a campaign knows by now: findings by cause, coverage, counts. Everything in it is a sum, a union or a minimum, so
// that the order in which units arrive does not show.
import { createHash } from 'node:crypto';
import type { FuzzAbsence, FuzzFinding, UnitResult } from '../../scenario/search/fuzz-result.ts';

/** The same cause: the same identity in the same case of the same file. */
export function causeOf({ file, case: one, finding }: FuzzFinding): string {
  return [file, one, finding.identity].join('|');
}

/** The same absence: the same entry of `always` in the same case of the same file. */
export function lackOf({ file, case: one, pattern }: FuzzAbsence): string {
  return [file, one, `absent|${pattern}`].join('|');
}

/** A cause in eight letters, for file names. */
export function hashOfCause(cause: string): string {
  return createHash('sha256').update(cause).digest('hex').slice(0, 8);
}

/** Things by cause, each with the run that met it first and how many runs did. */
export class Met<T extends { readonly firstRun: number; readonly runs: number }> {
  private readonly causeOf: (one: T) => string;
  private readonly byCause = new Map<string, { first: T; runs: number }>();

  constructor(cause: (one: T) => string) {
    this.causeOf = cause;
  }

  /** `runs` more runs met this. Returns whether it tells more than was known: a new cause, or an earlier run. */
  add(one: T, runs: number): boolean {
    const cause = this.causeOf(one);
    const known = this.byCause.get(cause);
    if (known === undefined) {
      this.byCause.set(cause, { first: one, runs });
      return true;
    }
    known.runs += runs;
    if (known.first.firstRun <= one.firstRun) return false;
    known.first = one;
    return true;
  }

  /** More runs that met a cause which is known. */
  addRuns(cause: string, runs: number): void {
    const known = this.byCause.get(cause);
    if (known !== undefined) known.runs += runs;
  }

  get size(): number {
    return this.byCause.size;
  }

  /** In the order of the plan. */
  get all(): readonly T[] {
    return [...this.byCause]
      .map(([cause, { first, runs }]) => [cause, { ...first, runs }] as const)
      .sort(([a, { firstRun: aRun }], [b, { firstRun: bRun }]) => aRun - bRun || (a < b ? -1 : 1))
      .map(([, one]) => one);
  }

  /** By cause, how many runs. */
  get counts(): readonly (readonly [string, number])[] {
    return [...this.byCause].map(([cause, { runs }]) => [cause, runs] as const);
  }
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
  /** Labels that the workload of its author reached, by case, by index. */
  readonly caseLabels = new Map<number, Set<string>>();
  /** Answers by behaviour. */
  readonly asked = new Map<string, Set<string>>();
  readonly found = new Met<FuzzFinding>(causeOf);
  readonly lacked = new Met<FuzzAbsence>(lackOf);

  /** Count a unit of case number `subject`. */
  count(subject: number, result: UnitResult): void {
    const { runs, steps, runsBy, limits, labels, asked, findings, absences, workload } = result;
    this.runs += runs;
    this.steps += steps;
    if (workload !== null) this.workloads++;
    addAll(this.cases, [[subject, runs]]);
    addAll(this.caseSteps, [[subject, steps]]);
    addAll(this.runsBy, Object.entries(runsBy));
    addAll(this.limits, Object.entries(limits));
    this.cover(labels, asked);
    if (workload === null) this.reach(subject, labels);
    for (const finding of findings) this.found.add(finding, finding.runs);
    for (const absence of absences) this.lacked.add(absence, absence.runs);
  }

  /** The workload of case number `subject` reaches these labels. */
  reach(subject: number, labels: readonly string[]): void {
    const known = this.caseLabels.get(subject) ?? new Set();
    this.caseLabels.set(subject, known);
    for (const label of labels) known.add(label);
  }

  cover(labels: readonly string[], asked: readonly (readonly [string, string])[]): void {
    for (const label of labels) this.labels.add(label);
    for (const [id, answer] of asked) {
      const answers = this.asked.get(id);
      if (answers === undefined) this.asked.set(id, new Set([answer]));
      else answers.add(answer);
    }
  }

  get unexpected(): number {
    return this.found.all.filter(({ expected }) => expected === 'no').length;
  }
}

/** Add numbers by name. */
export function addAll<K>(sums: Map<K, number>, more: Iterable<readonly [K, number]>): void {
  for (const [key, value] of more) sums.set(key, (sums.get(key) ?? 0) + value);
}
