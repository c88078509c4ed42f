// `pinsim schema`: the JSON Schema of scenario files. It is generated on demand and not kept in the repository; the
// `$schema` line of a scenario names the file that `-o` wrote, relative to the scenario.
import type { Command } from './command.ts';
import { textOption } from './command.ts';

export const schemaCommand: Command = {
  name: 'schema',
  positionals: '',
  summary: 'Print the JSON Schema of scenario files, for editors',
  options: ['output'],
  declare: (yargs) =>
    yargs
      .option('output', { type: 'string', alias: 'o', requiresArg: true, describe: 'Write it to a file' })
      .example('pinsim schema -o scenario.schema.json', 'Then begin scenarios with `$schema: ./scenario.schema.json`'),
  run: async (args, io, parts) => {
    const { scenarioJsonSchema } = await import('../scenario/json-schema.ts');
    const text = `${JSON.stringify(scenarioJsonSchema(await parts.registry()), null, 2)}\n`;
    const output = textOption(args, 'output');
    if (output === undefined) io.stdout.write(text);
    else (await import('./output.ts')).writeWhole(io, output, text);
    return 0;
  },
};
