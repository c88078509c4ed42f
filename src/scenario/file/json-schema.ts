// The JSON Schema of scenario files, generated from the same zod types that the loader parses with, operations
// included, so that an editor completes and checks what the loader accepts.
import * as z from 'zod';
import type { Operation, OperationRegistry } from '../operation.ts';
import { isScriptType } from './reference.ts';
import { zScenario } from './schema.ts';
import { CONTROL_TYPES, MODIFIER_TYPES } from './step.ts';

type Json = Record<string, unknown>;

/** JSON Schema (draft 2020-12) of a whole scenario file. */
export function scenarioJsonSchema(registry: OperationRegistry): Json {
  const scenario = toJson(zScenario);
  const { $schema, ...rest } = scenario;
  return {
    $schema,
    title: 'pinsim scenario',
    ...rest,
    $defs: { ...(rest.$defs as Json | undefined), script: SCRIPT, step: stepSchema(registry) },
  };
}

const SCRIPT: Json = {
  type: 'array',
  description: 'Steps, performed one after the other.',
  items: { $ref: '#/$defs/step' },
};

/** One mapping with every word as a possible key, of which exactly one must stand there: editors complete that best. */
function stepSchema(registry: OperationRegistry): Json {
  const words: Json = {};
  for (const operation of registry.all()) words[operation.name] = operationSchema(operation);
  for (const [word, type] of Object.entries(CONTROL_TYPES)) words[word] = inner(type);
  const modifiers: Json = {};
  for (const [word, type] of Object.entries(MODIFIER_TYPES)) modifiers[word] = inner(type);
  const bare = registry
    .all()
    .filter((operation) => operation.args.safeParse({}).success)
    .map((operation) => operation.name);
  const step: Json = {
    type: 'object',
    description: 'One operation or control word, and what is expected of it.',
    properties: { ...words, ...modifiers },
    additionalProperties: false,
    oneOf: Object.keys(words).map((word) => ({ type: 'object', properties: { [word]: {} }, required: [word] })),
  };
  return bare.length === 0 ? step : { anyOf: [step, { enum: bare }] };
}

function operationSchema(operation: Operation): Json {
  const schema = inner(operation.args);
  const shows = Object.entries(operation.shows ?? {}).map(([key, meaning]) => `${key}: ${meaning}`);
  const description = [operation.summary, ...(shows.length === 0 ? [] : [`Shows ${shows.join('; ')}`])].join('\n');
  // `drop_caches:` with nothing behind it stands for no arguments.
  if (operation.args.safeParse({}).success) return { description, anyOf: [schema, { type: 'null' }] };
  return { ...schema, description };
}

/** The schema of what stands behind one word of a step. */
export function wordSchema(type: z.ZodType): Json {
  return inner(type);
}

function inner(type: z.ZodType): Json {
  const { $schema: _, ...schema } = toJson(type);
  return schema;
}

function toJson(type: z.ZodType): Json {
  return z.toJSONSchema(type, {
    io: 'input',
    unrepresentable: 'any',
    reused: 'inline',
    override: ({ zodSchema, jsonSchema }) => {
      const json = jsonSchema as Json;
      if (isScriptType(zodSchema)) {
        for (const key of Object.keys(json)) delete json[key];
        json.$ref = '#/$defs/script';
      } else if (zodSchema._zod.def.type === 'bigint') json.type = 'integer';
    },
  }) as Json;
}
