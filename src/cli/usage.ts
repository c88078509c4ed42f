// Mistakes on the command line. yargs finds them; the words, and what was probably meant, are ours.
import { didYouMean, nameList } from '../scenario/file/diagnostic.ts';

/** The command line cannot be understood or obeyed: exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
  readonly hint: string | undefined;

  constructor(message: string, hint?: string) {
    super(message);
    this.hint = hint;
  }
}

/** What a parser knows, for suggestions. */
export interface Known {
  readonly commands: readonly string[];
  /** Of the command that was given. */
  readonly options: readonly string[];
  /** What the positional arguments of the command that was given are. */
  readonly wants: string | undefined;
}

/** Our words for a message of yargs (18, English). An unknown message is passed on as it is. */
export function translateUsage(message: string, argv: readonly string[], known: Known): UsageError {
  const command = argv.find((argument) => known.commands.includes(argument));
  const help = `see \`pinsim ${command === undefined ? '' : `${command} `}--help\``;
  const unknown = /^Unknown arguments?: (.*)$/.exec(message);
  if (unknown !== null) return unknownArgument(unknown[1]!.split(', ')[0]!, argv, known, help);
  const following = /^Not enough arguments following: (.*)$/.exec(message);
  if (following !== null) return new UsageError(`${dashed(following[1]!)} needs a value`, help);
  if (message.startsWith('Not enough non-option arguments'))
    return new UsageError(
      `\`pinsim ${command}\` needs an argument${known.wants === undefined ? '' : `: ${known.wants}`}`,
      help,
    );
  const choice = /Argument: (\S+), Given: "(.*)", Choices: (.*)$/m.exec(message);
  if (choice === null) return new UsageError(message, help);
  const [, name = '', given = '', listed = ''] = choice;
  const choices = listed.split(', ').map((one) => one.replaceAll('"', ''));
  const option = known.options.includes(name) ? dashed(name) : name;
  const hint = didYouMean(given, choices) ?? help;
  return new UsageError(`${option} cannot be \`${given}\`: expected ${nameList(choices)}`, hint);
}

function unknownArgument(name: string, argv: readonly string[], known: Known, help: string): UsageError {
  const written = argv.find((argument) => /^--?/.test(argument) && argument.replace(/^--?/, '').split('=')[0] === name);
  if (written === undefined && !argv.some((argument) => argument.startsWith('-') && argument.includes(name)))
    return new UsageError(`unexpected argument \`${name}\``, help);
  const near = didYouMean(name, known.options)?.replaceAll(
    /`([^`]+)`/g,
    (_, option: string) => `\`${dashed(option)}\``,
  );
  return new UsageError(`unknown option \`${written?.split('=')[0] ?? dashed(name)}\``, near ?? help);
}

function dashed(option: string): string {
  return option.length === 1 ? `-${option}` : `--${option}`;
}
