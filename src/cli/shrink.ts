// `pinsim shrink`: makes the counterexample of a replay token small, and on request a scenario file of it.

import type { CaseChanges } from '../scenario/file/select-cases.ts';
import type { ScenarioSearch } from '../scenario/search/result.ts';
import type { TellOptions } from '../scenario/search/tell.ts';
import type { Command, ExitCode, Parts } from './command.ts';
import { countOption, textOption } from './command.ts';
import { FORMATS, formatOf, machineReport, reportWidth } from './format.ts';
import type { Io } from './io.ts';
import { guarded } from './replay.ts';
import { readTokens, scenarioOf } from './tokens.ts';
import { UsageError } from './usage.ts';

/** Executions spent when a person asks: more than a search spends on each of its findings. */
const BUDGET = 3000;

export const shrinkCommand: Command = {
  name: 'shrink',
  positionals: '<token..>',
  wants: 'a replay token, or a file that holds one',
  summary: 'Make the counterexample of a replay token small',
  options: ['budget', 'scenario', 'nearest', 'format', 'output'],
  declare: (yargs) =>
    yargs
      .positional('token', {
        type: 'string',
        array: true,
        describe: 'A replay token in quotes, or a file that holds one',
      })
      .option('budget', { type: 'string', requiresArg: true, describe: `Executions to spend [default: ${BUDGET}]` })
      .option('scenario', { type: 'string', requiresArg: true, describe: 'Where the scenario file is now' })
      .option('nearest', { type: 'boolean', describe: 'Show the nearest interleaving that passes, side by side' })
      .option('format', { choices: FORMATS, default: 'text', describe: 'Form of the report' })
      .option('output', {
        type: 'string',
        alias: 'o',
        requiresArg: true,
        describe: 'Write what is left as a scenario file, token included',
      })
      .example("pinsim shrink 'pinsim1 a.yaml ...' -o small.yaml", 'Then `pinsim replay small.yaml`')
      .epilogue('Exit codes: 0 done, 1 the token does not show its finding (any more), 2 usage.'),
  run,
};

async function run(args: Readonly<Record<string, unknown>>, io: Io, parts: Parts): Promise<ExitCode> {
  const { checkOutput } = await import('./output.ts');
  const { replayToken } = await import('../scenario/search/replay-token.ts');
  const { renderReplay } = await import('../report/replay.ts');
  const { paintFor } = await import('./colour.ts');
  const output = textOption(args, 'output');
  if (output !== undefined) checkOutput(io, output);
  const format = formatOf(args);
  const budget = countOption(args, 'budget') ?? BUDGET;
  const tokens = await readTokens((args.token as readonly unknown[]).map(String), io);
  if (tokens.length > 1 && output !== undefined)
    throw new UsageError(`these are ${tokens.length} tokens, and -o writes one scenario`, 'give one of them');
  if (output !== undefined && tokens[0]!.shows?.absent === true)
    throw new UsageError(
      'this token is kept for a finding that is absent, and -o writes what shows one',
      'leave -o out',
    );
  const options: TellOptions & CaseChanges = { shrink: budget, fixes: true, nearest: args.nearest === true };
  const results: ScenarioSearch[] = [];
  let text = '';
  for (const token of tokens) {
    const scenario = await scenarioOf(token, textOption(args, 'scenario'), io, parts);
    const { result } = guarded(token, () => replayToken(scenario, token, { ...options, only: true }));
    const { file, title, bug } = scenario;
    const told = { file, title, ...(bug === undefined ? {} : { bug }), cases: [result] };
    results.push(told);
    text += `${text === '' ? '' : '\n'}${renderReplay(told, result, { paint: paintFor(io.stdout, io.env), width: reportWidth(io, undefined) })}`;
    const shown = result.findings[0];
    if (output === undefined || shown === undefined) continue;
    const { writeReduced } = await import('./write-reduced.ts');
    await writeReduced(scenario, shown, output, io, parts);
    text += `\nwritten to ${output}; \`pinsim replay ${output}\` shows it again\n`;
  }
  io.stdout.write(format === 'text' ? text : await machineReport(format, 'shrink', results));
  return results.every(({ cases }) => cases.every(({ status }) => status === 'as-expected')) ? 0 : 1;
}
