// Kernel versions and the ranges in which a kernel behaves in some way.
// A mainline release (6.4) and the stable series of an older one (6.1.y from 6.1.130) are different lines of
// history, so a range names the mainline release and each stable backport that is known.
// Limits: release candidates and vendor trees are not versions here.

/** A release: `6.1` is `{major: 6, minor: 1, stable: 0}`, the same as `6.1.0`. */
export interface Version {
  readonly major: number;
  readonly minor: number;
  readonly stable: number;
}

/**
 * One range, as people write it. All parts are optional and must hold together.
 * - `since: '6.4, 6.1.130'`: in mainline from 6.4, and in 6.1.y from 6.1.130; in no other series before 6.4.
 * - `until: '6.5, 6.1.130'`: the first releases *without* it, read the same way.
 * - `during: '6.1.129-6.1.154, 6.12.14-6.12.35'`: windows inside stable series, both ends included.
 */
export interface Range {
  readonly since?: string;
  readonly until?: string;
  readonly during?: string;
}

/** Where a behaviour holds: everywhere, nowhere (proposals, fixes not merged), or in any of some ranges. */
export type RangeSpec = 'always' | 'never' | Range | readonly Range[];

/** A text that should have been a version or a range and is not. */
export class VersionError extends Error {
  override readonly name = 'VersionError';
}

const VERSION = /^v?(\d{1,3})\.(\d{1,3})(?:\.(\d{1,4}))?$/;

/** Reads `v5.4`, `6.1.192`; throws VersionError. A missing stable level is 0. */
export function parseVersion(text: string): Version {
  const match = VERSION.exec(text.trim());
  if (match === null) throw new VersionError(`'${text}' is not a kernel version; expected vX.Y or vX.Y.Z`);
  return { major: Number(match[1]), minor: Number(match[2]), stable: Number(match[3] ?? 0) };
}

/** `v6.1` for 6.1.0, `v6.1.192` otherwise. */
export function formatVersion(version: Version): string {
  const series = `v${version.major}.${version.minor}`;
  return version.stable === 0 ? series : `${series}.${version.stable}`;
}

/** Total order by (major, minor, stable): negative, zero, positive. Not an order of time: 6.1.192 is younger than 6.2. */
export function compareVersions(a: Version, b: Version): number {
  return compareSeries(a, b) || a.stable - b.stable;
}

/** Order of the mainline releases that the two versions descend from. */
export function compareSeries(a: Version, b: Version): number {
  return a.major - b.major || a.minor - b.minor;
}

/** The points at which a change entered: at most one mainline release, and any number of stable releases. */
interface Entry {
  readonly mainline: Version | undefined;
  readonly backports: readonly Version[];
}

function parseEntry(text: string): Entry {
  let mainline: Version | undefined;
  const backports: Version[] = [];
  for (const part of text.split(',')) {
    const version = parseVersion(part);
    if (version.stable > 0) {
      if (backports.some((other) => compareSeries(other, version) === 0))
        throw new VersionError(`'${text}' names two releases of the ${formatSeries(version)}.y series`);
      backports.push(version);
    } else if (mainline === undefined) mainline = version;
    else throw new VersionError(`'${text}' names two mainline releases`);
  }
  const late = backports.find((b) => mainline !== undefined && compareSeries(b, mainline) >= 0);
  if (late !== undefined)
    throw new VersionError(`'${text}': ${formatVersion(late)} has it from mainline already; not a backport`);
  return { mainline, backports };
}

function formatSeries(version: Version): string {
  return `${version.major}.${version.minor}`;
}

function entered(entry: Entry, version: Version): boolean {
  if (entry.mainline !== undefined && compareSeries(version, entry.mainline) >= 0) return true;
  return entry.backports.some((b) => compareSeries(b, version) === 0 && version.stable >= b.stable);
}

interface Window {
  readonly first: Version;
  readonly last: Version;
}

function parseWindow(text: string): Window {
  const ends = text.split('-');
  if (ends.length !== 2) throw new VersionError(`'${text}' is not a window; expected X.Y.Z-X.Y.Z`);
  const [first, last] = [parseVersion(ends[0]!), parseVersion(ends[1]!)];
  if (compareSeries(first, last) !== 0 || first.stable > last.stable)
    throw new VersionError(`'${text}' is not a window inside one stable series`);
  return { first, last };
}

/** A range specification, read once; `includes` is the question that profiles ask. */
export class VersionRange {
  readonly #tests: readonly ((version: Version) => boolean)[];
  readonly #points: readonly Version[];

  /** Throws VersionError when a part of the specification cannot be read. */
  constructor(spec: RangeSpec) {
    const points: Version[] = [];
    if (spec === 'always') this.#tests = [() => true];
    else if (spec === 'never') this.#tests = [];
    else this.#tests = (isList(spec) ? spec : [spec]).map((range) => compile(range, points));
    this.#points = points;
  }

  /** Whether a kernel of this version is in any of the ranges. */
  includes(version: Version): boolean {
    return this.#tests.some((test) => test(version));
  }

  /** Every release named by the specification, in the order written; for checks of the data. */
  points(): readonly Version[] {
    return this.#points;
  }
}

function isList(spec: Range | readonly Range[]): spec is readonly Range[] {
  return Array.isArray(spec);
}

function compile(range: Range, points: Version[]): (version: Version) => boolean {
  if (range.since === undefined && range.until === undefined && range.during === undefined)
    throw new VersionError("a range needs 'since', 'until' or 'during'; say 'always' for every kernel");
  const note = (entry: Entry): Entry => {
    if (entry.mainline !== undefined) points.push(entry.mainline);
    points.push(...entry.backports);
    return entry;
  };
  const since = range.since === undefined ? undefined : note(parseEntry(range.since));
  const until = range.until === undefined ? undefined : note(parseEntry(range.until));
  const windows = range.during?.split(',').map(parseWindow);
  for (const window of windows ?? []) points.push(window.first, window.last);
  return (version) =>
    (since === undefined || entered(since, version)) &&
    (until === undefined || !entered(until, version)) &&
    (windows === undefined || windows.some((w) => inWindow(w, version)));
}

function inWindow(window: Window, version: Version): boolean {
  return compareVersions(window.first, version) <= 0 && compareVersions(version, window.last) <= 0;
}

/** The range in words, as `list` and `explain` print it: `since 6.4, 6.1.130`. */
export function describeRange(spec: RangeSpec): string {
  if (spec === 'always') return 'every kernel modelled';
  if (spec === 'never') return 'no released kernel';
  return (isList(spec) ? spec : [spec]).map(describeOne).join('; and ');
}

function describeOne(range: Range): string {
  const parts: string[] = [];
  if (range.since !== undefined) parts.push(`since ${range.since}`);
  if (range.until !== undefined) parts.push(`until ${range.until}`);
  if (range.during !== undefined) parts.push(`in ${range.during}`);
  return parts.join(', ');
}
