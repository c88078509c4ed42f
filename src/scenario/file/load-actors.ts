// Who an actor acts for: by default the process, VM or device of the same name.
import { type Diagnostic, didYouMean, nameList } from './diagnostic.ts';
import type { Script, SubjectKind } from './reference.ts';
import type { Actor } from './scenario.ts';
import type { ScenarioSpec } from './schema.ts';
import type { Source } from './source.ts';
import type { ScriptStep } from './step.ts';

/** The name under which scripts act as the kernel itself: reclaim, compaction, an administrator's sysfs writes. */
export const KERNEL_SUBJECT = 'kernel';

export interface Subjects {
  readonly all: readonly { readonly name: string; readonly kind: 'process' | 'vm' | 'device' }[];
}

/** Processes, VMs and devices; an actor finds its own by name, so no two may share one. */
export function subjectsOf(spec: ScenarioSpec, source: Source, complain: (d: Diagnostic) => void): Subjects {
  const sections = [
    ['processes', 'process', spec.processes],
    ['vms', 'vm', spec.vms],
    ['devices', 'device', spec.devices],
  ] as const;
  const seen = new Map<string, string>([[KERNEL_SUBJECT, 'reserved for the kernel itself']]);
  const all: { name: string; kind: 'process' | 'vm' | 'device' }[] = [];
  for (const [section, kind, entries] of sections)
    for (const name of Object.keys(entries ?? {})) {
      const taken = seen.get(name);
      if (taken !== undefined)
        complain(source.diagnostic([section, name], { message: `the name \`${name}\` is ${taken}` }, 'key'));
      else all.push({ name, kind });
      seen.set(name, `that of a ${kind} already`);
    }
  return { all };
}

/** Bind each actor; an actor that cannot be bound is left out after a complaint. */
export function bindActors(
  spec: ScenarioSpec,
  subjects: Subjects,
  source: Source,
  complain: (d: Diagnostic) => void,
): readonly Actor[] {
  const actors: Actor[] = [];
  if (Object.keys(spec.actors).length === 0)
    complain(source.diagnostic(['actors'], { message: 'nobody acts', expected: 'at least one actor' }));
  for (const [name, actor] of Object.entries(spec.actors)) {
    const on = actor.on ?? name;
    const path = ['actors', name];
    const subject = findSubject(on, subjects, spec);
    if (subject === undefined) {
      const known = [...subjects.all.map((one) => one.name), KERNEL_SUBJECT];
      const byName = actor.on === undefined;
      complain(
        source.diagnostic(
          byName ? path : [...path, 'on'],
          {
            message: `no process, VM or device \`${on}\`${byName ? ' for this actor to act for' : ''}`,
            expected: nameList(known),
            hint: didYouMean(on, known) ?? (byName ? `write \`${name}: {on: ${known[0]}, do: [...]}\`` : undefined),
          },
          byName ? 'key' : 'value',
        ),
      );
      continue;
    }
    const vcpu = actor.vcpu ?? subject.vcpu;
    if (subject.kind === 'vcpu' && vcpu >= subject.vcpus)
      complain(source.diagnostic([...path, 'vcpu'], { message: `\`${subject.name}\` has ${subject.vcpus} vCPUs` }));
    if (subject.kind !== 'vcpu' && actor.vcpu !== undefined)
      complain(source.diagnostic([...path, 'vcpu'], { message: `\`${subject.name}\` is no VM` }));
    actors.push({
      name,
      subjectKind: subject.kind,
      subject: subject.name,
      vcpu,
      cpu: actor.cpu,
      script: actor.do as Script<ScriptStep>,
      where: source.where(path, 'key'),
    });
  }
  return actors;
}

interface Subject {
  readonly kind: SubjectKind;
  readonly name: string;
  readonly vcpu: number;
  readonly vcpus: number;
}

function findSubject(on: string, subjects: Subjects, spec: ScenarioSpec): Subject | undefined {
  if (on === KERNEL_SUBJECT) return { kind: 'kernel', name: KERNEL_SUBJECT, vcpu: 0, vcpus: 0 };
  const found = subjects.all.find((subject) => subject.name === on);
  if (found !== undefined) {
    if (found.kind !== 'vm') return { kind: found.kind, name: on, vcpu: 0, vcpus: 0 };
    return { kind: 'vcpu', name: on, vcpu: 0, vcpus: spec.vms?.[on]?.vcpus ?? 1 };
  }
  // With one VM, `vcpu1` can only be its second vCPU.
  const match = /^vcpu([0-9]{1,4})$/.exec(on);
  const vms = subjects.all.filter((subject) => subject.kind === 'vm');
  if (match === null || vms.length !== 1) return undefined;
  const { name } = vms[0]!;
  return { kind: 'vcpu', name, vcpu: Number(match[1]), vcpus: spec.vms?.[name]?.vcpus ?? 1 };
}
