import { describe, expect, it } from 'vitest';
import { ARCHES, type Arch, EVIDENCE } from '../../src/kernel/behaviour.ts';
import { BEHAVIOURS, findBehaviour, type KnownBehaviour } from '../../src/kernel/catalogue.ts';
import { knownOptions } from '../../src/kernel/config.ts';
import { Kernel } from '../../src/kernel/kernel.ts';
import { isRelease, modelledSeries, type Profile, resolveProfile } from '../../src/kernel/profile.ts';
import { formatVersion, type RangeSpec, type Version, VersionRange } from '../../src/kernel/version.ts';

const SOURCES =
  /^(gup\.md|reclaim-migration-writeback\.md|mmu-notifier\.md|kvm\.md|vfio-type1\.md|iommu-hw\.md|threads\.md|bugs\.json|reality\/README\.md|man [a-z]+\(2\))/;

function rangesOf(behaviour: KnownBehaviour): readonly RangeSpec[] {
  const ways = Object.values(behaviour.ways ?? {}).flatMap((way) => (way.in === undefined ? [] : [way.in]));
  return behaviour.in === undefined ? ways : [behaviour.in, ...ways];
}

const POINTS: readonly Version[] = BEHAVIOURS.flatMap(rangesOf).flatMap((spec) => new VersionRange(spec).points());

/** Every modelled release at which some answer may change, and its neighbours. */
function turningPoints(): readonly Version[] {
  const byName = new Map<string, Version>();
  for (const point of [...modelledSeries(), ...POINTS])
    for (const stable of [point.stable - 1, point.stable, point.stable + 1]) {
      const version = { ...point, stable };
      if (stable >= 0 && isRelease(version)) byName.set(formatVersion(version), version);
    }
  return [...byName.values()];
}

function everyProfile(arch: Arch): readonly Profile[] {
  return turningPoints().map((version) => resolveProfile(`${formatVersion(version)}+${arch}`));
}

describe('the catalogue', () => {
  it('holds each id once', () => {
    const ids = BEHAVIOURS.map((behaviour) => behaviour.id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids.length).toBeGreaterThan(90);
  });

  it('names releases that exist, or later ones', () => {
    const unknown = POINTS.filter((point) => point.major < 7 && point.minor > 3 && !isRelease(point)).map(
      formatVersion,
    );
    expect(unknown).toEqual([]);
  });
});

describe.each(BEHAVIOURS.map((behaviour) => [behaviour.id, behaviour] as const))('%s', (id, behaviour) => {
  it('is well-formed', () => {
    expect(id).toMatch(/^[a-z0-9-]+(\.[a-z0-9-]+)+$/);
    expect(behaviour.summary).toMatch(/^[A-Za-z]\S* [^\n]*\.$/);
    expect(behaviour.summary).not.toMatch(/\. /);
    expect(behaviour.summary.length).toBeLessThanOrEqual(140);
    expect(behaviour.source).toMatch(SOURCES);
    expect(EVIDENCE).toContain(behaviour.evidence);
    if (behaviour.commit !== undefined) expect(behaviour.commit).toMatch(/^[0-9a-f]{12}$/);
    if (behaviour.config !== undefined) expect(knownOptions()).toContain(behaviour.config);
    for (const spec of rangesOf(behaviour)) expect(() => new VersionRange(spec)).not.toThrow();
  });

  it('has either one range or several ways, one of them without a range', () => {
    expect((behaviour.in === undefined) !== (behaviour.ways === undefined)).toBe(true);
    if (behaviour.ways === undefined) return;
    const ways = Object.entries(behaviour.ways);
    expect(ways.length).toBeGreaterThanOrEqual(2);
    expect(ways.filter(([, way]) => way.in === undefined)).toHaveLength(1);
    for (const [name, way] of ways) {
      expect(name).toMatch(/^[A-Za-z0-9-]+$/);
      expect(way.summary).toMatch(/\.$/);
      if (way.commit !== undefined) expect(way.commit).toMatch(/^[0-9a-f]{12}$/);
    }
  });

  it('requires and excludes what exists, and never itself', () => {
    for (const condition of [...(behaviour.requires ?? []), ...(behaviour.excludes ?? [])]) {
      const [otherId = '', way] = condition.split('=');
      expect(otherId).not.toBe(id);
      const other = findBehaviour(otherId);
      expect(other, condition).toBeDefined();
      if (way === undefined) expect(other?.ways).toBeUndefined();
      else expect(Object.keys(other?.ways ?? {})).toContain(way);
    }
  });

  it('does not require itself by a detour', () => {
    const seen = new Set<string>();
    const walk = (at: string): void => {
      for (const condition of findBehaviour(at)?.requires ?? []) {
        const next = condition.split('=')[0]!;
        expect(next).not.toBe(id);
        if (seen.has(next)) continue;
        seen.add(next);
        walk(next);
      }
    };
    walk(id);
  });

  it('is off by default exactly if it is a proposal or says why', () => {
    expect(id.startsWith('proposal.')).toBe(behaviour.proposal === true);
    if (behaviour.proposal === true) expect(behaviour.in).toBe('never');
    else if (behaviour.in === 'never') expect(behaviour.note).toBeDefined();
  });
});

describe.each(ARCHES)('on %s', (arch) => {
  const profiles = everyProfile(arch);

  it('every release can be built: what its behaviours require it has, what they exclude it has not', () => {
    for (const profile of profiles) expect(() => new Kernel(profile), profile.name).not.toThrow();
  });

  it('no release goes two ways at once', () => {
    for (const behaviour of BEHAVIOURS) {
      const ways = Object.entries(behaviour.ways ?? {}).flatMap(([name, way]) =>
        way.in !== undefined && (way.arch === undefined || way.arch.includes(arch))
          ? [{ name, range: new VersionRange(way.in) }]
          : [],
      );
      for (const { name, version } of ways.length < 2 ? [] : profiles)
        expect(ways.filter((way) => way.range.includes(version)).length, `${behaviour.id} ${name}`).toBeLessThan(2);
    }
  });
});

describe('the turning points', () => {
  it('include both sides of a stable backport', () => {
    const names = turningPoints().map(formatVersion);
    expect(names).toContain('v6.1.129');
    expect(names).toContain('v6.1.130');
  });
});
