// The plan of a fuzzing campaign: which run works on what. Runs are numbered from 0, and what run i does is a function of
// the campaign's seed and i alone, so that any number of workers gives the same result and a shard is a part of the whole.
//
// A round visits every subject that is due (a large one is due only every so many rounds) with one slot each; a slot is
// `runsPerSlot` consecutive runs on the same workload. Whole rounds make an epoch: what is learned from one epoch guides
// later ones. Workers are handed units: runs of one epoch on one subject.

/** What a campaign must know of a subject: only what is known before anything has run. */
export interface CampaignSubject {
  /** It is due in every `stride`-th round, first in the middle of those: large ones do not hold up a short campaign. */
  readonly stride: number;
}

export interface CampaignOptions {
  readonly subjects: readonly CampaignSubject[];
  /** Runs of the whole campaign, all shards together. Infinity: until somebody stops it. */
  readonly runs: number;
  readonly runsPerSlot: number;
  /** This part (from 0) of `shards` parts. */
  readonly shard: number;
  readonly shards: number;
  /** Each slot is a unit of its own: its workload is. Default false: slots of one subject are taken together. */
  readonly unitPerSlot?: boolean;
}

/** Work for one worker. */
export interface Unit {
  /** Dense, from 0, in the order of the plan. */
  readonly number: number;
  readonly epoch: number;
  readonly subject: number;
  /** Numbers of its runs, ascending. */
  readonly runs: readonly number[];
}

export interface Epoch {
  readonly number: number;
  readonly units: readonly Unit[];
  /** Runs in all its units. */
  readonly runs: number;
  /** All runs below this number are in this epoch or an earlier one (of this shard or another). */
  readonly to: number;
}

/** Runs of an epoch from which workloads are learned, roughly. */
const LEARNING_RUNS = 1024;
/** Runs of an epoch otherwise: the first has a round, so that every subject has its turn soon, later ones double. */
const EPOCH_RUNS = 4096;
/** Runs that a unit has at most: a worker that is stopped loses no more than these. */
const UNIT_RUNS = 64;

/** The epochs of one shard, in order. Ends when the runs are used up; without a limit it never does. */
export function* epochsOf(options: CampaignOptions): Generator<Epoch, void, undefined> {
  const { subjects, runs, runsPerSlot, shards } = options;
  if (subjects.length === 0) return;
  const learning = options.unitPerSlot === true;
  const most = Math.max(1, Math.ceil((learning ? LEARNING_RUNS : EPOCH_RUNS) / (subjects.length * runsPerSlot)));
  let nextRun = 0;
  let nextRound = 0;
  let nextUnit = 0;
  for (let number = 0; nextRun < runs; number++) {
    const bySubject: number[][][] = subjects.map(() => []);
    const from = nextRound;
    nextRound += shards * (learning ? most : Math.min(most, 2 ** Math.min(number, 30)));
    for (let round = from; round < nextRound && nextRun < runs; round++) {
      for (const [subject, { stride }] of subjects.entries()) {
        if (round % stride !== stride >> 1 || nextRun >= runs) continue;
        const first = nextRun;
        nextRun = Math.min(first + runsPerSlot, runs);
        if ((Math.floor(round / stride) + subject) % shards !== options.shard) continue;
        bySubject[subject]!.push(Array.from({ length: nextRun - first }, (_, i) => first + i));
      }
    }
    const units: Unit[] = [];
    for (const [subject, slots] of bySubject.entries()) {
      for (const unitRuns of learning ? slots : chunks(slots.flat(), UNIT_RUNS)) {
        units.push({ number: nextUnit++, epoch: number, subject, runs: unitRuns });
      }
    }
    yield { number, units, runs: units.reduce((sum, unit) => sum + unit.runs.length, 0), to: nextRun };
  }
}

function chunks(runs: readonly number[], size: number): readonly (readonly number[])[] {
  const parts: (readonly number[])[] = [];
  for (let at = 0; at < runs.length; at += size) parts.push(runs.slice(at, at + size));
  return parts;
}
