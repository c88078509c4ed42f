// `npm run conformance [-- folder] [--family prefix] [--kernel text] [--verbose] [--json] [--ledger file]`: replays recorded cases on the
// model and prints how many agree. The folder holds JSON files in the format of the recorded laboratory. Exit 2: it
// could not run; how many agree is in the output.
import { existsSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { readLedger, updated } from './ledger.ts';
import { kernelsOf, readCases, replay } from './replay.ts';
import { asData, list, table } from './table.ts';

/** Beside the checkout. */
const RECORDED = '../shared/reality';

/** npm starts scripts in the folder of the package; a path that somebody typed is relative to where they were. */
function fromCaller(path: string): string {
  return resolve(process.env.INIT_CWD ?? '.', path);
}

function main(argv: readonly string[]): void {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      family: { type: 'string', default: '' },
      kernel: { type: 'string', default: '' },
      verbose: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      ledger: { type: 'string' },
    },
  });
  const folder = positionals[0] === undefined ? resolve(RECORDED) : fromCaller(positionals[0]);
  if (!existsSync(folder)) throw new Error(`no folder ${folder}: name one with recorded cases`);
  const cases = readCases(folder).filter(
    (one) => one.case.startsWith(values.family) && one.kernel.includes(values.kernel),
  );
  const kernels = kernelsOf(cases).map((kernel) => ({
    kernel,
    judged: replay(
      kernel,
      cases.filter((one) => one.kernel === kernel),
    ),
  }));
  if (values.ledger !== undefined) {
    if (values.family !== '') throw new Error('--ledger needs all families: it strikes what was not replayed');
    const file = fromCaller(values.ledger);
    writeFileSync(file, `${JSON.stringify(updated(readLedger(file), kernels), null, 2)}\n`);
  }
  const lines = values.json
    ? [JSON.stringify(asData(kernels), null, 1)]
    : [...table(kernels), ...(values.verbose ? list(kernels, ['wrong', 'unsupported']) : [])];
  process.stdout.write(`${lines.join('\n')}\n`);
}

try {
  main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 2;
}
