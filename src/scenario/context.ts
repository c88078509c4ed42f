// What an operation may reach: who performs it. The world widens this to the kernel objects behind the names.
import type { SubjectKind } from './reference.ts';

export interface OperationContext {
  /** The actor's name. */
  readonly actor: string;
  readonly subjectKind: SubjectKind;
  /** Name of the process, VM or device that acts; `kernel` for the kernel itself. */
  readonly subject: string;
}
