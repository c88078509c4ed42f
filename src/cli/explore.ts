// `pinsim explore`: searches the interleavings of scenario files, case by case, and says what that shows.

import type { Scenario } from '../scenario/file/scenario.ts';
import type { CaseStatus } from '../scenario/result.ts';
import type { CaseSearch, ScenarioSearch, SearchFinding } from '../scenario/search/result.ts';
import type { SearchOptions } from '../scenario/search/search-case.ts';
import type { Command, ExitCode, Parts } from './command.ts';
import { countOption, durationOption, textOption } from './command.ts';
import type { Drive } from './drive-search.ts';
import { declareReportOptions, formatOf, machineReport, REPORT_OPTIONS, reportWidth } from './format.ts';
import { Interrupt } from './interrupt.ts';
import type { Io } from './io.ts';
import { CASE_OPTIONS, caseChanges, declareCaseOptions, loadScenarios } from './scenarios.ts';
import { declareShrinkOption, shrinkOption } from './shrink-option.ts';
import { UsageError } from './usage.ts';

export const exploreCommand: Command = {
  name: 'explore',
  positionals: '<files..>',
  wants: 'scenario files or folders',
  summary: 'Search every interleaving of scenario files',
  options: [
    'strategy',
    'bound',
    'depth',
    'runs',
    'for',
    'seed',
    ...CASE_OPTIONS,
    'frontier',
    'shrink',
    'nearest',
    ...REPORT_OPTIONS,
  ],
  declare: (yargs) => {
    const search = yargs
      .positional('files', { type: 'string', array: true, describe: 'Scenario files or folders' })
      .option('strategy', {
        choices: ['dpor', 'bounded', 'random', 'pct', 'pos', 'timed'] as const,
        default: 'dpor',
        describe: 'dpor and bounded run all interleavings, the others samples of them',
      })
      .option('bound', { type: 'string', requiresArg: true, describe: 'Preemptions, for bounded [default: 2]' })
      .option('depth', { type: 'string', requiresArg: true, describe: 'Bug depth, for pct [default: 3]' })
      .option('runs', { type: 'string', requiresArg: true, describe: 'Stop each case after so many executions' })
      .option('for', { type: 'string', requiresArg: true, describe: 'Stop each case after so long, such as 60s' })
      .option('frontier', {
        type: 'string',
        requiresArg: true,
        describe: 'Keep the state of the search in this file, and go on from it when it is there',
      })
      .option('seed', { type: 'string', requiresArg: true, describe: 'Seed of the random streams [default: 1]' });
    const told = declareShrinkOption(declareCaseOptions(search, 'Search on this kernel')).option('nearest', {
      type: 'boolean',
      describe: 'Show the nearest interleaving that passes, side by side',
    });
    return declareReportOptions(told)
      .example('pinsim explore scenarios/bugs/gup-fast-vs-fork.yaml', 'Every inequivalent interleaving')
      .example('pinsim explore a.yaml --for 10min --frontier a.json', 'Ten minutes more of it, each time')
      .example('pinsim explore a.yaml --strategy bounded --bound 2', 'Those with at most two preemptions');
  },
  run,
};

async function run(args: Readonly<Record<string, unknown>>, io: Io, parts: Parts): Promise<ExitCode> {
  const { checkOutput, writeWhole } = await import('./output.ts');
  const { driveSearch } = await import('./drive-search.ts');
  const { FrontierFile } = await import('./frontier-file.ts');
  const { SearchProgress } = await import('./search-progress.ts');
  const { plural } = await import('../report/value.ts');
  const { renderScenarioSearch } = await import('../report/search.ts');
  const { NO_PAINT } = await import('../report/paint.ts');
  const { paintFor } = await import('./colour.ts');
  const { CaseSearcher } = await import('../scenario/search/search-case.ts');
  const { shrinkAbsence } = await import('../scenario/search/shrink-absence.ts');
  const { tellFinding } = await import('../scenario/search/tell.ts');
  const { selectCases } = await import('../scenario/file/select-cases.ts');
  const output = textOption(args, 'output');
  if (output !== undefined) checkOutput(io, output);
  const options = searchOptions(args);
  const forMs = durationOption(args, 'for');
  const frontier = textOption(args, 'frontier');
  const scenarios = await loadScenarios((args.files as readonly unknown[]).map(String), io, parts);
  const changes = caseChanges(args);
  for (const scenario of scenarios) selectCases(scenario, changes);
  const paint = output === undefined ? paintFor(io.stdout, io.env) : NO_PAINT;
  const verbose = args.verbose === true || scenarios.length === 1;
  const width = reportWidth(io, output);
  const format = formatOf(args);
  const tellOptions = { shrink: shrinkOption(args), fixes: true, nearest: args.nearest === true };
  const results: ScenarioSearch[] = [];
  const statuses: CaseStatus[] = [];
  let text = '';
  let left = scenarios.flatMap((scenario) => selectCases(scenario, changes)).length;
  const drive: Drive = {
    forMs,
    interrupt: new Interrupt(io),
    progress: new SearchProgress(io, left),
    frontier: frontier === undefined ? undefined : new FrontierFile(io, frontier),
  };
  try {
    for (const scenario of scenarios) {
      const cases: CaseSearch[] = [];
      for (const one of selectCases(scenario, changes)) {
        if (drive.interrupt.requested) break;
        const searcher = new CaseSearcher(scenario, one, options);
        drive.frontier?.resume(searcher);
        drive.progress.begin(`${scenario.file} ${one.name}`, searcher);
        const searched = inOptions(searcher.result(await driveSearch(searcher, drive)));
        // Nobody reads what is not printed.
        const told = (found: SearchFinding): boolean => verbose || format !== 'text' || found.expected === 'no';
        const findings = searched.findings.map((found) =>
          told(found) ? tellFinding(scenario, one, found, tellOptions) : found,
        );
        const absent = searched.absent.map((lacking) => ({
          ...lacking,
          ...shrinkAbsence(scenario, one, lacking.token, tellOptions.shrink),
        }));
        cases.push({ ...searched, findings, absent });
      }
      left -= cases.length;
      if (cases.length === 0) break;
      statuses.push(...cases.map(({ status }) => status));
      const result = resultOf(scenario, cases);
      results.push(result);
      if (format !== 'text') continue;
      const rendered = renderScenarioSearch(result, { paint, verbose, width });
      if (output === undefined) io.stdout.write(rendered);
      else text += rendered;
    }
  } finally {
    drive.frontier?.close();
  }
  drive.interrupt.end();
  if (format !== 'text') text = await machineReport(format, 'explore', results);
  if (output !== undefined) writeWhole(io, output, text);
  else if (format !== 'text') io.stdout.write(text);
  if (left > 0) {
    io.stderr.write(`pinsim: ${plural(left, 'case')} not searched: it was interrupted\n`);
    statuses.push('incomplete');
  }
  return exitCode(statuses);
}

function resultOf(scenario: Scenario, cases: readonly CaseSearch[]): ScenarioSearch {
  const { file, title, bug } = scenario;
  return { file, title, ...(bug === undefined ? {} : { bug }), cases };
}

/** Limits that an option of the library set, by the option of this command that did. */
function inOptions(searched: CaseSearch): CaseSearch {
  return { ...searched, limits: searched.limits.map((limit) => limit.replace(/\(maxExecutions\)$/, '(--runs)')) };
}

/** Options that only one strategy takes. */
const STRATEGY_OF: Readonly<Record<string, SearchOptions['strategy']>> = { bound: 'bounded', depth: 'pct' };

function searchOptions(args: Readonly<Record<string, unknown>>): SearchOptions {
  const strategy = args.strategy as SearchOptions['strategy'];
  const bound = countOption(args, 'bound', { least: 0, example: 2 });
  const depth = countOption(args, 'depth', { example: 3 });
  for (const [option, value] of Object.entries({ bound, depth })) {
    const only = STRATEGY_OF[option]!;
    if (value !== undefined && strategy !== only)
      throw new UsageError(
        `--${option} is only for --strategy ${only}, not for ${strategy}`,
        `${strategy === 'dpor' ? 'add' : 'use'} --strategy ${only}`,
      );
  }
  const runs = countOption(args, 'runs');
  const seed = textOption(args, 'seed');
  return {
    strategy,
    ...(bound === undefined ? {} : { bound }),
    ...(depth === undefined ? {} : { depth }),
    ...(runs === undefined ? {} : { runs, maxExecutions: runs }),
    ...(seed === undefined ? {} : { seed }),
  };
}

function exitCode(statuses: readonly CaseStatus[]): ExitCode {
  if (statuses.includes('not-as-expected')) return 1;
  return statuses.includes('incomplete') ? 3 : 0;
}
