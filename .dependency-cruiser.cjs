// Which room may import which, and what holds for every room. Type-only imports count as imports. How to read a rule:
// what matches `from` must not import what matches `to`. test/rooms.test.ts plants a violation of each of them.

const drivers = ['vfio', 'iommufd', 'kvm', 's390', 'media', 'iouring', 'rdma'];
const model = ['engine', 'kernel', 'hw', 'mm', 'iommu', ...drivers, 'guest', 'check'];

/** What a room may import beside itself, other rooms whole. */
const rooms = {
  engine: [],
  kernel: [],
  hw: ['engine'],
  mm: ['hw', 'kernel', 'engine'],
  iommu: ['mm', 'hw', 'kernel', 'engine'],
  guest: [...drivers, 'iommu', 'mm', 'hw', 'kernel', 'engine'],
  check: ['mm', 'hw', 'engine'],
  explore: ['engine'],
  scenario: [...model, 'explore'],
  report: [],
  cli: ['scenario', 'explore', 'report', 'kernel', 'engine'],
};
for (const driver of drivers) rooms[driver] = ['iommu', 'mm', 'hw', 'kernel', 'engine'];

/** What a room may import beside that, file by file. */
const files = {
  // A finished run, and no more of the model than that.
  report: [
    '^src/scenario/(search/)?result[.]ts$',
    '^src/scenario/search/fuzz-result[.]ts$',
    '^src/engine/finding[.]ts$',
  ],
};
// Users of pins meet only at a named interface.
for (const driver of drivers) files[driver] = [`^src/(${drivers.join('|')})/seam[.]ts$`];

const room = (names) => `^src/(${names.join('|')})/`;

const walls = Object.entries(rooms).map(([name, below]) => ({
  name: `room-${name}`,
  severity: 'error',
  comment: `src/${name} may import ${[...below, ...(files[name] ?? [])].join(', ') || 'no other room'}`,
  from: { path: room([name]) },
  to: { path: '^src/', pathNot: [room([name, ...below]), ...(files[name] ?? [])] },
}));

const laws = [
  {
    name: 'no-unknown-room',
    comment: 'a folder of src/ that the table of rooms does not name has no place in it',
    from: { path: '^src/', pathNot: [room(Object.keys(rooms)), '^src/index[.]ts$'] },
    to: {},
  },
  {
    name: 'results-are-data',
    comment: 'a report gets its result as data: what describes a result pulls in nothing that runs',
    from: { path: files.report },
    to: { dependencyTypesNot: ['type-only'] },
  },
  {
    name: 'cli-knows-engine-types-only',
    comment: 'a command starts scenarios and searches, it does not drive the engine',
    from: { path: room(['cli']) },
    to: { path: room(['engine']), dependencyTypesNot: ['type-only'] },
  },
  {
    name: 'seam-is-an-interface',
    comment: 'a seam that pulled its room in would be a door, not a seam',
    from: { path: `^src/(${drivers.join('|')})/seam[.]ts$` },
    to: { path: room(drivers), dependencyTypesNot: ['type-only'] },
  },
  {
    name: 'model-is-deterministic',
    comment: 'no clock, no file, no thread below the scenario: same input, same trace, on every machine',
    from: { path: room(model) },
    to: { dependencyTypes: ['core'] },
  },
  {
    name: 'src-stands-alone',
    comment: 'what is shipped does not import tests or benchmarks',
    from: { path: '^src/' },
    to: { path: '^(test|bench)/' },
  },
  {
    name: 'no-dev-dependency',
    comment: 'what is shipped runs on what is installed with it',
    from: { path: '^src/' },
    to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['type-only'], pathNot: '^node_modules/@types/' },
  },
  {
    name: 'no-undeclared-dependency',
    comment: 'a package that package.json does not name, or a file that does not exist',
    from: { path: '^(src|bench)/' },
    to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown', 'unknown'] },
  },
  {
    name: 'no-unresolvable',
    comment: 'an import that leads nowhere is checked by no other rule',
    from: { path: '^(src|bench)/' },
    to: { couldNotResolve: true },
  },
  {
    name: 'no-cycle',
    comment: 'two files that need each other to load are one',
    from: { path: '^src/' },
    to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
  },
  {
    name: 'no-cycle-of-types',
    comment:
      'nor may two files need each other to be understood; the objects of a kernel may, and an operation may know the ' +
      'world whose scripts perform it',
    from: { path: '^src/', pathNot: room([...model, 'scenario']) },
    to: { circular: true },
  },
];

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [...walls, ...laws.map((law) => ({ severity: 'error', ...law }))],
  options: {
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'types', 'node', 'default'] },
  },
};
