// Builds dist/: the library and its workers as modules, the program as one script with what V8 has compiled of it,
// dependencies included, and the declarations from tsc; and the schema beside the scenarios, for editors. A small
// scenario takes 0.34 s when its modules are compiled at every start and 0.21 s with the code kept (bare node 0.06 s),
// which is why the program is no set of modules.
//
//   node build.mjs                      bundle, schema and declarations
//   node build.mjs --if-changed         the same, unless dist/ was built from these very files
//   node build.mjs --no-types           bundle and schema
//   node build.mjs --run <file.ts> …    bundle one development program into node_modules/.cache and run it
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as esbuild from 'esbuild';

const root = dirname(fileURLToPath(import.meta.url));
const src = join(root, 'src');
const dist = join(root, 'dist');
const start = join(dist, 'cli', 'main.cjs');
const program = join(dist, 'cli', 'program.cjs');
const schema = join(root, 'scenarios', 'scenario.schema.json');

/** Options that both outputs share. */
const common = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20.19',
  logLevel: 'warning',
  legalComments: 'none',
};

/** Every file below `folder`, as absolute paths in a fixed order. */
function filesBelow(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .sort();
}

/** What must be a module of its own: the library, and every thread a pool starts by its URL. */
function entryPoints() {
  return [join(src, 'index.ts'), ...filesBelow(src).filter((file) => /(^|[/\\-])worker\.ts$/.test(file))];
}

// A bundled module no longer sits where its source did, so that `new URL('./worker.js', import.meta.url)` would miss.
// Each source file gets the URL that it would have had, were dist/ a plain copy of src/.
const sourceUrls = {
  name: 'source-urls',
  setup(build) {
    build.onLoad({ filter: /\.ts$/ }, (args) => {
      const text = readFileSync(args.path, 'utf8');
      if (!args.path.startsWith(src + sep) || !text.includes('import.meta.url')) return undefined;
      const place = relative(src, args.path).split(sep).join('/').replace(/\.ts$/, '.js');
      return { loader: 'ts', contents: text.replaceAll('import.meta.url', `new URL('${place}', pinsimDistUrl).href`) };
    });
  },
};

const banner = [
  "import { createRequire as pinsimCreateRequire } from 'node:module';",
  'const require = pinsimCreateRequire(import.meta.url);',
  "const pinsimDistUrl = import.meta.url.slice(0, import.meta.url.lastIndexOf('/dist/') + 6);",
].join('\n');

// npm runs `prepare` once more when `npx pinsim` first links the package into its cache: that must not cost a build.
const stamp = join(dist, '.built-from');

/** One digest over everything that the build reads. */
function inputsDigest() {
  const hash = createHash('sha256');
  const settings = ['build.mjs', 'package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json'];
  for (const file of [...settings.map((name) => join(root, name)), ...filesBelow(src)]) {
    hash
      .update(`${relative(root, file)}\0`)
      .update(readFileSync(file))
      .update('\0');
  }
  return hash.digest('hex');
}

async function bundle() {
  const entries = entryPoints();
  const result = await esbuild.build({
    ...common,
    entryPoints: entries,
    outbase: src,
    outdir: dist,
    splitting: true,
    chunkNames: 'chunks/[name]-[hash]',
    banner: { js: banner },
    plugins: [sourceUrls],
    metafile: true,
    // It starts its threads from a file of its own beside its code, so it cannot become part of a chunk.
    external: ['piscina'],
  });
  const fresh = new Set(Object.keys(result.metafile.outputs).map((file) => resolve(root, file)));
  for (const file of filesBelow(dist)) if (file.endsWith('.js') && !fresh.has(file)) rmSync(file);
}

/** What starts the program: a script, too, as node takes longer to begin with a module. */
async function bundleStart() {
  await esbuild.build({
    ...common,
    format: 'cjs',
    entryPoints: [join(src, 'cli', 'main.ts')],
    outfile: start,
    define: { 'import.meta.url': 'pinsimStartUrl' },
    banner: { js: "const pinsimStartUrl = require('node:url').pathToFileURL(__filename).href;" },
  });
  if (!readFileSync(start, 'utf8').startsWith('#!')) throw new Error('src/cli/main.ts must start with #!');
  chmodSync(start, 0o755);
  // The name that a module would have, and that `bin` had once: npx keeps the link it made at its first run in a
  // checkout, however `bin` changes, so this file must start as well.
  const formerStart = join(dist, 'cli', 'main.js');
  writeFileSync(formerStart, "#!/usr/bin/env node\nimport './main.cjs';\n");
  chmodSync(formerStart, 0o755);
}

/** The program as one script: a function of `require` and the program's URL, which src/cli/main.ts calls. */
async function bundleProgram() {
  await esbuild.build({
    ...common,
    format: 'cjs',
    entryPoints: [join(src, 'cli', 'program.ts')],
    outfile: program,
    define: { 'import.meta.url': 'pinsimProgramUrl' },
    // A script that was kept compiled cannot import; what it would import, it requires.
    supported: { 'dynamic-import': false },
    banner: {
      js: "(function (require, pinsimProgramUrl) {\nconst pinsimDistUrl = new URL('..', pinsimProgramUrl).href;",
    },
    footer: { js: '})' },
    plugins: [sourceUrls],
    external: ['piscina'],
  });
}

/** Keep what V8 compiles of the program while it runs a scenario. Without it the program starts slower, no more. */
function keepCompiled() {
  rmSync(`${program}.compiled`, { force: true });
  const recording = `
    const { Script } = require('node:vm');
    const { readFileSync, writeFileSync } = require('node:fs');
    const [filename, start, scenario] = process.argv.slice(1);
    const script = new Script(readFileSync(filename, 'latin1'), { filename });
    process.argv = [process.argv[0], start, 'run', scenario];
    process.on('exit', () => writeFileSync(filename + '.compiled', script.createCachedData()));
    script.runInThisContext()(require, require('node:url').pathToFileURL(start).href);`;
  const scenario = join(root, 'scenarios', 'hazards', 'dma-into-a-file-is-lost.yaml');
  const ran = spawnSync(process.execPath, ['-e', recording, program, start, scenario], { encoding: 'utf8' });
  if (ran.status !== 0) throw new Error(`the program that was built fails:\n${ran.stdout}${ran.stderr}`);
}

/** What the first line of every scenario names, so that editors complete and check it. */
function writeSchema() {
  const ran = spawnSync(process.execPath, [start, 'schema', '-o', schema], { encoding: 'utf8' });
  if (ran.status !== 0) throw new Error(`the schema cannot be written:\n${ran.stdout}${ran.stderr}`);
}

/** Declarations of the library; a type error fails the build. */
function declarations() {
  for (const file of filesBelow(dist)) if (file.endsWith('.d.ts')) rmSync(file);
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  return spawnSync(process.execPath, [tsc, '-p', join(root, 'tsconfig.build.json')], { stdio: 'inherit' }).status ?? 1;
}

/** Runs a TypeScript program of the repository (benchmarks, conformance) without a loader in its process. */
async function run(file, args) {
  const out = join(root, 'node_modules', '.cache', 'pinsim', file.replace(/\.ts$/, '.js'));
  await esbuild.build({ ...common, entryPoints: [join(root, file)], outfile: out, packages: 'external' });
  await esbuild.stop();
  return spawnSync(process.execPath, ['--expose-gc', out, ...args], { stdio: 'inherit' }).status ?? 1;
}

async function build() {
  const digest = inputsDigest();
  const built = existsSync(stamp) && existsSync(schema) && readFileSync(stamp, 'utf8') === digest;
  if (mode === '--if-changed' && built) return 0;
  rmSync(stamp, { force: true });
  await bundle();
  await bundleStart();
  await bundleProgram();
  keepCompiled();
  writeSchema();
  if (mode === '--no-types') return 0;
  const status = declarations();
  if (status === 0) writeFileSync(stamp, digest);
  return status;
}

const [mode, ...rest] = process.argv.slice(2);
process.exitCode = mode === '--run' ? await run(rest[0], rest.slice(1)) : await build();
