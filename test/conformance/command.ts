// The command `npm run conformance`: replays recorded cases on the model and says how many agree.
import { existsSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { failures, readLedger, updated } from './ledger.ts';
import { kernelsOf, profileOf, readCases, replay } from './replay.ts';
import { asData, type KernelVerdicts, list, table } from './table.ts';

const USAGE = `npm run conformance [-- folder] [--family prefix] [--kernel text] [--verbose] [--json] [--ledger file]

Replays recorded cases on the model and prints how many agree. The folder holds JSON files in the format of the
recorded laboratory; without one, the cases are those beside the checkout (../shared/reality).

  --family prefix  only cases whose names begin so
  --kernel text    only kernels whose names contain this
  --verbose        list every case that is wrong or unsupported, with reasons
  --json           everything as data
  --ledger file    strike from this ledger what agrees now, and add what does not

Exit code
  0  as expected
  1  the cases beside the checkout: one differs from test/conformance/ledger.json (it stopped agreeing, or is listed
     and agrees now). Another folder: a case is wrong that the ledger does not list as wrong on that kernel
  2  could not run: a mistake in the arguments or in a file, an unknown kernel, no case
`;

/** Beside the checkout. */
const RECORDED = '../shared/reality';
const LEDGER = 'test/conformance/ledger.json';

/** Failures that are told beside the table; --verbose and --json have all. */
const TOLD = 20;

export interface Output {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

/** npm starts scripts in the folder of the package; a path that somebody typed is relative to where they were. */
function fromCaller(path: string): string {
  return resolve(process.env.INIT_CWD ?? '.', path);
}

function run(argv: readonly string[], { out, err }: Output): number {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      family: { type: 'string', default: '' },
      kernel: { type: 'string', default: '' },
      verbose: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      ledger: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    out(USAGE);
    return 0;
  }
  const folder = positionals[0] === undefined ? resolve(RECORDED) : fromCaller(positionals[0]);
  if (!existsSync(folder)) throw new Error(`no folder ${folder}: name one with recorded cases`);
  const cases = readCases(folder).filter(
    (one) => one.case.startsWith(values.family) && one.kernel.includes(values.kernel),
  );
  if (cases.length === 0) throw new Error(`${folder} holds no case that --family and --kernel leave`);
  const names = kernelsOf(cases);
  // An unknown one is told before the others have run.
  names.forEach(profileOf);
  const kernels = names.map((kernel) => ({
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
  const ledger = readLedger(resolve(LEDGER));
  const whole = folder === resolve(RECORDED);
  const failuresOf = ({ kernel, judged }: KernelVerdicts) => failures(ledger, kernel, judged, whole);
  const lines = values.json
    ? [JSON.stringify(asData(kernels, failuresOf), null, 1)]
    : [...table(kernels), ...(values.verbose ? list(kernels, ['wrong', 'unsupported']) : [])];
  out(`${lines.join('\n')}\n`);
  const failed = kernels.flatMap((one) => failuresOf(one).map((failure) => `${one.kernel}: ${failure}`));
  const more = failed.length > TOLD ? [`and ${failed.length - TOLD} more`] : [];
  if (!values.json) for (const line of [...failed.slice(0, TOLD), ...more]) err(`${line}\n`);
  return failed.length === 0 ? 0 : 1;
}

/** Runs the command; its exit code (see USAGE). */
export function conformance(argv: readonly string[], output: Output): number {
  try {
    return run(argv, output);
  } catch (error) {
    output.err(`${(error as Error).message}\n`);
    return 2;
  }
}
