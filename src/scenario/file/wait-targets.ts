// What scripts wait and hold for, wherever it stands in them: the world has to know before it starts.
import { Script, visitNames } from './reference.ts';
import type { OperationStep, ScriptStep, WaitTarget } from './step.ts';

/** Every target that a script waits or holds for, wherever it stands. */
export function* waitTargets(script: Script<ScriptStep>): Generator<WaitTarget> {
  for (const scriptStep of script.steps) {
    if (scriptStep.kind === 'wait') yield* scriptStep.targets;
    else if (scriptStep.kind === 'repeat') yield* waitTargets(scriptStep.script);
    else if (scriptStep.kind === 'choose') for (const inner of scriptStep.scripts) yield* waitTargets(inner);
    else if (scriptStep.kind === 'operation') {
      for (const hold of scriptStep.holds) yield* hold.until;
      for (const inner of scriptsIn(scriptStep.args)) yield* waitTargets(inner);
    }
  }
}

/** Every operation of a script, wherever it stands. */
export function* operationsIn(script: Script<ScriptStep>): Generator<OperationStep> {
  for (const scriptStep of script.steps) {
    if (scriptStep.kind === 'repeat') yield* operationsIn(scriptStep.script);
    else if (scriptStep.kind === 'choose') for (const inner of scriptStep.scripts) yield* operationsIn(inner);
    else if (scriptStep.kind === 'operation') {
      yield scriptStep;
      for (const inner of scriptsIn(scriptStep.args)) yield* operationsIn(inner);
    }
  }
}

/** Scripts among the arguments of an operation: those of forked children. */
export function scriptsIn(args: unknown): readonly Script<ScriptStep>[] {
  const scripts: Script<ScriptStep>[] = [];
  visitNames(args, [], (found) => {
    if (found instanceof Script) scripts.push(found as Script<ScriptStep>);
  });
  return scripts;
}
