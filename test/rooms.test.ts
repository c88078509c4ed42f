// The walls between the rooms: each rule of .dependency-cruiser.cjs catches a violation planted for it, lets pass what
// the table of rooms allows, and the real tree breaks none.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cruise, type ICruiseResult, type IForbiddenRuleType, type IRuleSummary } from 'dependency-cruiser';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const config = createRequire(import.meta.url)('../.dependency-cruiser.cjs') as {
  forbidden: (IForbiddenRuleType & { name: string })[];
  options: Record<string, unknown>;
};

async function check(baseDir: string, folders: string[]): Promise<ICruiseResult> {
  const ruleSet = { forbidden: config.forbidden };
  const reported = await cruise(folders, { ...config.options, baseDir, validate: true, ruleSet });
  if (typeof reported.output === 'string') throw new Error('expected a result object');
  return reported.output;
}

/** One import to plant: the file that must not have it, what it imports and how, and the rule that says so. */
interface Plant {
  rule: string;
  from: string;
  line: string;
}

const imports = (from: string, to: string, rule: string): Plant => ({
  rule,
  from,
  line: `import { a } from '${to}'; export const b = a;`,
});
const importsType = (from: string, to: string, rule: string): Plant => ({
  rule,
  from,
  line: `import type { A } from '${to}'; export type B = A;`,
});

const plants: Plant[] = [
  imports('src/engine/plant-up.ts', '../kernel/seed.ts', 'room-engine'),
  imports('src/kernel/plant-up.ts', '../engine/seed.ts', 'room-kernel'),
  imports('src/hw/plant-up.ts', '../mm/seed.ts', 'room-hw'),
  importsType('src/mm/plant-up.ts', '../iommu/seed.ts', 'room-mm'),
  imports('src/iommu/plant-up.ts', '../vfio/seed.ts', 'room-iommu'),
  imports('src/vfio/plant-side.ts', '../kvm/seed.ts', 'room-vfio'),
  importsType('src/iommufd/plant-side.ts', '../vfio/seed.ts', 'room-iommufd'),
  imports('src/kvm/plant-up.ts', '../guest/seed.ts', 'room-kvm'),
  { rule: 'room-s390', from: 'src/s390/plant-side.ts', line: "export const load = () => import('../vfio/seed.ts');" },
  { rule: 'room-media', from: 'src/media/plant-side.ts', line: "export { a } from '../iouring/seed.ts';" },
  { rule: 'room-iouring', from: 'src/iouring/plant-side.ts', line: "export type { A } from '../media/seed.ts';" },
  { rule: 'room-rdma', from: 'src/rdma/plant-side.ts', line: "export type { A } from '../media/seed.ts';" },
  imports('src/guest/plant-up.ts', '../check/seed.ts', 'room-guest'),
  imports('src/check/plant-driver.ts', '../vfio/seed.ts', 'room-check'),
  importsType('src/explore/plant-up.ts', '../scenario/seed.ts', 'room-explore'),
  imports('src/scenario/plant-up.ts', '../report/seed.ts', 'room-scenario'),
  importsType('src/report/plant-model.ts', '../mm/seed.ts', 'room-report'),
  { rule: 'room-cli', from: 'src/cli/plant-model.ts', line: "export type M = import('../mm/seed.ts').A;" },
  imports('src/mm/plant-door.ts', '../index.ts', 'room-mm'),
  imports('src/utils/plant-nowhere.ts', '../engine/seed.ts', 'no-unknown-room'),
  imports('src/scenario/result.ts', '../mm/seed.ts', 'results-are-data'),
  imports('src/engine/finding.ts', './seed.ts', 'results-are-data'),
  imports('src/cli/plant-engine.ts', '../engine/seed.ts', 'cli-knows-engine-types-only'),
  imports('src/media/seam.ts', './seed.ts', 'seam-is-an-interface'),
  imports('src/mm/plant-clock.ts', 'node:perf_hooks', 'model-is-deterministic'),
  imports('src/engine/plant-test.ts', '../../test/seed.ts', 'src-stands-alone'),
  imports('src/engine/plant-dev.ts', 'dev-package', 'no-dev-dependency'),
  imports('src/engine/plant-undeclared.ts', 'undeclared-package', 'no-undeclared-dependency'),
  imports('src/engine/plant-typo.ts', './sead.ts', 'no-unresolvable'),
  imports('src/engine/plant-cycle-1.ts', './plant-cycle-2.ts', 'no-cycle'),
  importsType('src/report/plant-knot-1.ts', './plant-knot-2.ts', 'no-cycle-of-types'),
];

/** The other halves of the cycles above; the checker reports a cycle once. */
const halves: Plant[] = [
  imports('src/engine/plant-cycle-2.ts', './plant-cycle-1.ts', 'no-cycle'),
  importsType('src/report/plant-knot-2.ts', './plant-knot-1.ts', 'no-cycle-of-types'),
];

/** What the table allows, where a rule written carelessly would refuse. */
const allowed: Plant[] = [
  imports('src/hw/fine.ts', '../engine/seed.ts', ''),
  imports('src/mm/fine.ts', '../hw/seed.ts', ''),
  imports('src/kvm/fine.ts', '../vfio/seam.ts', ''),
  imports('src/guest/fine.ts', '../s390/seed.ts', ''),
  imports('src/check/fine.ts', '../mm/seed.ts', ''),
  imports('src/scenario/fine.ts', '../explore/seed.ts', ''),
  imports('src/scenario/files.ts', 'node:fs', ''),
  imports('src/report/fine.ts', '../scenario/result.ts', ''),
  importsType('src/mm/friend-1.ts', './friend-2.ts', ''),
  importsType('src/mm/friend-2.ts', './friend-1.ts', ''),
  importsType('src/report/finer.ts', '../engine/finding.ts', ''),
  importsType('src/cli/fine.ts', '../engine/seed.ts', ''),
  imports('src/cli/finer.ts', '../scenario/seed.ts', ''),
  imports('src/engine/fine.ts', 'shipped-package', ''),
  imports('src/index.ts', './mm/seed.ts', ''),
];

const rooms = config.forbidden.filter((rule) => rule.name.startsWith('room-')).map((rule) => rule.name.slice(5));

describe('planted violations', () => {
  const tree = mkdtempSync(join(tmpdir(), 'pinsim-rooms-'));
  let violations: { from: string; rule: IRuleSummary }[] = [];

  const write = (file: string, text: string): void => {
    mkdirSync(dirname(join(tree, file)), { recursive: true });
    writeFileSync(join(tree, file), text);
  };

  beforeAll(async () => {
    write(
      'package.json',
      JSON.stringify({
        type: 'module',
        dependencies: { 'shipped-package': '1' },
        devDependencies: { 'dev-package': '1' },
      }),
    );
    for (const name of ['shipped-package', 'dev-package', 'undeclared-package']) {
      write(
        `node_modules/${name}/package.json`,
        JSON.stringify({ name, version: '1.0.0', type: 'module', main: 'index.js' }),
      );
      write(`node_modules/${name}/index.js`, 'export const a = 1;');
    }
    const seeds = [...rooms.map((room) => `src/${room}/seed.ts`), 'test/seed.ts', 'src/vfio/seam.ts'];
    for (const seed of seeds) write(seed, 'export const a = 1; export type A = number;');
    for (const plant of [...plants, ...halves, ...allowed]) write(plant.from, plant.line);
    const result = await check(tree, ['src', 'test']);
    violations = result.summary.violations.map((violation) => ({ from: violation.from, rule: violation.rule }));
  });
  afterAll(() => rmSync(tree, { recursive: true }));

  test.each(plants)('$rule catches $from', (plant) => {
    expect(
      violations.filter((violation) => violation.from === plant.from).map((violation) => violation.rule.name),
    ).toContain(plant.rule);
  });

  test.each(allowed)('$from is allowed', (plant) => {
    expect(violations.filter((violation) => violation.from === plant.from)).toEqual([]);
  });

  test('every rule has a violation planted for it, and every violation breaks the build', () => {
    expect(
      config.forbidden.map((rule) => rule.name).filter((name) => !plants.some((plant) => plant.rule === name)),
    ).toEqual([]);
    expect(config.forbidden.filter((rule) => rule.severity !== 'error')).toEqual([]);
  });
});

test('the real tree keeps every rule, and the checker has read its TypeScript', async () => {
  const result = await check(root, ['src', 'bench']);
  expect(
    result.summary.violations.map((violation) => `${violation.rule.name}: ${violation.from} -> ${violation.to}`),
  ).toEqual([]);
  const read = result.modules.filter((module) => /^src[/].*[.]ts$/.test(module.source));
  expect(read.length).toBeGreaterThan(20);
  expect(
    read.filter((module) => module.dependencies.some((dependency) => dependency.dependencyTypes.includes('type-only')))
      .length,
  ).toBeGreaterThan(0);
});
