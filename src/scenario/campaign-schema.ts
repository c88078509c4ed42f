// The schema of what `pinsim fuzz --format json` says of the campaign as a whole, beside its cases.
import * as z from 'zod';

const zCount = z.int().min(0);
const zSums = z.record(z.string(), zCount);

export const zWhere = z.strictObject({ file: z.string(), line: z.int().min(1), column: z.int().min(1) });

const zCorpusReplay = z.strictObject({
  entry: z.string().describe('The file in the folder.'),
  path: z.string().describe('The file with the folder.'),
  token: z.string(),
  says: z.string().describe('What it found when it was kept.'),
  kind: z.string().describe('The kind of the finding.'),
  cause: z.string().describe('The identity of the finding; `absent|` and the entry of `always` that a run lacked.'),
  scenario: z.string().describe('The file that it was found in.'),
  case: z.string().optional().describe('The case that it was replayed on.'),
  where: zWhere.optional().describe('The line of the scenario that the finding belongs to.'),
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
    absent: zCount.describe('Findings that every run of a case must show, and that some run did not.'),
    notYet: z.array(z.string()).describe('Cases that have not had a turn.'),
    corpus: z.array(zCorpusReplay),
    coverage: zCoverage,
  })
  .describe('Only of fuzz: the campaign as a whole.');
