// `pinsim schema`: the JSON Schema of scenario files, or of the reports that `--format json` prints. It is generated and not
// kept in the repository: the build writes the one beside the library, which the `$schema` lines there name; `-o` others.
import type { Command, Parts } from './command.ts';
import { textOption } from './command.ts';

export const schemaCommand: Command = {
  name: 'schema',
  positionals: '',
  summary: 'Print the JSON Schema of scenario files, for editors, or of reports',
  options: ['result', 'output'],
  declare: (yargs) =>
    yargs
      .option('result', { type: 'boolean', describe: 'The schema of what --format json prints' })
      .option('output', { type: 'string', alias: 'o', requiresArg: true, describe: 'Write it to a file' })
      .example('pinsim schema -o scenario.schema.json', 'Then begin scenarios with `$schema: ./scenario.schema.json`'),
  run: async (args, io, parts) => {
    const schema = args.result === true ? await resultSchema() : await scenarioSchema(parts);
    const text = `${JSON.stringify(schema, null, 2)}\n`;
    const output = textOption(args, 'output');
    if (output === undefined) io.stdout.write(text);
    else (await import('./output.ts')).writeWhole(io, output, text);
    return 0;
  },
};

async function scenarioSchema(parts: Parts): Promise<unknown> {
  const { scenarioJsonSchema } = await import('../scenario/file/json-schema.ts');
  return scenarioJsonSchema(await parts.registry());
}

async function resultSchema(): Promise<unknown> {
  return (await import('../scenario/result-schema.ts')).resultJsonSchema();
}
