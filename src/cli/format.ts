// `--format`: what machines read instead of text. Every command that reports on scenarios takes it.
import type { Argv } from 'yargs';
import type { ScenarioResult } from '../scenario/result.ts';
import type { FuzzCampaign } from '../scenario/search/fuzz-result.ts';
import type { Report, ScenarioSearch, SearchCommand } from '../scenario/search/result.ts';
import { textOption } from './command.ts';
import type { Io } from './io.ts';
import { programVersion } from './version.ts';

export const FORMATS = ['text', 'json', 'junit', 'sarif', 'github'] as const;
export type Format = (typeof FORMATS)[number];
/** The formats that machines read. */
export type MachineFormat = Exclude<Format, 'text'>;

/** The options that say how a report looks and where it goes; by name, for suggestions. */
export const REPORT_OPTIONS = ['verbose', 'format', 'output'] as const;

/** Declares them; `verbose`: what --verbose adds. */
export function declareReportOptions(yargs: Argv, verbose = 'Explain expected findings, too'): Argv {
  return yargs
    .option('verbose', { type: 'boolean', alias: 'v', describe: verbose })
    .option('format', { choices: FORMATS, default: 'text', describe: 'Form of the report' })
    .option('output', { type: 'string', alias: 'o', requiresArg: true, describe: 'Write the report to a file' });
}

/** What --format says. */
export function formatOf(args: Readonly<Record<string, unknown>>): Format {
  return FORMATS.find((format) => format === textOption(args, 'format')) ?? 'text';
}

/** Searches or replays in a form for machines; `campaign`: what fuzz says beside its cases. */
export async function machineReport(
  format: MachineFormat,
  command: SearchCommand,
  scenarios: readonly ScenarioSearch[],
  campaign?: FuzzCampaign,
): Promise<string> {
  const { searchReport } = await import('../report/json.ts');
  const report = searchReport(command, scenarios, { version: programVersion() });
  return rendered(format, campaign === undefined ? report : { ...report, campaign });
}

/** Runs in a form for machines. */
export async function machineRunReport(format: MachineFormat, scenarios: readonly ScenarioResult[]): Promise<string> {
  const { runReport } = await import('../report/json.ts');
  return rendered(format, runReport(scenarios, { version: programVersion() }));
}

async function rendered(format: MachineFormat, report: Report): Promise<string> {
  switch (format) {
    case 'json':
      return (await import('../report/json.ts')).renderReportJson(report);
    case 'junit':
      return (await import('../report/junit.ts')).renderJUnit(report);
    case 'github':
      return (await import('../report/github.ts')).renderGitHub(report);
    case 'sarif': {
      const { FINDING_KINDS } = await import('../scenario/finding-kinds.ts');
      return (await import('../report/sarif.ts')).renderSarif(report, FINDING_KINDS);
    }
  }
}

/** Columns of a text report: those of the terminal, within reason. */
export function reportWidth(io: Io, output: string | undefined): number {
  return Math.max(60, Math.min(160, (output === undefined ? io.stdout.columns : undefined) ?? 100));
}
