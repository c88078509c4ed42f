// Processes with their mappings, and whether mappings and memslots lie inside what they map.
import { type Diagnostic, didYouMean, nameList } from './diagnostic.ts';
import { type Mapping, type Memory, type Process, resolveMapping } from './scenario.ts';
import type { ScenarioSpec } from './schema.ts';
import { memoryOfMap, type ProcessSpec } from './schema-world.ts';
import type { Path, Source } from './source.ts';
import { formatSize } from './units.ts';

/** Kinds that may be mapped past the end of what backs them. */
const FILE_KINDS = ['file', 'tmpfs', 'fsdax', 'shmem'];

/** Kinds whose pages mbind can send to a node before they exist. */
const POLICY_KINDS = ['anon', 'heap', 'stack', 'dev-zero', 'shmem', 'tmpfs', 'sysv', 'hugetlb'];

/** Resolve every mapping of every process; what cannot be resolved is left out after a complaint. */
export function buildProcesses(
  spec: ScenarioSpec,
  memory: readonly Memory[],
  source: Source,
  complain: (d: Diagnostic) => void,
): readonly Process[] {
  for (const { name, spec: object } of memory) {
    if (object.size === 0n)
      complain(source.diagnostic(['memory', name, 'size'], { message: 'this memory has no bytes' }));
    if (object.node !== undefined && !POLICY_KINDS.includes(object.kind)) {
      const message = `memory of kind \`${object.kind}\` has no policy of its own`;
      const expected = `\`node\` with kind ${nameList(POLICY_KINDS)}; others follow the \`node\` of the process`;
      complain(source.diagnostic(['memory', name, 'node'], { message, expected }, 'key'));
    }
  }
  return Object.entries(spec.processes ?? {}).map(([name, process]) => {
    const maps: Mapping[] = [];
    for (const [mapName, map] of Object.entries(process.maps ?? {})) {
      const path = ['processes', name, 'maps', mapName];
      const object = memory.find((one) => one.name === memoryOfMap(mapName, map));
      if (object === undefined) {
        // A reference that was written out is reported with all other references.
        if (map.memory === undefined) complain(unknownMemory(mapName, memory, source, path));
        continue;
      }
      const where = source.where(path, 'key');
      const mapping = resolveMapping(mapName, map, object, where);
      checkMapping(mapping, object, source, path, complain);
      checkBar(spec, name, object, source, path, complain);
      maps.push(mapping);
    }
    checkOverlaps(name, maps, source, complain);
    const aboveHardLimit = limitsMismatch(name, process, source);
    const { memlock, memlock_hard: hard } = process;
    if (memlock !== undefined && hard !== undefined && memlock > hard) complain(aboveHardLimit);
    return { name, spec: process, maps, where: source.where(['processes', name], 'key'), aboveHardLimit };
  });
}

/** At the limit that is written: the soft one may be that of the host. */
function limitsMismatch(name: string, { memlock }: ProcessSpec, source: Source): Diagnostic {
  const path = ['processes', name, memlock === undefined ? 'memlock_hard' : 'memlock'];
  const message = `the soft limit of \`${name}\` is above its hard limit`;
  return source.diagnostic(path, { message, hint: 'lower `memlock`, or raise `memlock_hard`' });
}

/** Two mappings at fixed addresses cannot share one: the second would take the first away. */
function checkOverlaps(
  process: string,
  maps: readonly Mapping[],
  source: Source,
  complain: (d: Diagnostic) => void,
): void {
  for (const [index, map] of maps.entries()) {
    const { at } = map;
    if (at === undefined) continue;
    const other = maps
      .slice(0, index)
      .find((one) => one.at !== undefined && one.at < at + map.length && at < one.at + one.length);
    if (other === undefined) continue;
    const message = `\`${map.name}\` would be mapped over \`${other.name}\``;
    complain(source.diagnostic(['processes', process, 'maps', map.name, 'at'], { message }));
  }
}

function unknownMemory(name: string, memory: readonly Memory[], source: Source, path: Path): Diagnostic {
  const known = memory.map((one) => one.name);
  const hint = didYouMean(name, known) ?? `say what it maps: \`${name}: {memory: ${known[0] ?? '...'}}\``;
  return source.diagnostic(path, { message: `no memory \`${name}\``, expected: nameList(known), hint }, 'key');
}

function checkMapping(
  mapping: Mapping,
  object: Memory,
  source: Source,
  path: Path,
  complain: (d: Diagnostic) => void,
): void {
  const { size, kind } = object.spec;
  const aligned = (key: 'at' | 'offset', value: bigint | undefined): void => {
    if (value !== undefined && value % 4096n !== 0n)
      complain(
        source.diagnostic([...path, key], {
          message: `\`${key}\` is not a multiple of the page size`,
          expected: 'a multiple of 4KiB',
        }),
      );
  };
  aligned('at', mapping.at);
  aligned('offset', mapping.offset);
  if (mapping.length > 0n && (mapping.offset + mapping.length <= size || FILE_KINDS.includes(kind))) return;
  complain(
    source.diagnostic(path, {
      message: `this maps bytes that \`${object.name}\` does not have`,
      expected: `at most ${formatSize(size)} from offset 0`,
    }),
  );
}

/** A BAR is mapped through the descriptor of its device: from the start only by who has attached it then. */
function checkBar(
  { devices }: ScenarioSpec,
  process: string,
  { spec: object }: Memory,
  source: Source,
  path: Path,
  complain: (d: Diagnostic) => void,
): void {
  if (object.kind !== 'bar') return;
  const { name } = object.device;
  const device = devices?.[name];
  if (device === undefined) return;
  if (device.process?.name === process && (device.attach ?? 'none') !== 'none') return;
  const message = `\`${process}\` has no descriptor of \`${name}\` through which to map its BAR`;
  const hint = `attach \`${name}\` to \`${process}\` (process, attach), or map the BAR in a script with vfio.mmap_bar`;
  complain(source.diagnostic(path, { message, hint }, 'key'));
}

/** Memslots must lie inside a mapping of their VMM. */
export function checkVms(
  spec: ScenarioSpec,
  processes: readonly Process[],
  source: Source,
  complain: (d: Diagnostic) => void,
): void {
  for (const [name, vm] of Object.entries(spec.vms ?? {})) {
    const process = processes.find((one) => one.name === vm.process.name);
    if (process === undefined) continue;
    for (const [index, region] of (vm.regions ?? []).entries()) {
      const path = ['vms', name, 'regions', index];
      const mapping = process.maps.find((one) => one.name === region.memory.name || one.memory === region.memory.name);
      if (mapping === undefined) {
        const known = process.maps.map((one) => one.name);
        const message = `\`${process.name}\` does not map \`${region.memory.name}\``;
        const hint = didYouMean(region.memory.name, known) ?? `add it under \`processes: ${process.name}: maps:\``;
        complain(source.diagnostic([...path, 'memory'], { message, expected: nameList(known), hint }));
        continue;
      }
      const offset = region.offset ?? 0n;
      const size = region.size ?? mapping.length - offset;
      if (size <= 0n || offset + size > mapping.length)
        complain(
          source.diagnostic(path, {
            message: `this memslot goes past the end of \`${mapping.name}\``,
            expected: `at most ${formatSize(mapping.length)} from offset 0`,
          }),
        );
    }
  }
  for (const [name, device] of Object.entries(spec.devices ?? {})) {
    const attach = device.attach ?? 'none';
    if (attach !== 'none' && device.process === undefined) {
      const what = { message: `\`${name}\` is attached, but to no process`, expected: '`process:`, who attaches it' };
      complain(source.diagnostic(['devices', name, 'attach'], what));
    }
  }
}
