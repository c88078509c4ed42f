// `pinsim new`: a commented scenario to start from.
import type { Command } from './command.ts';
import { textOption } from './command.ts';

export const newCommand: Command = {
  name: 'new',
  positionals: '<template>',
  wants: 'a name from `pinsim list templates`',
  summary: 'Print a commented starter scenario',
  options: ['output', 'force'],
  declare: (yargs) =>
    yargs
      .positional('template', { type: 'string', describe: 'A name from `pinsim list templates`', demandOption: true })
      .option('output', { type: 'string', alias: 'o', requiresArg: true, describe: 'Write it to a file' })
      .option('force', { type: 'boolean', describe: 'Replace the file if it exists' })
      .example('pinsim new balloon -o balloon.yaml', 'Then `pinsim run balloon.yaml`'),
  run: async (args, io) => {
    const { TEMPLATES } = await import('./templates/index.ts');
    const { UsageError } = await import('./usage.ts');
    const name = String(args.template);
    const template = TEMPLATES.find((one) => one.name === name);
    if (template === undefined) {
      const { didYouMean, nameList } = await import('../scenario/file/diagnostic.ts');
      const names = TEMPLATES.map((one) => one.name);
      throw new UsageError(`no template \`${name}\`: expected ${nameList(names)}`, didYouMean(name, names));
    }
    const output = textOption(args, 'output');
    if (output === undefined) {
      io.stdout.write(template.text);
      return 0;
    }
    const { existsSync } = await import('node:fs');
    const { resolve } = await import('node:path');
    if (args.force !== true && existsSync(resolve(io.cwd, output)))
      throw new UsageError(`${output} exists already`, 'use --force to replace it');
    (await import('./output.ts')).writeWhole(io, output, template.text);
    return 0;
  },
};
