// The JSON Schema of what `--format json` prints, and the zod types that it is made from. Tests hold real reports
// against them, so that they say what is printed.
import * as z from 'zod';
import { zCampaign, zWhere } from './campaign-schema.ts';
import { RESULT_VERSION } from './result.ts';

const zExpected = z.enum(['always', 'possible', 'no']).describe('Which list of the `expect` of the case has it.');
const zStatus = z.enum(['as-expected', 'not-as-expected', 'incomplete']);
const zCount = z.int().min(0);
const zTimeNs = z.number().describe('Simulated nanoseconds; 0 in searches, which have no clock.');

/** A detail of a finding; integers beyond 2^53 are decimal text. */
const zValue: z.ZodType = z.lazy(() => z.union([z.string(), z.number(), z.boolean(), z.null(), z.array(zValue)]));

const zFinding = z
  .strictObject({
    kind: z.string().describe('One of `pinsim list findings`.'),
    message: z.string().describe('What went wrong, in one sentence.'),
    reasons: z.array(z.string()).describe('The chain of causes, in order.'),
    actors: z.array(z.string()),
    objects: z.array(z.string()),
    steps: z.array(
      z.strictObject({ actor: z.string(), label: z.string(), timeNs: zTimeNs, changed: z.string().optional() }),
    ),
    details: z.record(z.string(), zValue).describe('Structured facts: errno, sizes in bytes, pfn, iova ...'),
    remedy: z.string().optional().describe('What would have made it pass.'),
    identity: z.string().describe('Same cause, same text: for deduplication.'),
  })
  .meta({ id: 'finding' });

const zPrevention = z.strictObject({ behaviour: z.string(), summary: z.string() });
const zMissing = z.strictObject({ what: z.string(), where: zWhere });
const zTrace = z.array(
  z.strictObject({ timeNs: zTimeNs, actor: z.string(), label: z.string(), changed: z.string().optional() }),
);

const CASE = {
  name: z.string(),
  kernel: z.string(),
  with: z.array(z.string()).describe('Behaviours switched on.'),
  without: z.array(z.string()).describe('Behaviours switched off.'),
  seed: z.string(),
  status: zStatus,
};

const zRunCase = z.strictObject({
  ...CASE,
  limit: z.string().optional().describe('Which limit was reached.'),
  findings: z.array(
    z.strictObject({
      finding: zFinding,
      expected: zExpected,
      replay: z.string().describe('A command line that shows it again.'),
      preventedBy: z.array(zPrevention),
      where: zWhere.optional().describe('The line of the scenario that it belongs to.'),
    }),
  ),
  failed: z.array(z.strictObject({ where: zWhere, actor: z.string(), operation: z.string(), message: z.string() })),
  missingFindings: z.array(zMissing),
  missingLabels: z.array(zMissing),
  timeNs: zTimeNs,
  steps: zCount,
  digest: z.string().describe('Of the final state and the path to it; equal for equal runs on every machine.'),
  trace: zTrace.optional(),
});

const zStory = z
  .strictObject({
    actors: z.array(z.string()),
    rows: z.array(
      z.strictObject({
        step: z.int().min(1),
        actor: z.string(),
        label: z.string(),
        operation: z.string().optional(),
        line: z.int().optional(),
        changed: z.array(z.string()),
        notes: z.array(z.string()),
      }),
    ),
    switches: z.array(z.strictObject({ after: zCount, actor: z.string(), before: z.string(), to: z.string() })),
    steps: zCount,
    shownAt: z.int().optional(),
  })
  .meta({ id: 'story' });

const zSize = z.strictObject({ actors: zCount, scriptSteps: zCount, steps: zCount, preemptions: zCount });

const zShrunk = z
  .strictObject({
    before: zSize,
    after: zSize,
    executions: zCount,
    minimal: z.boolean().describe('No further step, actor or preemption can go.'),
    omitted: z.array(z.string()),
  })
  .optional();

const zSearchFinding = z.strictObject({
  finding: zFinding,
  expected: zExpected,
  token: z.string().describe('One line for `pinsim replay`.'),
  schedule: z.array(z.strictObject({ actor: z.string(), label: z.string(), choices: z.array(zCount) })),
  firstExecution: zCount.describe('Number (from 0) of the execution that showed it first.'),
  executions: zCount.describe('How many executions showed it.'),
  preventedBy: z.array(zPrevention),
  where: zWhere.optional().describe('The line of the scenario that it belongs to.'),
  shrunk: zShrunk,
  story: zStory.optional().describe('The steps that matter.'),
  fixes: z
    .array(
      z.strictObject({
        behaviour: z.string(),
        summary: z.string(),
        step: z.int().min(1),
        row: zStory.shape.rows.element.optional(),
        instead: z.strictObject({ actor: z.string(), label: z.string() }).optional(),
        searched: z.string(),
      }),
    )
    .optional()
    .describe('Behaviours that prevent it, and where the run parts from this one.'),
  nearest: z
    .strictObject({
      change: z.string(),
      token: z.string(),
      differsAt: z.int().min(1),
      failing: zStory,
      passing: zStory,
    })
    .optional()
    .describe('The nearest interleaving that passes.'),
});

const zReplay = z.strictObject({
  verdict: z.enum(['shown', 'nearby', 'other', 'gone', 'appears']),
  kept: z.strictObject({ kind: z.string(), absent: z.boolean() }).optional(),
  scenarioChanged: z.boolean(),
  otherKernel: z.boolean(),
  omitted: z.array(z.string()),
  missing: z.array(z.string()),
  steps: zCount,
  diverged: z
    .strictObject({
      steps: zCount,
      segment: z.int().min(1),
      actor: z.string(),
      label: z.string().nullable(),
      message: z.string(),
      offers: z.array(z.strictObject({ actor: z.string(), label: z.string(), waitsFor: z.string().optional() })),
    })
    .optional(),
});

const zSearchCase = z.looseObject({
  ...CASE,
  method: z.strictObject({ strategy: z.string(), exhaustive: z.boolean(), words: z.string() }),
  verdict: z.enum(['verified', 'violated', 'no-finding', 'incomplete']),
  executions: zCount,
  violating: zCount.optional().describe('Executions that showed a finding, whatever its cause.'),
  blocked: zCount.describe('Executions that only repeated others.'),
  steps: zCount.describe('Of all executions.'),
  estimate: z
    .strictObject({ total: z.number(), error: z.number().nullable() })
    .nullable()
    .describe('How many executions a complete search makes; error: two standard errors.'),
  limits: z.array(z.string()).describe('What kept the search from being complete.'),
  restsOn: z.array(z.string()).describe('What `verified` rests on.'),
  findings: z.array(zSearchFinding),
  missingFindings: z.array(zMissing),
  absent: z.array(z.strictObject({ missing: zMissing, executions: zCount, token: z.string(), shrunk: zShrunk })),
  missingLabels: z.array(zMissing),
  replay: zReplay.optional(),
});

const zTally = z.strictObject({
  scenarios: zCount,
  cases: zCount,
  asExpected: zCount,
  notAsExpected: zCount,
  incomplete: zCount,
});

const HEAD = {
  version: z.literal(RESULT_VERSION).describe('Changes when a reader would have to.'),
  pinsim: z.string().describe('Version of the program.'),
  tally: zTally,
};

const scenarioOf = <T extends z.ZodType>(one: T) =>
  z.strictObject({ file: z.string(), title: z.string(), bug: z.string().optional(), cases: z.array(one) });

/** What `--format json` prints. */
export const zReport = z.discriminatedUnion('command', [
  z.strictObject({ ...HEAD, command: z.literal('run'), scenarios: z.array(scenarioOf(zRunCase)) }),
  z.looseObject({
    ...HEAD,
    command: z.enum(['explore', 'fuzz', 'replay', 'shrink']),
    scenarios: z.array(scenarioOf(zSearchCase)),
    campaign: zCampaign.optional(),
  }),
]);

/** JSON Schema (draft 2020-12) of a report. */
export function resultJsonSchema(): Record<string, unknown> {
  const { $schema, ...rest } = z.toJSONSchema(zReport) as Record<string, unknown>;
  return { $schema, title: 'pinsim report', ...rest };
}
