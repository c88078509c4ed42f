// The schema of what `pinsim fuzz --format json` says of the campaign as a whole, beside its cases.
import * as z from 'zod';

const zCount = z.int().min(0);
const zSums = z.record(z.string(), zCount);

const zCorpusReplay = z.strictObject({
  entry: z.string().describe('The file in the folder.'),
  token: z.string(),
  says: z.string().describe('What it found when it was kept.'),
  outcome: z
    .enum(['shows', 'expected', 'gone', 'broken'])
    .describe('Still found; found as the scenario says; not found; not to be replayed.'),
  note: z.string().optional().describe('Where the schedule no longer fits, or why there is nothing to replay.'),
});

const zCoverage = z.strictObject({
  labelsReached: zCount,
  labelsKnown: zCount,
  behavioursAsked: zCount,
  behavioursBothWays: zCount,
  behavioursKnown: zCount,
  features: zCount.describe('Labels, answers of behaviours and pairs of dependent steps.'),
  labelsNever: z.array(z.string()),
  behavioursNever: z.array(z.string()),
  behavioursOneWay: z.array(z.strictObject({ behaviour: z.string(), answer: z.string() })),
});

export const zCampaign = z
  .strictObject({
    seed: z.string(),
    shard: z.strictObject({ index: z.int().min(1), count: z.int().min(1) }).optional(),
    mutate: z.boolean(),
    scenarios: zCount,
    cases: zCount,
    runs: zCount,
    steps: zCount,
    runsBy: zSums.describe('Runs by strategy.'),
    workloads: zCount.describe('Workloads made up.'),
    limits: zSums.describe('Runs that did not come to their end, by what stopped them.'),
    stopped: z.string().optional().describe('Why it ended before its last run.'),
    unexpected: zCount.describe('Causes that no scenario expects.'),
    expected: zCount,
    notYet: z.array(z.string()).describe('Cases that have not had a turn.'),
    corpus: z.array(zCorpusReplay),
    coverage: zCoverage,
  })
  .describe('Only of fuzz: the campaign as a whole.');
