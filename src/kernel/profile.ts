// A profile: one kernel release with its stable level, architecture and options. `v6.1` is 6.1.0; `v6.1.192` and
// `v6.12.117` are what reality/ recorded. Any release of the modelled series resolves on the fly.
import { ARCHES, type Arch } from './behaviour.ts';
import { type Config, configFor, knownOptions } from './config.ts';
import { KernelError } from './error.ts';
import { suggest } from './suggest.ts';
import { compareSeries, formatVersion, parseVersion, type Version, VersionError } from './version.ts';

/** A kernel to simulate, before anybody added or removed a behaviour. */
export interface Profile {
  /** Canonical: `v6.12.117`, `v6.12+s390x`, `v6.12.117+pinlab`. */
  readonly name: string;
  readonly version: Version;
  readonly arch: Arch;
  readonly config: Config;
  /** What is remarkable about it; empty for releases resolved on the fly. */
  readonly note: string;
}

/** Profiles that `pinsim list kernels` shows, oldest first. */
const NAMED: Readonly<Record<string, string>> = {
  'v5.4': 'long-term series; before pin_user_pages',
  'v5.10': 'long-term series; fork copies pinned pages, write_protect_seq is still missing',
  'v5.15': 'long-term series; COW by reference count, long-term pins leave ZONE_MOVABLE',
  'v5.17': 'last release before the two COW reworks',
  'v5.19': 'PG_anon_exclusive: reliable pins of anonymous pages',
  'v6.1': 'long-term series as first released',
  'v6.1.192': 'recorded: Debian 6.1.0-56',
  'v6.2': 'read-only long-term pins break COW; iommufd',
  'v6.6': 'long-term series; long-term writes to dirty-tracked files are refused',
  'v6.8': 'guest_memfd; KVM retries by guest frame range',
  'v6.12': 'long-term series as first released',
  'v6.12.117': 'recorded: Debian 6.12.117, without IOMMUFD',
  'v6.12.117+pinlab': 'recorded: 6.12.117 built with IOMMUFD, VFIO cdev, GUP_TEST, CMA',
  'v6.12+s390x': 'the 6.12 release on s390: zPCI, flushes without IPI, secure pages',
  'v6.18': 'long-term series; type1 pins by large folio, mappable guest_memfd',
};

/** Stable level at which each series of 5.4..6.19 ended; null while it is maintained. */
const LAST_STABLE: Readonly<Record<string, number | null>> = {
  ...{ '5.4': 302, '5.5': 19, '5.6': 19, '5.7': 19, '5.8': 18, '5.9': 16, '5.10': null, '5.11': 22, '5.12': 19 },
  ...{ '5.13': 19, '5.14': 21, '5.15': null, '5.16': 20, '5.17': 15, '5.18': 19, '5.19': 17 },
  ...{ '6.0': 19, '6.1': null, '6.2': 16, '6.3': 13, '6.4': 16, '6.5': 13, '6.6': null, '6.7': 12, '6.8': 12 },
  ...{ '6.9': 12, '6.10': 14, '6.11': 11, '6.12': null, '6.13': 12, '6.14': 11, '6.15': 11, '6.16': 12, '6.17': 13 },
  ...{ '6.18': null, '6.19': null },
};

/** Whether that release exists as far as this table knows (a maintained series has any stable level). */
export function isRelease(version: Version): boolean {
  const last = LAST_STABLE[`${version.major}.${version.minor}`];
  return last !== undefined && (last === null || version.stable <= last);
}

/** The mainline releases modelled, oldest first. */
export function modelledSeries(): readonly Version[] {
  return Object.keys(LAST_STABLE).map(parseVersion).sort(compareSeries);
}

/** The named profiles, oldest first. */
export function namedProfiles(): readonly Profile[] {
  return Object.keys(NAMED).map((name) => resolveProfile(name));
}

/**
 * The profile of a name such as `v6.1.130`, `6.12` or `v6.12+s390x`, its options changed by `overrides`.
 * Throws KernelError (`unknown-kernel`, or `config` for an option) with suggestions when there is no such thing.
 */
export function resolveProfile(text: string, overrides: Config = {}): Profile {
  const [release = '', ...variants] = text.trim().split('+');
  const version = readRelease(release, text);
  let arch: Arch = 'x86_64';
  let flavour = '';
  for (const variant of variants) {
    const known = ARCHES.find((candidate) => candidate === variant);
    if (known !== undefined) arch = known;
    else if (`${formatVersion(version)}+${variant}` in NAMED) flavour = `+${variant}`;
    else
      throw unknownKernel(
        text,
        `'${variant}' is neither an architecture (${ARCHES.join(', ')}) nor a recorded variant`,
      );
  }
  if (flavour !== '' && arch !== 'x86_64')
    throw unknownKernel(text, `'${flavour.slice(1)}' was recorded on x86_64 only`);
  for (const option of Object.keys(overrides)) checkOption(option);
  const name = `${formatVersion(version)}${arch === 'x86_64' ? '' : `+${arch}`}${flavour}`;
  return { name, version, arch, config: configFor(name, version, arch, overrides), note: NAMED[name] ?? '' };
}

function readRelease(release: string, text: string): Version {
  let version: Version;
  try {
    version = parseVersion(release);
  } catch (error) {
    if (error instanceof VersionError) throw unknownKernel(text, 'expected vX.Y or vX.Y.Z');
    throw error;
  }
  if (isRelease(version)) return version;
  const last = LAST_STABLE[`${version.major}.${version.minor}`];
  if (last === undefined) throw unknownKernel(text, 'the series modelled are 5.4 to 6.19');
  throw unknownKernel(text, `the last release of that series is ${version.major}.${version.minor}.${last}`);
}

function checkOption(option: string): void {
  if (knownOptions().includes(option)) return;
  throw new KernelError(
    'config',
    option,
    `unknown option '${option}'`,
    'it is none of the options that matter to the model (names go without CONFIG_)',
    suggest(option, knownOptions()),
  );
}

function unknownKernel(text: string, reason: string): KernelError {
  const names = [...Object.keys(NAMED), ...modelledSeries().map(formatVersion)];
  const wanted = text.startsWith('v') ? text : `v${text}`;
  return new KernelError('unknown-kernel', text, `unknown kernel '${text}'`, reason, suggest(wanted, new Set(names)));
}
