// `npm run conformance [-- folder] [--json] [--family prefix]`: replays recorded cases on the model and prints how many
// agree, by family and kernel. The folder holds JSON files in the format of the recorded laboratory.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Judged, judge, keyOf, type Recorded } from './compare.ts';
import { PROGRAMS } from './programs/index.ts';
import { type Emitted, runProgram } from './session.ts';

/** The profile that stands for a recorded kernel. */
export function profileOf(kernel: string): string {
  if (kernel.startsWith('6.1.0-')) return 'v6.1.192';
  return kernel.includes('pinlab') ? 'v6.12.117+pinlab' : 'v6.12.117';
}

/** Read every recorded case of a folder. */
export function readCases(folder: string): readonly Recorded[] {
  const files = readdirSync(folder).filter((name) => name.endsWith('.json') && name !== 'kernel-config.json');
  return files.sort().flatMap((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')) as readonly Recorded[]);
}

export interface KernelReport {
  readonly kernel: string;
  readonly judged: readonly Judged[];
  /** Programs that could not run to their end, with the reason. */
  readonly broken: readonly string[];
}

/** Run the programs on one kernel and judge its recorded cases. */
export function judgeKernel(kernel: string, cases: readonly Recorded[], family: string): KernelReport {
  const emitted = new Map<string, Emitted>();
  const broken: string[] = [];
  for (const program of PROGRAMS) {
    if (!program.name.startsWith(family) && !family.startsWith(program.name)) continue;
    try {
      for (const one of runProgram(profileOf(kernel), program.boot, (s) => program.run(s)))
        emitted.set(keyOf(one), one);
    } catch (error) {
      broken.push(`${program.name}: ${(error as Error).message}`);
    }
  }
  const judged = cases.filter((one) => one.case.startsWith(family)).map((one) => judge(one, emitted.get(keyOf(one))));
  return { kernel, judged, broken };
}

/** The table (family x kernel), or everything as JSON. Returns lines. */
export function report(reports: readonly KernelReport[], verbose: boolean): readonly string[] {
  const lines: string[] = [];
  for (const { kernel, judged, broken } of reports) {
    lines.push(`${kernel}`);
    const families = [...new Set(judged.map(({ family }) => family))].sort();
    const count = (list: readonly Judged[], verdict: string) => list.filter((one) => one.verdict === verdict).length;
    const row = (name: string, list: readonly Judged[]) => {
      const figures = ['agree', 'wrong', 'unsupported'].map((verdict) => String(count(list, verdict)).padStart(8));
      lines.push(`  ${name.padEnd(36)}${figures.join('')}${String(list.length).padStart(8)}`);
    };
    lines.push(`  ${'family'.padEnd(36)}   agree   wrong  unsupp.   total`);
    for (const family of families)
      row(
        family,
        judged.filter((one) => one.family === family),
      );
    row('all', judged);
    for (const text of broken) lines.push(`  broken program ${text}`);
    if (!verbose) continue;
    for (const one of judged) {
      if (one.verdict === 'wrong') lines.push(`  wrong: ${one.key}`, ...one.reasons.map((reason) => `      ${reason}`));
    }
  }
  return lines;
}

function main(argv: readonly string[]): void {
  const flag = (name: string) => argv.includes(name);
  const valueOf = (name: string) => argv[argv.indexOf(name) + 1];
  const family = flag('--family') ? (valueOf('--family') ?? '') : '';
  const folder = argv.find((word, i) => !word.startsWith('--') && argv[i - 1] !== '--family') ?? '../shared/reality';
  const cases = readCases(folder);
  const kernels = [...new Set(cases.map(({ kernel }) => kernel))].sort();
  const reports = kernels.map((kernel) =>
    judgeKernel(
      kernel,
      cases.filter((one) => one.kernel === kernel),
      family,
    ),
  );
  const out = flag('--json') ? [JSON.stringify({ version: 1, reports }, null, 1)] : report(reports, flag('--verbose'));
  process.stdout.write(`${out.join('\n')}\n`);
}

main(process.argv.slice(2));
