// `pinsim replay`: runs the schedule of a replay token again, here or on another kernel, and says whether it still shows
// what it was kept for.
import type { ReplayOptions } from '../scenario/search/replay-token.ts';
import type { ScenarioSearch } from '../scenario/search/result.ts';
import type { CaseToken } from '../scenario/search/token.ts';
import type { Command, ExitCode, Parts } from './command.ts';
import { textOption } from './command.ts';
import { FORMATS, formatOf, machineReport, reportWidth } from './format.ts';
import type { Io } from './io.ts';
import { caseChanges } from './scenarios.ts';
import { readTokens, scenarioOf } from './tokens.ts';
import { UsageError } from './usage.ts';

export const replayCommand: Command = {
  name: 'replay',
  positionals: '<token..>',
  wants: 'a replay token, or a file that holds one',
  summary: 'Run the schedule of a replay token again',
  options: ['scenario', 'case', 'kernel', 'with', 'without', 'nearest', 'trace', 'format', 'output'],
  declare: (yargs) =>
    yargs
      .positional('token', {
        type: 'string',
        array: true,
        describe: 'A replay token in quotes, or files that hold some',
      })
      .option('scenario', { type: 'string', requiresArg: true, describe: 'Where the scenario file is now' })
      .option('case', { type: 'string', requiresArg: true, describe: "Another case than the token's" })
      .option('kernel', { type: 'string', requiresArg: true, describe: 'Replay on this kernel, such as v6.1' })
      .option('with', { type: 'string', array: true, nargs: 1, describe: 'Switch a behaviour on (id, or id=way)' })
      .option('without', { type: 'string', array: true, nargs: 1, describe: 'Switch a behaviour off' })
      .option('nearest', { type: 'boolean', describe: 'Show the nearest interleaving that passes, side by side' })
      .option('trace', { type: 'boolean', describe: 'Show every step' })
      .option('format', { choices: FORMATS, default: 'text', describe: 'Form of the report' })
      .option('output', { type: 'string', alias: 'o', requiresArg: true, describe: 'Write the report to a file' })
      .example("pinsim replay 'pinsim1 a.yaml ... s1;a@x;b .9e0f'", 'A token as explore printed it')
      .example('pinsim replay case.txt --kernel v6.12', 'The tokens of a file, on another kernel')
      .epilogue(
        'Exit codes: 0 it shows again what the token was kept for, 1 it does not, 2 usage, 3 a limit was reached.',
      ),
  run,
};

async function run(args: Readonly<Record<string, unknown>>, io: Io, parts: Parts): Promise<ExitCode> {
  const { checkOutput, writeWhole } = await import('./output.ts');
  const { replayToken } = await import('../scenario/search/replay-token.ts');
  const { renderReplay } = await import('../report/replay.ts');
  const { renderTraceLine } = await import('../report/text.ts');
  const { NO_PAINT } = await import('../report/paint.ts');
  const { paintFor } = await import('./colour.ts');
  const output = textOption(args, 'output');
  if (output !== undefined) checkOutput(io, output);
  const format = formatOf(args);
  const tokens = await readTokens((args.token as readonly unknown[]).map(String), io);
  const paint = output === undefined ? paintFor(io.stdout, io.env) : NO_PAINT;
  const width = reportWidth(io, output);
  const options: ReplayOptions = { ...caseChanges(args), shrink: 0, fixes: true, nearest: args.nearest === true };
  const results: ScenarioSearch[] = [];
  let text = '';
  for (const token of tokens) {
    const scenario = await scenarioOf(token, textOption(args, 'scenario'), io, parts);
    const { result, trace } = guarded(token, () => replayToken(scenario, token, options));
    const { file, title, bug } = scenario;
    const told = { file, title, ...(bug === undefined ? {} : { bug }), cases: [result] };
    results.push(told);
    if (format !== 'text') continue;
    const steps = args.trace === true ? trace.map((line) => renderTraceLine(line, paint)).join('') : '';
    text += `${text === '' ? '' : '\n'}${steps}${renderReplay(told, result, { paint, width })}`;
  }
  if (format !== 'text') text = await machineReport(format, 'replay', results);
  if (output === undefined) io.stdout.write(text);
  else writeWhole(io, output, text);
  const statuses = results.flatMap(({ cases }) => cases.map(({ status }) => status));
  if (statuses.includes('not-as-expected')) return 1;
  return statuses.includes('incomplete') ? 3 : 0;
}

/** The schedule inside a token has a form of its own, which may have been damaged by hand. */
export function guarded<T>({ schedule }: CaseToken, act: () => T): T {
  try {
    return act();
  } catch (error) {
    if (error instanceof Error && error.name === 'ScheduleError')
      throw new UsageError(error.message, `in the schedule \`${schedule}\``);
    throw error;
  }
}
