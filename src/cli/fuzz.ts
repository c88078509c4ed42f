// `pinsim fuzz`: runs scenario files under a mix of strategies, by number of runs or by time.
import type { Command, ExitCode, Parts } from './command.ts';
import { textOption } from './command.ts';
import { declareReportOptions, formatOf, machineReport, REPORT_OPTIONS, reportWidth } from './format.ts';
import type { FuzzRun } from './fuzz/drive.ts';
import type { Io } from './io.ts';
import { CASE_OPTIONS, caseChanges, declareCaseOptions, loadScenarios } from './scenarios.ts';
import { declareShrinkOption, shrinkOption } from './shrink-option.ts';

export const fuzzCommand: Command = {
  name: 'fuzz',
  positionals: '<files..>',
  wants: 'scenario files or folders',
  summary: 'Run scenario files again and again, each time in another order',
  options: [
    ...['runs', 'for', 'jobs', 'seed', 'shard', 'mutate', 'strategies', 'possible', 'corpus', 'state'],
    ...CASE_OPTIONS,
    'shrink',
    ...REPORT_OPTIONS,
  ],
  declare: (yargs) => {
    const campaign = yargs
      .positional('files', { type: 'string', array: true, describe: 'Scenario files or folders' })
      .option('runs', {
        type: 'string',
        requiresArg: true,
        describe: 'How many runs, all shards together [default: 10000]',
      })
      .option('for', { type: 'string', requiresArg: true, describe: 'Stop after so long, such as 60s' })
      .option('jobs', {
        type: 'string',
        alias: 'j',
        requiresArg: true,
        describe: 'Threads [default: as the machine has]',
      })
      .option('seed', { type: 'string', requiresArg: true, describe: 'Seed of the campaign [default: 1]' })
      .option('shard', { type: 'string', requiresArg: true, describe: 'Run part i of n parts of the campaign: i/n' })
      .option('mutate', { type: 'boolean', describe: 'Make up workloads, too, guided by what they reach' })
      .option('strategies', { type: 'string', requiresArg: true, describe: 'Mix only these: random,pct,pos,timed' })
      .option('possible', { type: 'string', requiresArg: true, describe: 'Findings of these kinds are no failure' })
      .option('corpus', {
        type: 'string',
        requiresArg: true,
        describe: 'Replay the cases of this folder first; keep new ones there',
      })
      .option('state', {
        type: 'string',
        requiresArg: true,
        describe: 'Keep the campaign in this file, and go on from it when it is there',
      });
    const told = declareShrinkOption(declareCaseOptions(campaign, 'Run on this kernel'));
    return declareReportOptions(told, 'Show expected findings and all that was never reached')
      .example('pinsim fuzz scenarios --for 60s', 'A minute of the whole library')
      .example('pinsim fuzz a.yaml --runs 100000 --jobs 2', 'The same findings with any number of jobs')
      .example('pinsim fuzz scenarios --shard 1/4 --state s1 --corpus corpus', 'A quarter; can be stopped and goes on');
  },
  run,
};

async function run(args: Readonly<Record<string, unknown>>, io: Io, parts: Parts): Promise<ExitCode> {
  const startMs = performance.now();
  const { checkOutput, writeWhole } = await import('./output.ts');
  const { fuzzOptions } = await import('./fuzz/options.ts');
  const { FINDING_KINDS } = await import('../scenario/finding-kinds.ts');
  const output = textOption(args, 'output');
  if (output !== undefined) checkOutput(io, output);
  const options = fuzzOptions(
    args,
    FINDING_KINDS.map(({ name }) => name),
  );
  const shrink = shrinkOption(args);
  const scenarios = await loadScenarios((args.files as readonly unknown[]).map(String), io, parts);
  const registry = await parts.registry();
  const { fuzz } = await import('./fuzz/drive.ts');
  const setting = {
    options,
    shrink,
    changes: caseChanges(args),
    labelsKnown: registry.labels?.() ?? new Set<string>(),
    startMs,
  };
  const done = await fuzz(scenarios, setting, io);
  const text = await reportOf(done, args, io, output);
  if (output === undefined) io.stdout.write(text);
  else writeWhole(io, output, text);
  return exitCode(done);
}

async function reportOf(
  { campaign, scenarios }: FuzzRun,
  args: Readonly<Record<string, unknown>>,
  io: Io,
  output: string | undefined,
): Promise<string> {
  const format = formatOf(args);
  if (format !== 'text') return machineReport(format, 'fuzz', scenarios, campaign);
  const { renderFuzz } = await import('../report/fuzz.ts');
  const { NO_PAINT } = await import('../report/paint.ts');
  const { paintFor } = await import('./colour.ts');
  const paint = output === undefined ? paintFor(io.stdout, io.env) : NO_PAINT;
  return renderFuzz(campaign, scenarios, { paint, verbose: args.verbose === true, width: reportWidth(io, output) });
}

/**
 * What is not as expected is so wherever it came from; what could not be looked at, or did not reach what it is to reach,
 * makes the rest incomplete. Cases that have not had a turn do not: in a short campaign there always are some. Where no
 * case has had one, nothing was looked at.
 */
function exitCode({ campaign, scenarios, interrupted }: FuzzRun): ExitCode {
  const { corpus, unexpected, absent } = campaign;
  if (unexpected > 0 || absent > 0 || corpus.some(({ outcome }) => outcome === 'shows')) return 1;
  if (interrupted || campaign.runs === 0 || corpus.some(({ outcome }) => outcome === 'broken')) return 3;
  const cases = scenarios.flatMap((scenario) => scenario.cases);
  return cases.some(({ executions, missingLabels }) => executions > 0 && missingLabels.length > 0) ? 3 : 0;
}
