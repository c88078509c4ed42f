import { describe, expect, it } from 'vitest';
import { isSet } from '../../src/kernel/config.ts';
import { KernelError } from '../../src/kernel/error.ts';
import { isRelease, modelledSeries, namedProfiles, resolveProfile } from '../../src/kernel/profile.ts';
import { compareVersions, formatVersion, parseVersion } from '../../src/kernel/version.ts';

function errorOf(build: () => unknown): KernelError {
  try {
    build();
  } catch (error) {
    if (error instanceof KernelError) return error;
    throw error;
  }
  throw new Error('expected a KernelError');
}

describe('the named kernels', () => {
  it('contain the releases that people ask for', () => {
    const names = namedProfiles().map((profile) => profile.name);
    for (const name of ['v5.4', 'v5.10', 'v5.15', 'v6.1', 'v6.1.192', 'v6.6', 'v6.12', 'v6.12.117', 'v6.18'])
      expect(names).toContain(name);
  });

  it('are listed oldest first under their canonical names, each with a note', () => {
    const profiles = namedProfiles();
    expect(profiles.map((profile) => resolveProfile(profile.name).name)).toEqual(profiles.map((p) => p.name));
    const versions = profiles.filter((profile) => !profile.name.includes('+')).map((profile) => profile.version);
    expect([...versions].sort(compareVersions)).toEqual(versions);
    for (const profile of profiles) expect(profile.note).not.toBe('');
  });
});

describe('a kernel named on the fly', () => {
  it.each([
    ['6.1', 'v6.1', 'x86_64'],
    ['v6.1.0', 'v6.1', 'x86_64'],
    ['v6.1.130', 'v6.1.130', 'x86_64'],
    ['v6.12+s390x', 'v6.12+s390x', 's390x'],
    ['6.6.5+arm64', 'v6.6.5+arm64', 'arm64'],
    ['v6.12+x86_64', 'v6.12', 'x86_64'],
    ['v6.12.117+pinlab', 'v6.12.117+pinlab', 'x86_64'],
  ])('%s is %s on %s', (text, name, arch) => {
    const profile = resolveProfile(text);
    expect(profile.name).toBe(name);
    expect(profile.arch).toBe(arch);
  });

  it('resolves in every modelled series', () => {
    const series = modelledSeries();
    expect(formatVersion(series[0]!)).toBe('v5.4');
    expect(formatVersion(series.at(-1)!)).toBe('v6.19');
    for (const version of series) expect(resolveProfile(formatVersion(version)).version).toEqual(version);
  });

  it.each([
    ['v6.1x', 'expected vX.Y or vX.Y.Z'],
    ['v5.3', 'the series modelled are 5.4 to 6.19'],
    ['v7.0', 'the series modelled are 5.4 to 6.19'],
    ['v6.2.40', 'the last release of that series is 6.2.16'],
    ['v6.12+mips', "'mips' is neither an architecture"],
    ['v6.1+pinlab', "'pinlab' is neither an architecture"],
    ['v6.12.117+s390x+pinlab', "'pinlab' was recorded on x86_64 only"],
    ['', 'expected vX.Y or vX.Y.Z'],
  ])('%j is refused: %s', (text, reason) => {
    const error = errorOf(() => resolveProfile(text));
    expect(error.kind).toBe('unknown-kernel');
    expect(error.offending).toBe(text);
    expect(error.reason).toContain(reason);
  });

  it('is refused with the nearest kernels', () => {
    expect(errorOf(() => resolveProfile('6.1.l92')).didYouMean[0]).toBe('v6.1.192');
    expect(errorOf(() => resolveProfile('v5.3')).didYouMean).toContain('v5.4');
  });

  it('knows at which level a series ended', () => {
    expect(isRelease(parseVersion('6.2.16'))).toBe(true);
    expect(isRelease(parseVersion('6.2.17'))).toBe(false);
    expect(isRelease(parseVersion('6.12.117'))).toBe(true);
  });
});

describe('the options of a kernel', () => {
  it('are those recorded where a kernel was recorded', () => {
    expect(isSet(resolveProfile('v6.12.117').config, 'IOMMUFD')).toBe(false);
    expect(isSet(resolveProfile('v6.12.117+pinlab').config, 'IOMMUFD')).toBe(true);
    expect(resolveProfile('v6.12.117').config.LRU_GEN_ENABLED).toBe('y');
    expect(resolveProfile('v6.1.192').config.LRU_GEN_ENABLED).toBe('n');
    expect(resolveProfile('v6.12.117+pinlab').config.CMA).toBe('y');
  });

  it('do not exist before the release that brought them', () => {
    expect(isSet(resolveProfile('v6.1').config, 'IOMMUFD')).toBe(false);
    expect(isSet(resolveProfile('v6.2').config, 'IOMMUFD')).toBe(true);
    expect(isSet(resolveProfile('v5.10').config, 'SECRETMEM')).toBe(false);
    expect(isSet(resolveProfile('v5.15').config, 'SECRETMEM')).toBe(true);
  });

  it('follow the architecture', () => {
    expect(isSet(resolveProfile('v6.12+s390x').config, 'INTEL_IOMMU')).toBe(false);
    expect(isSet(resolveProfile('v6.12+s390x').config, 'S390_IOMMU')).toBe(true);
  });

  it('can be overridden by the user, and a misspelt one is refused', () => {
    expect(isSet(resolveProfile('v6.12', { CMA: 'y' }).config, 'CMA')).toBe(true);
    const error = errorOf(() => resolveProfile('v6.12', { SECRTMEM: 'y' }));
    expect(error.kind).toBe('config');
    expect(error.didYouMean).toContain('SECRETMEM');
  });

  it('are listed in alphabetical order', () => {
    const options = Object.keys(resolveProfile('v6.12.117').config);
    expect([...options].sort()).toEqual(options);
  });
});
