// Which step of its script every process performs. Only observers look: a step acted belongs to what was performed when
// it was announced, and by the time it has been acted the script may have gone on.
import type { Process } from '../../engine/process.ts';
import type { ScriptStep } from '../file/step.ts';

interface Performed {
  step: ScriptStep;
  /** What came before `step`. */
  before: ScriptStep | undefined;
  /** Steps that the process had acted when `step` began. */
  since: number;
}

export class Performing {
  private readonly byName = new Map<string, Performed>();

  /** `process` begins a step of its script. */
  begin(process: Process, step: ScriptStep): void {
    const { name, stepCount } = process;
    const known = this.byName.get(name);
    if (known === undefined) {
      this.byName.set(name, { step, before: undefined, since: stepCount });
      return;
    }
    if (known.since !== stepCount) known.before = known.step;
    known.since = stepCount;
    known.step = step;
  }

  /** What the step that `process` has just acted belongs to; undefined before its script begins. */
  actedFor(process: Process): ScriptStep | undefined {
    const known = this.byName.get(process.name);
    return known !== undefined && known.since === process.stepCount - 1 ? known.before : known?.step;
  }

  /** The step that the actor called `name` performs now, also while it is in the middle of it. */
  current(name: string): ScriptStep | undefined {
    return this.byName.get(name)?.step;
  }

  clear(): void {
    this.byName.clear();
  }
}
