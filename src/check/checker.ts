// What a checker is: it listens to steps and events, looks at state, reports findings, and changes nothing. It knows no
// driver. Its kind says what it judges, which decides what a search may conclude.
import { type Finding, type FindingValue, findingIdentity } from '../engine/finding.ts';
import type { Sim } from '../engine/sim.ts';
import type { CoreMm } from '../mm/core.ts';
import type { Moment, StepLog } from './step-log.ts';

/**
 * step: judges only what the current step announced. end: judges the state at the end. relation: judges two or more
 * objects, and every step that changes one of them announces it.
 */
export type CheckerKind = 'step' | 'end' | 'relation';

export interface CheckContext {
  readonly sim: Sim;
  readonly core: CoreMm;
  /** Recent steps, for the story of a finding; null where nobody reads stories (searches rerun for them). */
  readonly log: StepLog | null;
}

export interface Checker {
  /** The kind of finding it reports, or the first of them. */
  readonly name: string;
  readonly kind: CheckerKind;
  /** Start listening. */
  attach(context: CheckContext): void;
  /** The run has ended and deferred work is drained. */
  atEnd?(context: CheckContext): void;
}

/** What a checker says; actors and steps come from the log. */
export interface Report {
  readonly kind: string;
  readonly message: string;
  readonly reasons?: readonly string[];
  /** Names of objects, most important first. */
  readonly objects: readonly string[];
  /** Object ids whose recent steps tell the story. */
  readonly about?: readonly number[];
  /** Steps of the story that must not be left out, however long ago they were. */
  readonly moments?: readonly Moment[];
  readonly details?: Readonly<Record<string, FindingValue>>;
  readonly remedy?: string;
  /** Class of object for deduplication: `io-pte of anon folio`. */
  readonly objectClass: string;
  /** Labels of the conflicting steps, when the checker knows them; default: the current step's. */
  readonly labels?: readonly string[];
}

/** Has a finding of that kind and class been reported for the step that acts now? Then its story need not be looked for. */
export function isReported({ sim }: CheckContext, kind: string, objectClass: string): boolean {
  const label = sim.actingAccess?.step.label;
  const identity = findingIdentity(kind, objectClass, label === undefined ? [] : [label]);
  return sim.findings.some((finding) => finding.identity === identity);
}

/** Report a finding once per identity. */
export function reportFinding(context: CheckContext, report: Report): void {
  const { sim, log } = context;
  const label = sim.actingAccess?.step.label;
  const labels = report.labels ?? (label === undefined ? [] : [label]);
  const identity = findingIdentity(report.kind, report.objectClass, labels);
  if (sim.findings.some((finding) => finding.identity === identity)) return;
  const steps = log?.story(report.about ?? [], report.moments) ?? [];
  const actors = new Set(steps.map((told) => told.actor));
  if (sim.current !== null) actors.add(sim.current.name);
  const finding: Finding = {
    kind: report.kind,
    message: report.message,
    reasons: report.reasons ?? [],
    actors: [...actors],
    objects: report.objects,
    steps,
    details: report.details ?? {},
    ...(report.remedy === undefined ? {} : { remedy: report.remedy }),
    identity,
  };
  sim.report(finding);
}
