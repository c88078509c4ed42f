// A script asks for what the world does not have at that moment. The mistake is the author's (or a mutation's), not the
// model's: a run points at the step, a search ends the actor there and says so.
import { LimitReached } from '../engine/limit.ts';

/** An operation cannot be performed as written: memory that is not mapped, a ring that does not exist. */
export class ScriptMistake extends LimitReached {}
