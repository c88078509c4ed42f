// Builds dist/: an esbuild bundle (one chunk per lazily imported command, dependencies included) and the
// declarations from tsc. A start with yargs, yaml, zod and js-sdsl as installed costs 0.21 s, bundled 0.14 s
// (bare node 0.05 s), which is why the CLI does not run tsc's output.
//
//   node build.mjs                      bundle and declarations
//   node build.mjs --if-changed         the same, unless dist/ was built from these very files
//   node build.mjs --no-types           bundle only
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

/** What must exist as a file of its own: the command, the library, and every thread a pool starts by its URL. */
function entryPoints() {
  const named = [join(src, 'cli', 'main.ts'), join(src, 'index.ts')].filter((file) => existsSync(file));
  const workers = filesBelow(src).filter((file) => /(^|[/\\-])worker\.ts$/.test(file));
  return [...named, ...workers];
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
  if (entries.length === 0) throw new Error('nothing to build: neither src/cli/main.ts nor src/index.ts exists');
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
  const command = join(dist, 'cli', 'main.js');
  if (!fresh.has(command)) return;
  if (!readFileSync(command, 'utf8').startsWith('#!'))
    throw new Error('src/cli/main.ts must start with #!/usr/bin/env node');
  chmodSync(command, 0o755);
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
  if (mode === '--if-changed' && existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) return 0;
  rmSync(stamp, { force: true });
  await bundle();
  if (mode === '--no-types') return 0;
  const status = declarations();
  if (status === 0) writeFileSync(stamp, digest);
  return status;
}

const [mode, ...rest] = process.argv.slice(2);
process.exitCode = mode === '--run' ? await run(rest[0], rest.slice(1)) : await build();
