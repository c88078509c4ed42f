// Verdicts as a table (family x kernel) and as data.
import type { Judged, Verdict } from './compare.ts';
import { profileOf } from './replay.ts';

export interface KernelVerdicts {
  readonly kernel: string;
  readonly judged: readonly Judged[];
}

const VERDICTS: readonly Verdict[] = ['agree', 'wrong', 'unsupported'];
const HEADS = ['agree', 'wrong', 'unsup.', 'total'];
const WIDTH = 7;

function countsOf(judged: readonly Judged[]): readonly number[] {
  return [...VERDICTS.map((verdict) => judged.filter((one) => one.verdict === verdict).length), judged.length];
}

/** Lines: one row for each family, one for all, and the share that agrees. */
export function table(kernels: readonly KernelVerdicts[]): readonly string[] {
  const families = [...new Set(kernels.flatMap(({ judged }) => judged.map(({ family }) => family)))].sort();
  const nameWidth = Math.max(...families.map((family) => family.length), 'family'.length) + 1;
  const block = (cells: readonly string[]) => cells.map((cell) => cell.padStart(WIDTH)).join('');
  const row = (name: string, of: (judged: readonly Judged[]) => readonly string[]) =>
    name.padEnd(nameWidth) + kernels.map(({ judged }) => block(of(judged))).join(' |');
  const inFamily = (family: string) => (judged: readonly Judged[]) =>
    countsOf(judged.filter((one) => one.family === family)).map(String);
  const share = (judged: readonly Judged[]): readonly string[] => {
    const [agree = 0, , , total = 0] = countsOf(judged);
    return [total === 0 ? '-' : `${((100 * agree) / total).toFixed(1)}%`, '', '', ''];
  };
  return [
    ''.padEnd(nameWidth) + kernels.map(({ kernel }) => kernel.padStart(4 * WIDTH)).join(' |'),
    row('family', () => HEADS),
    ...families.map((family) => row(family, inFamily(family))),
    row('all', (judged) => countsOf(judged).map(String)),
    row('', share),
  ];
}

/** Cases with these verdicts by name, each with its reasons. */
export function list(kernels: readonly KernelVerdicts[], verdicts: readonly Verdict[]): readonly string[] {
  const lines: string[] = [];
  for (const { kernel, judged } of kernels) {
    for (const one of judged.filter(({ verdict }) => verdicts.includes(verdict))) {
      lines.push('', `${one.verdict} on ${kernel}: ${one.key}`, ...one.reasons.map((reason) => `  ${reason}`));
    }
  }
  return lines;
}

/** Everything, for machines. */
export function asData(kernels: readonly KernelVerdicts[]): unknown {
  const counts = (judged: readonly Judged[]) => {
    const [agree, wrong, unsupported, total] = countsOf(judged);
    return { agree, wrong, unsupported, total };
  };
  return {
    version: 1,
    kernels: kernels.map(({ kernel, judged }) => ({
      kernel,
      profile: profileOf(kernel),
      ...counts(judged),
      families: [...new Set(judged.map(({ family }) => family))].sort().map((family) => ({
        family,
        ...counts(judged.filter((one) => one.family === family)),
      })),
      cases: judged,
    })),
  };
}
