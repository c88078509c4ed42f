// Which names operations look up that another actor makes, without having waited for it: only they are looked up in a step.
import { Declared, Ref, type Script, visitNames } from '../file/reference.ts';
import type { Scenario } from '../file/scenario.ts';
import type { OperationStep, ScriptStep, WaitTarget } from '../file/step.ts';
import { scriptsIn } from '../file/wait-targets.ts';

/** What stands for all descriptors of devices, groups and containers, and for the containers that groups are in. */
export const DESCRIPTORS = 'descriptors of VFIO';

/** By actor (or forked child): what it makes, in the order of its script, and what each step of that is called. */
type Makers = Map<
  string,
  { readonly name: string; readonly kinds: readonly string[]; readonly step: string | undefined }[]
>;

/** No step is called so. */
const LATER = '';

type Known = Map<string, number>;

/** By operation of a script: the names that it looks up and that may come into being, or change, meanwhile. */
export function sharedNames({ actors }: Scenario): ReadonlyMap<OperationStep, readonly string[]> {
  const makers: Makers = new Map();
  for (const { name, script } of actors) collect(makers, name, script, undefined);
  const found = new Map<OperationStep, readonly string[]>();
  if (makers.size > 0) for (const { name, script } of actors) look(makers, name, script, new Map(), found);
  return found;
}

function collect(makers: Makers, actor: string, script: Script<ScriptStep>, within: string | undefined): void {
  for (const step of script.steps) {
    const called = within ?? step.name;
    if (step.kind === 'repeat') {
      collect(makers, actor, step.script, called);
      // Who waits for a step inside has waited for its first round.
      if (step.times > 1) collect(makers, actor, step.script, called ?? LATER);
    } else if (step.kind === 'choose') for (const one of step.scripts) collect(makers, actor, one, called);
    else if (step.kind === 'operation') {
      for (const made of madeBy(step)) {
        const list = makers.get(actor) ?? [];
        makers.set(actor, list);
        list.push({ ...made, step: called });
      }
      for (const child of scriptsIn(step.args)) collect(makers, childOf(step), child, undefined);
    }
  }
}

/** The actor that performs a script among the arguments of an operation. */
function childOf({ args }: OperationStep): string {
  return (args as { readonly as: Declared }).as.name;
}

/** What an operation makes. Pages that are held (pins) have an object of their own for every name. */
function* madeBy({ operation, args }: OperationStep): Generator<{ name: string; kinds: readonly string[] }> {
  if (operation.changes === 'descriptors' || closesGroup(operation.name, args)) {
    yield { name: DESCRIPTORS, kinds: [] };
  }
  // All names of mappings are one object.
  if (operation.changes === 'mappings') return;
  const made: Declared[] = [];
  visitNames(args, [], (one) => {
    if (one instanceof Declared && !one.kinds.includes('pin')) made.push(one);
  });
  yield* made;
}

/** close() of a group, or of the container of the process: the last descriptor takes a group out of its container. */
function closesGroup(operation: string, args: unknown): boolean {
  const { fd, group_of } = args as { readonly fd?: Ref; readonly group_of?: Ref };
  return operation === 'close' && (group_of !== undefined || fd === undefined);
}

/** `known`: by `actor/name`, how often it has been made for sure when the script begins. */
function look(
  makers: Makers,
  actor: string,
  script: Script<ScriptStep>,
  known: Known,
  found: Map<OperationStep, readonly string[]>,
): void {
  for (const step of script.steps) {
    if (step.kind === 'wait') for (const target of step.targets) learn(makers, target, known);
    else if (step.kind === 'repeat') look(makers, actor, step.script, known, found);
    else if (step.kind === 'choose') {
      for (const one of step.scripts) look(makers, actor, one, new Map(known), found);
    } else if (step.kind === 'operation') {
      const unknown = namesUsed(makers, step).filter((name) => mayAppear(makers, actor, name, known));
      if (unknown.length > 0) found.set(step, unknown);
      for (const child of scriptsIn(step.args)) {
        // What the parent has made by now is there; and what it makes later, it makes beside the child.
        look(makers, childOf(step), child, new Map(known), found);
      }
      for (const { name } of madeBy(step)) known.set(`${actor}/${name}`, (known.get(`${actor}/${name}`) ?? 0) + 1);
    }
  }
}

/** A wait for the end of a script, or of a step of it, is one for all that was made until then. */
function learn(makers: Makers, { actor, step, label }: WaitTarget, known: Known): void {
  if (label !== undefined) return;
  const made = makers.get(actor.name) ?? [];
  const until = step === undefined ? made.length : made.findLastIndex((one) => one.step === step) + 1;
  const before = made.slice(0, until);
  for (const { name } of before) {
    const key = `${actor.name}/${name}`;
    known.set(key, Math.max(known.get(key) ?? 0, timesMade(before, name)));
  }
}

function timesMade(made: readonly { readonly name: string }[], name: string): number {
  return made.filter((one) => one.name === name).length;
}

/** Does anybody else make it, or make it again, who has not been waited for? */
function mayAppear(makers: Makers, actor: string, name: string, known: Known): boolean {
  return [...makers].some(
    ([maker, made]) => maker !== actor && timesMade(made, name) > (known.get(`${maker}/${name}`) ?? 0),
  );
}

/** What an operation may look up, said or not: the VM of its process, descriptors of the device that it names. */
function namesUsed(makers: Makers, { operation, args }: OperationStep): readonly string[] {
  const names = new Set<string>();
  visitNames(args, [], (one) => {
    if (!(one instanceof Ref)) return;
    names.add(one.name);
    if (one.kinds.includes('device') || one.kinds.includes('container')) names.add(DESCRIPTORS);
  });
  if (operation.name.startsWith('vfio.') || operation.name === 'close') names.add(DESCRIPTORS);
  if (/^(vcpu|kvm|gpc)\./.test(operation.name)) {
    for (const made of makers.values()) for (const { name, kinds } of made) if (kinds.includes('vm')) names.add(name);
  }
  return [...names];
}
