// What a checker or the engine reports. Plain data: reports and searches read it without knowing the model.

/** One step of a finding's story. Times in simulated nanoseconds (0 when explored). */
export interface FindingStep {
  readonly actor: string;
  readonly label: string;
  readonly timeNs: number;
  /** What the step changed or found, in words. */
  readonly changed?: string;
}

export type FindingValue = string | number | boolean | bigint | null | readonly FindingValue[];

export interface Finding {
  /** One of the kinds of the design page: `pin-failure`, `stale-mapping`, ... */
  readonly kind: string;
  /** One sentence that says what went wrong. */
  readonly message: string;
  /** The chain of causes, in order. */
  readonly reasons: readonly string[];
  readonly actors: readonly string[];
  readonly objects: readonly string[];
  readonly steps: readonly FindingStep[];
  /** Structured facts: errno, sizes in bytes, pfn, iova... Keys in kebab-case. */
  readonly details: Readonly<Record<string, FindingValue>>;
  /** What would have made it pass, when known. */
  readonly remedy?: string;
  /** Same cause, same identity: kind, object class, labels of the conflicting steps. */
  readonly identity: string;
}

/** Build the identity text used for deduplication. */
export function findingIdentity(kind: string, objectClass: string, labels: readonly string[]): string {
  return [kind, objectClass, ...labels].join('|');
}
