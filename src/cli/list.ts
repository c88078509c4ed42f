// `pinsim list`: what there is to name in scenario files and on the command line.
import type { ListName } from '../scenario/catalogue.ts';
import type { Command } from './command.ts';

const TOPICS = ['kernels', 'behaviours', 'operations', 'findings', 'memory-kinds', 'labels', 'templates'] as const;

export const listCommand: Command = {
  name: 'list',
  positionals: '<topic>',
  wants: 'kernels, behaviours, operations, findings, memory-kinds, labels or templates',
  summary: 'List kernels, behaviours, operations, findings, memory kinds, labels or templates',
  options: ['format'],
  declare: (yargs) =>
    yargs
      .positional('topic', { choices: TOPICS, describe: 'What to list', demandOption: true })
      .option('format', { choices: ['text', 'json'] as const, default: 'text', describe: 'Form of the list' }),
  run: async (args, io, parts) => {
    const topic = args.topic as (typeof TOPICS)[number];
    const entries =
      topic === 'templates' ? (await import('./templates/index.ts')).TEMPLATES : await listed(topic, parts);
    const rows = entries.map(({ name, summary }) => ({ name, summary }));
    if (args.format === 'json') io.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
    else {
      const width = Math.max(0, ...rows.map((row) => row.name.length));
      for (const { name, summary } of rows) io.stdout.write(`${`${name.padEnd(width)}  ${summary}`.trimEnd()}\n`);
    }
    return 0;
  },
};

async function listed(topic: ListName, parts: Parameters<Command['run']>[2]) {
  const { listEntries } = await import('../scenario/catalogue.ts');
  return listEntries(topic, await parts.registry());
}
