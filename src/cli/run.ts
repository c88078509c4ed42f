// `pinsim run`: loads every file first, so that a bad one is known before anything runs, then runs them in order.

import type { Scenario } from '../scenario/file/scenario.ts';
import type { ScenarioResult, Tally, TraceLine } from '../scenario/result.ts';
import type { RunOptions, RunScenario } from '../scenario/run.ts';
import type { Command, ExitCode, Parts } from './command.ts';
import { countOption, textOption } from './command.ts';
import { declareReportOptions, formatOf, type MachineFormat, machineRunReport, REPORT_OPTIONS } from './format.ts';
import type { Io } from './io.ts';
import { reportError } from './report-error.ts';
import { CASE_OPTIONS, caseChanges, declareCaseOptions, loadScenarios } from './scenarios.ts';

export const runCommand: Command = {
  name: 'run',
  positionals: '<files..>',
  wants: 'scenario files or folders',
  summary: 'Run scenario files, or all of a folder',
  options: ['seed', ...CASE_OPTIONS, 'max-steps', 'trace', ...REPORT_OPTIONS],
  declare: (yargs) => {
    const cases = yargs
      .positional('files', { type: 'string', array: true, describe: 'Scenario files or folders' })
      .option('seed', { type: 'string', requiresArg: true, describe: 'Seed of the random streams [default: 1]' });
    const told = declareCaseOptions(cases, 'Run on this kernel')
      .option('max-steps', { type: 'string', requiresArg: true, describe: 'Give a case up after so many steps' })
      .option('trace', { type: 'boolean', describe: 'Show every step' });
    return declareReportOptions(told)
      .example('pinsim run scenarios', 'Run the whole library')
      .example('pinsim run a.yaml --kernel v5.15 --trace', 'One story, one kernel, step by step');
  },
  run,
};

async function run(args: Readonly<Record<string, unknown>>, io: Io, parts: Parts): Promise<ExitCode> {
  const { checkOutput, writeWhole } = await import('./output.ts');
  const { tallyOf } = await import('../scenario/result.ts');
  const output = textOption(args, 'output');
  if (output !== undefined) checkOutput(io, output);
  const scenarios = await loadScenarios((args.files as readonly unknown[]).map(String), io, parts);
  const options = await checkedOptions(args, scenarios);
  const runScenario = await parts.runScenario();
  const format = formatOf(args);
  const report = format === 'text' ? await textReport(args, io, output, scenarios.length) : machineReport(format);
  const kept = format !== 'text';
  const troubles: unknown[] = [];
  const results = await runAll(scenarios, runScenario, options, args.trace === true, kept, report, io, troubles);
  const tally = tallyOf(results);
  // A report of nothing would only hide that nothing ran.
  if (results.length > 0) {
    await report.end(results, tally);
    if (output === undefined) io.stdout.write(report.take());
    else writeWhole(io, output, report.take());
  }
  const codes = troubles.map((error) => reportError(error, io));
  if (codes.length === 0) return exitCode(tally);
  return codes.includes(2) ? 2 : 1;
}

/** Options that concern the cases, judged against every scenario before the first one runs. */
async function checkedOptions(
  args: Readonly<Record<string, unknown>>,
  scenarios: readonly Scenario[],
): Promise<RunOptions> {
  const { selectCases } = await import('../scenario/file/select-cases.ts');
  const seed = textOption(args, 'seed');
  const maxSteps = countOption(args, 'max-steps');
  const options: RunOptions = {
    ...caseChanges(args),
    ...(seed === undefined ? {} : { seed }),
    ...(maxSteps === undefined ? {} : { maxSteps }),
  };
  for (const scenario of scenarios) selectCases(scenario, options);
  return options;
}

/** Collects a report, or writes it as it comes. */
interface Report {
  trace(line: TraceLine): void;
  add(result: ScenarioResult): void;
  end(results: readonly ScenarioResult[], tally: Tally): void | Promise<void>;
  /** What has not been written yet. */
  take(): string;
}

async function textReport(
  args: Readonly<Record<string, unknown>>,
  io: Io,
  output: string | undefined,
  count: number,
): Promise<Report> {
  const { renderScenario, renderTally, renderTraceLine } = await import('../report/text.ts');
  const { NO_PAINT } = await import('../report/paint.ts');
  const { paintFor } = await import('./colour.ts');
  const paint = output === undefined ? paintFor(io.stdout, io.env) : NO_PAINT;
  // Whoever runs one story wants to hear it; whoever runs a library wants to know what is wrong.
  const verbose = args.verbose === true || (args.verbose === undefined && count === 1);
  const width = Math.max(60, Math.min(120, (output === undefined ? io.stdout.columns : undefined) ?? 100));
  let held = '';
  const write = (text: string): void => {
    if (output === undefined) io.stdout.write(text);
    else held += text;
  };
  return {
    trace: (line) => write(renderTraceLine(line, paint)),
    add: (result) => write(renderScenario(result, { paint, verbose, width })),
    end: (_results, tally) => {
      const text = renderTally(tally, paint);
      write(count > 1 ? `\n${text}` : text);
      if (output !== undefined) io.stdout.write(renderTally(tally, paintFor(io.stdout, io.env)));
    },
    take: () => held,
  };
}

function machineReport(format: MachineFormat): Report {
  let text = '';
  return {
    trace: () => {},
    add: () => {},
    end: async (results) => {
      text = await machineRunReport(format, results);
    },
    take: () => text,
  };
}

async function runAll(
  scenarios: readonly Scenario[],
  runScenario: RunScenario,
  options: RunOptions,
  traced: boolean,
  keepTrace: boolean,
  report: Report,
  io: Io,
  troubles: unknown[],
): Promise<readonly ScenarioResult[]> {
  const { ProgressLine } = await import('./progress.ts');
  const progress = new ProgressLine(io, scenarios.length);
  const results: ScenarioResult[] = [];
  const listen = (line: TraceLine): void => {
    progress.clear();
    report.trace(line);
  };
  for (const scenario of scenarios) {
    progress.begin(scenario.file);
    let cases: ScenarioResult['cases'];
    try {
      cases = runScenario(scenario, {
        ...options,
        ...(traced && !keepTrace ? { trace: listen } : {}),
        ...(traced && keepTrace ? { keepTrace } : {}),
        progress: (now) => progress.update(now),
      });
    } catch (error) {
      // One file that cannot be run does not keep the others from it.
      troubles.push(inFile(error, scenario.file));
      progress.clear();
      continue;
    }
    const { file, title, bug } = scenario;
    const result = { file, title, ...(bug === undefined ? {} : { bug }), cases };
    results.push(result);
    progress.clear();
    report.add(result);
  }
  return results;
}

/** A defect of ours says in which file it showed. */
function inFile(error: unknown, file: string): unknown {
  if (error instanceof Error && error.name !== 'ScenarioError') error.message = `${file}: ${error.message}`;
  return error;
}

function exitCode(tally: Tally): ExitCode {
  if (tally.notAsExpected > 0) return 1;
  return tally.incomplete > 0 ? 3 : 0;
}
