// A program of the laboratory: one boot, one sequence of operations, the cases that it reports.
import type { Steps } from '../../src/engine/process.ts';
import type { Boot, Session } from './session.ts';

export interface Program {
  /** For messages. */
  readonly name: string;
  /** The cases that it reports, by the first words of their names; default: those that start with its own name. */
  readonly reports?: readonly string[];
  readonly boot: Boot;
  run(session: Session): Steps<void>;
}
