// The whole scenario file as one zod type. Scripts inside it stay as written; compile.ts reads them once the names of
// everything are known.
import * as z from 'zod';
import { FINDING_NAMES } from '../finding-kinds.ts';
import { EXPECTATION_TYPES, type FindingPattern, type Matcher } from './expectation.ts';
import { zCount, zKernelName, zName } from './scalar.ts';
import { zHost } from './schema-host.ts';
import { zMemory } from './schema-memory.ts';
import { orEmpty, zActor, zDevice, zProcess, zVm } from './schema-world.ts';

const zFindingKind = z.enum(FINDING_NAMES as readonly [string, ...string[]]);

const zFindingPattern = z
  .union([
    zFindingKind.transform((kind): FindingPattern => ({ kind, details: {} })),
    z
      .looseObject({ kind: zFindingKind })
      .catchall(EXPECTATION_TYPES.returns)
      .transform(({ kind, ...details }): FindingPattern => ({ kind, details: details as Record<string, Matcher> })),
  ])
  .describe('A finding: its kind, or {kind, ...} with some of its details, actor or object.');

const zFindings = z
  .strictObject({
    always: z.array(zFindingPattern).optional().describe('Every run must report each of these.'),
    possible: z.array(zFindingPattern).optional().describe('A run may report these; `explore` must find each.'),
  })
  .describe('Which findings are expected; {} for none.');

const zBehaviours = z.array(z.string().min(1));

const zCase = z
  .strictObject({
    name: z.string().optional().describe('Default: the kernel and what was switched.'),
    kernel: zKernelName.optional().describe("Default: the scenario's."),
    with: zBehaviours.optional().describe("Behaviours switched on, beside the scenario's."),
    without: zBehaviours.optional().describe("Behaviours switched off, beside the scenario's."),
    host: zHost.optional().describe("Changes to the scenario's host."),
    steps: z
      .record(
        zName,
        z.strictObject({
          expect: EXPECTATION_TYPES.expect.optional(),
          returns: EXPECTATION_TYPES.returns.optional(),
          shows: EXPECTATION_TYPES.shows.optional(),
        }),
      )
      .optional()
      .describe('What this case expects of named steps (`as: name`), in place of what stands there.'),
    expect: zFindings.optional().describe("Default: the scenario's."),
  })
  .describe('The scenario on one kernel with one set of behaviours.');

export const zScenario = z
  .strictObject({
    $schema: z.string().optional().describe('Where `pinsim schema -o` wrote this schema.'),
    title: z.string().min(1).describe('One sentence: what happens.'),
    description: z.string().optional().describe('What a reader learns from it.'),
    source: z
      .union([z.string(), z.array(z.string())])
      .optional()
      .describe('Where the story comes from.'),
    bug: z.string().optional().describe('The id of the kernel bug that it shows.'),
    kernel: zKernelName.optional().describe('Default kernel of all cases.'),
    arch: z.enum(['x86_64', 's390x', 'arm64']).optional(),
    with: zBehaviours.optional().describe('Behaviours switched on in all cases (`id`, or `id=way`).'),
    without: zBehaviours.optional().describe('Behaviours switched off in all cases.'),
    seed: z.union([z.string(), zCount()]).optional().describe('Of the random streams; default 1.'),
    host: zHost.optional(),
    memory: z.record(zName, zMemory).optional().describe('Memory objects by name.'),
    processes: z.record(zName, orEmpty(zProcess)).optional(),
    vms: z.record(zName, zVm).optional(),
    devices: z.record(zName, orEmpty(zDevice)).optional(),
    actors: z.record(zName, zActor).describe('Who does what: a script each; all run at once.'),
    expect: zFindings.optional(),
    reaches: z
      .array(z.string())
      .optional()
      .describe('Labels of steps that a run must have reached, and some interleaving of a search.'),
    cases: z.array(zCase).min(1).optional().describe('Default: one case, the scenario itself.'),
  })
  .describe('A scenario of pinsim.');

export type ScenarioSpec = z.output<typeof zScenario>;
export type CaseSpec = z.output<typeof zCase>;
export type FindingsSpec = z.output<typeof zFindings>;
