// Verdicts as a table (family x kernel) and as data.
import { isPooled, type Judged, POOLED, type Verdict } from './compare.ts';
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

const IN_ERRNO = 'wrong in ret/errno';

const pooled = (judged: readonly Judged[]) => judged.filter(({ family }) => isPooled(family));
const inErrno = (judged: readonly Judged[]) => judged.filter((one) => one.inErrno).length;

/** Percent that agree, with one digit, rounded down: 97.0 is reached, not nearly so. None of nothing. */
function percentOf(judged: readonly Judged[]): number | undefined {
  const [agree = 0, , , total = 0] = countsOf(judged);
  return total === 0 ? undefined : Math.floor((1000 * agree) / total) / 10;
}

/**
 * Lines: one row for each family, one for all, and the share that agrees; the same for the families that the model is
 * to meet, with how many of those are wrong in the return value or the errno.
 */
export function table(kernels: readonly KernelVerdicts[]): readonly string[] {
  const families = [...new Set(kernels.flatMap(({ judged }) => judged.map(({ family }) => family)))].sort();
  const nameWidth = Math.max(...[...families, IN_ERRNO].map((name) => name.length)) + 1;
  const block = (cells: readonly string[]) => cells.map((cell) => cell.padStart(WIDTH)).join('');
  const row = (name: string, of: (judged: readonly Judged[]) => readonly string[]) =>
    name.padEnd(nameWidth) + kernels.map(({ judged }) => block(of(judged))).join(' |');
  const across = (name: string, of: (one: KernelVerdicts) => string) =>
    name.padEnd(nameWidth) + kernels.map((one) => of(one).padStart(4 * WIDTH)).join(' |');
  const inFamily = (family: string) => (judged: readonly Judged[]) =>
    countsOf(judged.filter((one) => one.family === family)).map(String);
  const share = (judged: readonly Judged[]): readonly string[] => {
    const percent = percentOf(judged);
    return [percent === undefined ? '-' : `${percent.toFixed(1)}%`, '', '', ''];
  };
  return [
    across('kernel', ({ kernel }) => kernel),
    across('profile', ({ kernel }) => profileOf(kernel)),
    row('family', () => HEADS),
    ...families.map((family) => row(family, inFamily(family))),
    row('all', (judged) => countsOf(judged).map(String)),
    row('', share),
    row('pooled', (judged) => countsOf(pooled(judged)).map(String)),
    row('', (judged) => share(pooled(judged))),
    row(IN_ERRNO, (judged) => ['', String(inErrno(pooled(judged))), '', '']),
    `pooled: ${POOLED.join(', ')}`,
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

/** Everything, for machines; with what the run fails for on each kernel. */
export function asData(
  kernels: readonly KernelVerdicts[],
  failuresOf: (one: KernelVerdicts) => readonly string[],
): unknown {
  const counts = (judged: readonly Judged[]) => {
    const [agree, wrong, unsupported, total] = countsOf(judged);
    return { agree, wrong, unsupported, total };
  };
  return {
    version: 1,
    pooledFamilies: POOLED,
    kernels: kernels.map(({ kernel, judged }) => ({
      kernel,
      profile: profileOf(kernel),
      ...counts(judged),
      pooled: {
        ...counts(pooled(judged)),
        percent: percentOf(pooled(judged)) ?? null,
        wrongInErrno: inErrno(pooled(judged)),
      },
      failures: failuresOf({ kernel, judged }),
      families: [...new Set(judged.map(({ family }) => family))].sort().map((family) => ({
        family,
        ...counts(judged.filter((one) => one.family === family)),
      })),
      cases: judged,
    })),
  };
}
