// What the command line of `fuzz` says, checked before anything runs.
import { MIXED, type Mixed } from '../../explore/schedulers/mix.ts';
import { countOption, durationOption, listOption, textOption } from '../command.ts';
import { UsageError } from '../usage.ts';

/** Runs when neither --runs nor --for says how many. */
const RUNS = 10_000;
const JOBS_MAX = 256;

export interface FuzzOptions {
  readonly runs: number;
  readonly forMs: number | undefined;
  readonly jobs: number | undefined;
  readonly seed: string;
  /** `index` from 1. */
  readonly shard: { readonly index: number; readonly count: number };
  readonly mutate: boolean;
  readonly strategies: readonly Mixed[];
  readonly possible: readonly string[];
  readonly corpus: string | undefined;
  readonly state: string | undefined;
}

/** Throws UsageError. */
export function fuzzOptions(args: Readonly<Record<string, unknown>>, findingKinds: readonly string[]): FuzzOptions {
  const forMs = durationOption(args, 'for');
  const jobs = countOption(args, 'jobs', { example: 2 });
  if (jobs !== undefined && jobs > JOBS_MAX) throw new UsageError(`--jobs cannot be ${jobs}: at most ${JOBS_MAX}`);
  return {
    runs: countOption(args, 'runs') ?? (forMs === undefined ? RUNS : Number.POSITIVE_INFINITY),
    forMs,
    jobs,
    seed: textOption(args, 'seed') ?? '1',
    shard: shardOption(args),
    mutate: args.mutate === true,
    strategies: chosen(args, 'strategies', MIXED, MIXED),
    possible: chosen(args, 'possible', findingKinds, []),
    corpus: textOption(args, 'corpus'),
    state: textOption(args, 'state'),
  };
}

function shardOption(args: Readonly<Record<string, unknown>>): FuzzOptions['shard'] {
  const text = textOption(args, 'shard');
  if (text === undefined) return { index: 1, count: 1 };
  const match = /^(\d{1,6})\/(\d{1,6})$/.exec(text);
  const index = Number(match?.[1]);
  const count = Number(match?.[2]);
  if (match === null || index < 1 || index > count)
    throw new UsageError(`--shard cannot be \`${text}\`: expected i/n with i from 1 to n`, 'such as --shard 2/4');
  return { index, count };
}

/** Words of a list, each one of `known`, in its order. */
function chosen<T extends string>(
  args: Readonly<Record<string, unknown>>,
  name: string,
  known: readonly T[],
  otherwise: readonly T[],
): readonly T[] {
  const given = listOption(args, name);
  if (given.length === 0) return otherwise;
  const wrong = given.find((word) => !(known as readonly string[]).includes(word));
  if (wrong !== undefined)
    throw new UsageError(`--${name} cannot be \`${wrong}\``, `expected some of ${known.join(', ')}`);
  return known.filter((word) => given.includes(word));
}
