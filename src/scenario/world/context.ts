// What an operation may reach: who performs it, and the world behind the names.

import type { SubjectKind } from '../file/reference.ts';
import type { Performance } from '../interpret.ts';

export interface OperationContext {
  /** The actor's name. */
  readonly actor: string;
  readonly subjectKind: SubjectKind;
  /** Name of the process, VM or device that acts; `kernel` for the kernel itself. */
  readonly subject: string;
  readonly performance: Performance;
}
