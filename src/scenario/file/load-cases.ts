// The cases of a scenario: kernels judged by the kernel room, machines merged, expectations inherited.
import { LATENCY_DEFAULTS } from '../../hw/latency-defaults.ts';
import { iommuDriver, usualDriver } from '../../iommu/driver.ts';
import { checkAsked, Kernel, KernelError } from '../../kernel/index.ts';
import { type Diagnostic, didYouMean, nameList } from './diagnostic.ts';
import type { ExpectedFindings, ScenarioCase } from './scenario.ts';
import type { CaseSpec, FindingsSpec, ScenarioSpec } from './schema.ts';
import { type HostSpec, mergeHost } from './schema-host.ts';
import type { Path, Source } from './source.ts';
import { formatSize } from './units.ts';

/** The least memory a machine starts with: zero pages and what is allotted at boot. */
const KERNEL_BYTES = 4n << 20n;

/** The kernel of scenarios that name none: the newest whose outcomes were recorded. */
export const DEFAULT_KERNEL = 'v6.12.117';

/** The cases that the file lists, or the one that it is. */
export function buildCases(
  spec: ScenarioSpec,
  stepNames: ReadonlyMap<string, ReadonlySet<string>>,
  source: Source,
  complain: (d: Diagnostic) => void,
): { readonly cases: readonly ScenarioCase[]; readonly base: ScenarioCase } {
  const written: readonly { one: CaseSpec; path: Path }[] =
    spec.cases === undefined
      ? [{ one: {}, path: [] }]
      : spec.cases.map((one, index) => ({ one, path: ['cases', index] }));
  const cases = written.map(({ one, path }) => {
    checkSteps(one, stepNames, source, path, complain);
    const built = buildCase(spec, one, source, path);
    const kernel = checkKernel(spec, built, source, path, complain);
    checkHost(spec, built.host, kernel?.profile.arch, source, path, complain);
    return built;
  });
  for (const [index, { name }] of cases.entries())
    if (cases.findIndex((other) => other.name === name) < index)
      complain(
        source.diagnostic(['cases', index], {
          message: `there is a case \`${name}\` already`,
          hint: 'give it a `name`',
        }),
      );
  return { cases, base: buildCase(spec, {}, source, []) };
}

function buildCase(spec: ScenarioSpec, one: CaseSpec, source: Source, path: Path): ScenarioCase {
  const kernel = kernelOf(one.kernel ?? spec.kernel ?? DEFAULT_KERNEL, spec.arch);
  const on = [...(spec.with ?? []), ...(one.with ?? [])];
  const off = [...(spec.without ?? []), ...(one.without ?? [])];
  return {
    name: one.name ?? caseName(kernel, one.with ?? [], one.without ?? []),
    kernel,
    with: on,
    without: off,
    host: one.host === undefined ? (spec.host ?? {}) : mergeHost(spec.host ?? {}, one.host),
    expect: expectedFindings(one.expect ?? spec.expect),
    steps: one.steps ?? {},
    expectWhere: source.where(expectPath(one, spec, path), 'key'),
    where: source.where(path.length === 0 ? ['title'] : path, 'value'),
  };
}

function expectPath(one: CaseSpec, spec: ScenarioSpec, path: Path): Path {
  if (one.expect !== undefined) return [...path, 'expect'];
  return spec.expect !== undefined ? ['expect'] : ['title'];
}

/** `v6.1`, `v6.1 with a, without b`: how a case is called that has no name. */
export function caseName(kernel: string, on: readonly string[], off: readonly string[]): string {
  const changes = [...on.map((id) => `with ${id}`), ...off.map((id) => `without ${id}`)];
  return changes.length === 0 ? kernel : `${kernel} ${changes.join(', ')}`;
}

/** A kernel of another architecture is named `v6.12+s390x`. */
function kernelOf(name: string, arch: string | undefined): string {
  return arch === undefined || arch === 'x86_64' || name.includes('+') ? name : `${name}+${arch}`;
}

function expectedFindings(spec: FindingsSpec | undefined): ExpectedFindings {
  return { always: spec?.always ?? [], possible: spec?.possible ?? [] };
}

function checkSteps(
  one: CaseSpec,
  stepNames: ReadonlyMap<string, ReadonlySet<string>>,
  source: Source,
  path: Path,
  complain: (d: Diagnostic) => void,
): void {
  const known = [...new Set([...stepNames.values()].flatMap((names) => [...names]))];
  for (const name of Object.keys(one.steps ?? {}))
    if (!known.includes(name)) {
      const hint = didYouMean(name, known) ?? `name a step with \`as: ${name}\``;
      const what = { message: `no step is named \`${name}\``, expected: nameList(known), hint };
      complain(source.diagnostic([...path, 'steps', name], what, 'key'));
    }
}

function checkHost(
  spec: ScenarioSpec,
  host: HostSpec,
  arch: string | undefined,
  source: Source,
  path: Path,
  complain: (d: Diagnostic) => void,
): void {
  const nodes = host.nodes ?? 1;
  const memory = host.memory;
  const at = source.has([...path, 'host', 'nodes']) || path.length === 0 ? path : [];
  const entries = Array.isArray(memory) ? memory.length : 1;
  if (memory !== undefined && host.nodes !== undefined && entries !== nodes)
    complain(
      source.diagnostic([...at, 'host', 'nodes'], {
        message: `${nodes} nodes, and memory for ${entries}`,
        expected: `\`memory\` as a list of ${nodes}, or \`nodes: ${entries}\``,
      }),
    );
  const classes = Object.keys(LATENCY_DEFAULTS);
  for (const name of Object.keys(host.latencies ?? {})) {
    if (classes.includes(name)) continue;
    const hint = didYouMean(name, classes);
    const what = {
      message: `no step costs \`${name}\``,
      expected: nameList(classes),
      ...(hint === undefined ? {} : { hint }),
    };
    const there = source.has([...path, 'host', 'latencies', name]) ? path : [];
    complain(source.diagnostic([...there, 'host', 'latencies', name], what, 'key'));
  }
  checkIommu(host, arch, source, source.has([...path, 'host', 'iommu']) ? path : [], complain);
  checkNodes(spec, Array.isArray(memory) ? entries : nodes, source, complain);
  checkZones(host, source, source.has([...path, 'host', 'memory']) ? path : [], complain);
  if (host.cpus === undefined) return;
  for (const [name, actor] of Object.entries(spec.actors))
    if (actor.cpu !== undefined && actor.cpu >= host.cpus)
      complain(source.diagnostic(['actors', name, 'cpu'], { message: `the host has ${host.cpus} CPUs, from 0` }));
}

/** An IOMMU can have fewer entry sizes than its driver knows, but no others, and never without 4 KiB. */
function checkIommu(
  host: HostSpec,
  arch: string | undefined,
  source: Source,
  path: Path,
  complain: (d: Diagnostic) => void,
): void {
  const { driver = usualDriver(arch), page_sizes: sizes, aperture, reserved = [] } = host.iommu ?? {};
  const { orders } = iommuDriver(driver);
  for (const [index, size] of (sizes ?? []).entries())
    if (!orders.some((order) => 4096n << BigInt(order) === size)) {
      const known =
        orders.length > 8
          ? 'every power of two from 4KiB'
          : orders.map((o) => formatSize(4096n << BigInt(o))).join(', ');
      const what = { message: `\`${driver}\` has no entries of ${formatSize(size)}`, expected: known };
      complain(source.diagnostic([...path, 'host', 'iommu', 'page_sizes', index], what));
    }
  if (sizes !== undefined && !sizes.includes(4096n)) {
    const what = { message: 'an IO page table without entries of 4KiB', expected: '4KiB among them' };
    complain(source.diagnostic([...path, 'host', 'iommu', 'page_sizes'], what));
  }
  for (const [index, { start, end }] of reserved.entries())
    if (end < start) {
      const what = { message: 'this range ends before it starts' };
      complain(source.diagnostic([...path, 'host', 'iommu', 'reserved', index], what));
    }
  if (aperture !== undefined && aperture.end <= aperture.start)
    complain(
      source.diagnostic([...path, 'host', 'iommu', 'aperture'], { message: 'this aperture ends before it starts' }),
    );
}

/** Nodes that memory and processes name must be there. */
function checkNodes(spec: ScenarioSpec, nodes: number, source: Source, complain: (d: Diagnostic) => void): void {
  for (const what of ['memory', 'processes'] as const)
    for (const [name, { node }] of Object.entries(spec[what] ?? {}))
      if (node !== undefined && node >= nodes) {
        const expected = nodes === 1 ? '0, or more `nodes` of the host' : `0 to ${nodes - 1}`;
        complain(source.diagnostic([what, name, 'node'], { message: `there is no node ${node}`, expected }));
      }
}

/** The kernel itself needs some memory that is neither movable nor far away. */
function checkZones(host: HostSpec, source: Source, path: Path, complain: (d: Diagnostic) => void): void {
  if (host.memory === undefined) return;
  const nodes = Array.isArray(host.memory) ? host.memory : [host.memory];
  const own = nodes.map((zones) => zones.normal ?? zones.dma32 ?? 0n);
  if (own.some((size) => size >= KERNEL_BYTES)) return;
  const message = 'this host has no room for the kernel';
  const expected = `\`normal\` or \`dma32\` memory of at least ${formatSize(KERNEL_BYTES)} on some node`;
  complain(source.diagnostic([...path, 'host', 'memory'], { message, expected }));
}

function checkKernel(
  spec: ScenarioSpec,
  built: ScenarioCase,
  source: Source,
  path: Path,
  complain: (d: Diagnostic) => void,
): Kernel | undefined {
  try {
    const changes = { with: built.with, without: built.without, config: built.host.config ?? {} };
    const kernel = new Kernel(built.kernel, changes);
    checkAsked(built.kernel, changes);
    return kernel;
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    const where = offendingPath(error, spec, source, path);
    complain(source.diagnostic(where, kernelDiagnostic(error)));
    return undefined;
  }
}

/** A kernel or behaviour that cannot be, in the words of a diagnostic. */
export function kernelDiagnostic(error: KernelError): Diagnostic {
  const hint =
    error.didYouMean.length === 0
      ? error.kind === 'unknown-kernel'
        ? 'see `pinsim list kernels`'
        : error.kind === 'unknown-behaviour'
          ? 'see `pinsim list behaviours`'
          : undefined
      : `did you mean ${error.didYouMean.map((name) => `\`${name}\``).join(' or ')}?`;
  const message = error.message.replace(/; did you mean .*$/, '');
  return { message, ...(hint === undefined ? {} : { hint }) };
}

function offendingPath(error: KernelError, spec: ScenarioSpec, source: Source, path: Path): Path {
  if (error.kind === 'unknown-kernel') return source.has([...path, 'kernel']) ? [...path, 'kernel'] : ['kernel'];
  if (error.kind === 'config' || error.kind === 'unasked')
    for (const base of [path, []]) {
      const option = [...base, 'host', 'config', error.offending];
      if (source.has(option)) return option;
    }
  for (const base of [path, []])
    for (const key of ['with', 'without'] as const) {
      const list = source.get([...base, key]);
      const index = Array.isArray(list) ? list.indexOf(error.offending) : -1;
      if (index !== -1) return [...base, key, index];
    }
  return path.length === 0 && spec.kernel !== undefined ? ['kernel'] : path;
}
