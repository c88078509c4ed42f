// `pinsim explain`: what a finding means, what a behaviour is and which kernels have it.
import type { Command } from './command.ts';

export const explainCommand: Command = {
  name: 'explain',
  positionals: '<name>',
  wants: 'a name from `pinsim list findings`, `behaviours`, `operations` or `memory-kinds`',
  summary: 'Explain a finding, a behaviour, an operation, a word of scripts or a memory kind',
  options: [],
  declare: (yargs) =>
    yargs
      .positional('name', { type: 'string', describe: 'A name from `pinsim list`', demandOption: true })
      .example('pinsim explain stale-mapping', 'What the finding says, and what to look at'),
  run: async (args, io, parts) => {
    const { explain, explainableNames } = await import('../scenario/catalogue.ts');
    const registry = await parts.registry();
    const name = String(args.name);
    const lines = explain(name, registry);
    if (lines === undefined) {
      const { didYouMean } = await import('../scenario/file/diagnostic.ts');
      const { UsageError } = await import('./usage.ts');
      const hint =
        didYouMean(name, explainableNames(registry)) ?? 'see `pinsim list findings` and `pinsim list behaviours`';
      throw new UsageError(`nothing is called \`${name}\``, hint);
    }
    const { wrap } = await import('../report/value.ts');
    const width = Math.min(100, io.stdout.columns ?? 100);
    for (const line of lines) io.stdout.write(`${(line.startsWith(' ') ? [line] : wrap(line, width)).join('\n')}\n`);
    return 0;
  },
};
