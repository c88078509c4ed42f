// Reports as workflow commands of GitHub Actions: an annotation at the line of the scenario file for everything that is
// not as expected, and the tally in plain words.
import type { Report } from '../scenario/search/result.ts';
import { type Problem, problemsOf } from './problems.ts';
import { renderTally } from './text.ts';
import { plural } from './value.ts';

/** The report as lines of workflow commands. Findings that were expected are no annotation. */
export function renderGitHub(report: Report): string {
  const shown = problemsOf(report).filter(({ level }) => level !== 'note');
  return `${shown.map((problem) => `${annotation(problem)}\n`).join('')}${renderTally(report.tally)}${corpusLine(report)}`;
}

/** The tally counts cases of scenarios; a case of the corpus is wrong all the same. */
function corpusLine(report: Report): string {
  const corpus = report.command === 'run' ? [] : (report.campaign?.corpus ?? []);
  if (corpus.length === 0) return '';
  const shown = corpus.filter(({ outcome }) => outcome === 'shows').length;
  return `${plural(corpus.length, 'corpus case')} replayed, ${shown} of them still shown\n`;
}

function annotation({ level, rule, caseName, place, message, details }: Problem): string {
  const { file, line, column } = place;
  const title = property(`${rule}: ${caseName}`);
  const text = data([message, ...details].join('\n'));
  return `::${level} file=${property(file)},line=${line},col=${column},title=${title}::${text}`;
}

/** As the runner unescapes them (actions/toolkit, packages/core/src/command.ts). */
function data(text: string): string {
  return text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
}

function property(text: string): string {
  return data(text).replaceAll(':', '%3A').replaceAll(',', '%2C');
}
