// A loaded scenario: everything checked, names resolved, defaults that do not depend on a kernel filled in. This is
// what the world is wired from.
import type { Diagnostic, Where } from './diagnostic.ts';
import type { Expectation, FindingPattern } from './expectation.ts';
import type { Script, SubjectKind } from './reference.ts';
import type { Prot } from './scalar.ts';
import type { HostSpec } from './schema-host.ts';
import type { MapSpec, MemoryKind, MemorySpec } from './schema-memory.ts';
import type { DeviceSpec, ProcessSpec, VmSpec } from './schema-world.ts';
import type { ScriptStep } from './step.ts';

/** How a process maps a memory object, after the object's defaults. */
export interface Mapping {
  readonly name: string;
  /** Name of the memory object. */
  readonly memory: string;
  /** Undefined: the kernel chooses. */
  readonly at: bigint | undefined;
  readonly offset: bigint;
  readonly length: bigint;
  readonly prot: Prot;
  readonly shared: boolean;
  /** `map`: MAP_POPULATE; `read` and `write`: the process touches every page so. */
  readonly populate: 'none' | 'map' | 'read' | 'write';
  readonly advice: readonly string[];
  readonly uffd: readonly string[];
  readonly locked: boolean;
  readonly noreserve: boolean;
  readonly where: Where;
}

export interface Memory {
  readonly name: string;
  readonly spec: MemorySpec;
  readonly where: Where;
}

export interface Process {
  readonly name: string;
  readonly spec: ProcessSpec;
  readonly maps: readonly Mapping[];
  readonly where: Where;
  /** What to say when its soft limit of locked memory is above the hard one. */
  readonly aboveHardLimit: Diagnostic;
}

export interface Vm {
  readonly name: string;
  readonly spec: VmSpec;
  readonly where: Where;
}

export interface Device {
  readonly name: string;
  readonly spec: DeviceSpec;
  readonly where: Where;
}

export interface Actor {
  readonly name: string;
  readonly subjectKind: SubjectKind;
  /** The process, VM or device that acts; `kernel` for the kernel. */
  readonly subject: string;
  /** Of a VM. */
  readonly vcpu: number;
  /** Host CPU, when the scenario says which. */
  readonly cpu: number | undefined;
  readonly script: Script<ScriptStep>;
  readonly where: Where;
}

/** A label that a run must have reached, and where the scenario says so. */
export interface ReachedLabel {
  readonly label: string;
  readonly where: Where;
}

export interface ExpectedFindings {
  readonly always: readonly FindingPattern[];
  readonly possible: readonly FindingPattern[];
}

/** One way to run the scenario: a kernel, a machine, and what is expected then. */
export interface ScenarioCase {
  readonly name: string;
  /** Its name in the file, when the command line changed it since; empty: the file has no such case. */
  readonly written?: string;
  readonly kernel: string;
  readonly with: readonly string[];
  readonly without: readonly string[];
  readonly host: HostSpec;
  readonly expect: ExpectedFindings;
  /** Expectations that replace those of named steps. */
  readonly steps: Readonly<Record<string, Expectation>>;
  /** What a reader of its result should know. */
  readonly note?: string;
  /** Where its `expect` stands, for findings that were missed. */
  readonly expectWhere: Where;
  readonly where: Where;
}

export interface Scenario {
  readonly file: string;
  readonly title: string;
  readonly description: string | undefined;
  readonly sources: readonly string[];
  readonly bug: string | undefined;
  readonly seed: string;
  readonly memory: readonly Memory[];
  readonly processes: readonly Process[];
  readonly vms: readonly Vm[];
  readonly devices: readonly Device[];
  readonly actors: readonly Actor[];
  readonly reaches: readonly ReachedLabel[];
  /** At least one. */
  readonly cases: readonly ScenarioCase[];
  /** The scenario itself, as if it listed no cases. */
  readonly base: ScenarioCase;
  readonly where: Where;
}

/** Kinds whose mappings are private unless told otherwise. */
const PRIVATE_KINDS: readonly MemoryKind[] = ['anon', 'heap', 'stack', 'text', 'vdso', 'vvar', 'dev-zero', 'hugetlb'];
const READ_WRITE: Prot = { read: true, write: true, exec: false };
const READ_EXEC: Prot = { read: true, write: false, exec: true };
const READ_ONLY: Prot = { read: true, write: false, exec: false };
/** Kinds that are not mapped read-write unless told otherwise. */
const PROT_OF_KIND: Readonly<Partial<Record<MemoryKind, Prot>>> = { text: READ_EXEC, vdso: READ_EXEC, vvar: READ_ONLY };

/** A mapping with the defaults of its object and of its kind. */
export function resolveMapping(name: string, map: MapSpec, memory: Memory, where: Where): Mapping {
  const { spec } = memory;
  const offset = map.offset ?? 0n;
  const populate = map.populate ?? spec.populate ?? false;
  const isMemfd = spec.kind === 'hugetlb' && spec.memfd === true;
  return {
    name,
    memory: memory.name,
    at: map.at,
    offset,
    length: map.length ?? spec.size - offset,
    prot: map.prot ?? spec.prot ?? PROT_OF_KIND[spec.kind] ?? READ_WRITE,
    shared: map.shared ?? spec.shared ?? (isMemfd || !PRIVATE_KINDS.includes(spec.kind)),
    populate: populate === true ? 'map' : populate === false ? 'none' : populate,
    advice: map.advice ?? spec.advice ?? [],
    uffd: map.uffd ?? spec.uffd ?? [],
    locked: map.locked ?? spec.locked ?? false,
    noreserve: map.noreserve ?? spec.noreserve ?? false,
    where,
  };
}
