// The command line: finds the command, hands it its arguments, and turns every mistake of a user into a message and an
// exit code. No mistake of a user shows a stack trace.
import yargs, { type Argv } from 'yargs';
import type { Command, ExitCode, Parts } from './command.ts';
import { explainCommand } from './explain.ts';
import { exploreCommand } from './explore.ts';
import { fuzzCommand } from './fuzz.ts';
import type { Io } from './io.ts';
import { listCommand } from './list.ts';
import { newCommand } from './new.ts';
import { replayCommand } from './replay.ts';
import { reportError } from './report-error.ts';
import { runCommand } from './run.ts';
import { schemaCommand } from './schema.ts';
import { shrinkCommand } from './shrink.ts';
import { type Known, translateUsage, UsageError } from './usage.ts';
import { programVersion } from './version.ts';

const COMMANDS: readonly Command[] = [
  runCommand,
  exploreCommand,
  fuzzCommand,
  replayCommand,
  shrinkCommand,
  listCommand,
  explainCommand,
  schemaCommand,
  newCommand,
];
const NAMES = COMMANDS.map((command) => command.name);

const EPILOGUE = `Exit codes: 0 as expected, 1 not as expected, 2 usage or a bad file, 3 incomplete (a limit was reached).`;

/** Loads the model and its operations only when a command needs them. */
const LAZY_PARTS: Parts = {
  registry: async () => (await import('../scenario/operations/index.ts')).OPERATIONS,
  runScenario: async () => (await import('../scenario/run.ts')).runScenario,
};

/** Run the program. `argv` is without node and the script's name. Never throws, never exits the process. */
export async function main(argv: readonly string[], io: Io, parts: Parts = LAZY_PARTS): Promise<ExitCode> {
  try {
    return await dispatch(argv, io, parts);
  } catch (error) {
    return reportError(error, io);
  }
}

async function dispatch(argv: readonly string[], io: Io, parts: Parts): Promise<ExitCode> {
  const first = argv.find((argument) => !argument.startsWith('-'));
  if (first !== undefined && !NAMES.includes(first)) {
    const { didYouMean } = await import('../scenario/file/diagnostic.ts');
    throw new UsageError(`unknown command \`${first}\``, didYouMean(first, NAMES) ?? 'see `pinsim --help`');
  }
  const command = COMMANDS.find((one) => one.name === first);
  const options = [...(command?.options ?? []), 'help', 'version'];
  const known: Known = { commands: NAMES, options, wants: command?.wants };
  let code: ExitCode = 0;
  const chosen: Chosen = async (one, args) => {
    code = await one.run(args, io, parts);
  };
  const parser = parserOf(argv, io, known);
  let words = argv;
  if (command === undefined || argv.some((word) => word === '--help' || /^-[^-]*h/.test(word))) {
    for (const one of COMMANDS) addCommand(parser, one.name, one, chosen);
  } else {
    // yargs writes the help of a command by name before it runs it, which takes longer than to load it: as the default
    // command it is run at once.
    addCommand(parser, '$0', command, chosen);
    words = argv.toSpliced(argv.indexOf(command.name), 1);
  }
  let printed = '';
  await parser.parseAsync([...words], {}, (_error: unknown, _args: unknown, output: string) => {
    printed += output;
  });
  if (printed !== '') io.stdout.write(`${printed}\n`);
  if (first !== undefined || printed !== '') return code;
  io.stderr.write(`${await parser.getHelp()}\n`);
  return 2;
}

type Chosen = (command: Command, args: Readonly<Record<string, unknown>>) => Promise<void>;

function parserOf(argv: readonly string[], io: Io, known: Known): Argv {
  return yargs([...argv])
    .scriptName('pinsim')
    .usage('pinsim <command>\n\nSimulates what Linux does with memory that guests and devices use.')
    .detectLocale(false)
    .exitProcess(false)
    .parserConfiguration({ 'camel-case-expansion': false, 'parse-positional-numbers': false })
    .strict()
    .help()
    .version(programVersion())
    .alias('h', 'help')
    .wrap(Math.min(100, io.stdout.columns ?? 100))
    .epilogue(EPILOGUE)
    .fail((message, error) => {
      // yargs raises some mistakes of the user (a missing value) as errors of its own.
      if (error !== undefined && error !== null && error.name !== 'YError') throw error;
      throw translateUsage(message ?? error.message, argv, known);
    });
}

function addCommand(parser: Argv, name: string, command: Command, chosen: Chosen): void {
  const usage = command.positionals === '' ? name : `${name} ${command.positionals}`;
  parser.command(usage, command.summary, command.declare, (args) => chosen(command, args));
}
