// A shrunk counterexample written as a scenario file, with a token of its own in its header.
import { loadScenario } from '../scenario/file/load.ts';
import type { Scenario } from '../scenario/file/scenario.ts';
import { reducedYaml, withHeader } from '../scenario/search/reduced-yaml.ts';
import { caseOfToken } from '../scenario/search/replay-token.ts';
import type { SearchFinding } from '../scenario/search/result.ts';
import { caseToken, parseCaseToken, printCaseToken, shownFinding } from '../scenario/search/token.ts';
import type { Parts } from './command.ts';
import { readText } from './files.ts';
import type { Io } from './io.ts';
import { writeWhole } from './output.ts';

/** Write what is left of `scenario` for `found` to `output`. Throws UsageError when that is impossible. */
export async function writeReduced(
  scenario: Scenario,
  found: SearchFinding,
  output: string,
  io: Io,
  parts: Parts,
): Promise<void> {
  const token = parseCaseToken(found.token);
  const one = caseOfToken(scenario, token, {});
  const text = reducedYaml(readText(io, scenario.file), scenario, one, token.omitted, found.finding.kind);
  const small = loadScenario(output, text, await parts.registry());
  const shows = shownFinding(found.finding);
  const own = printCaseToken(caseToken(small, small.cases[0]!, token.seed, token.schedule, { shows }));
  const lines = [`What is left of ${scenario.file} to show ${found.finding.kind}:`, `pinsim replay '${own}'`];
  writeWhole(io, output, withHeader(text, lines));
}
