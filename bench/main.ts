// The benchmarks by name: `npm run bench` runs all, `npm run bench -- hold resume` those named. Every figure that is
// judged is a ratio within one run, so that the machine cancels out. `--conflicts FILE [CASE] [RUNS]` is a tool instead.

import { runConflicts } from './conflicts.ts';
import { exploreSearch } from './explore-search.ts';
import { hold } from './hold.ts';
import type { Bench } from './measure.ts';
import { memoryExplore } from './memory-explore.ts';
import { pingPong } from './ping-pong.ts';
import { races } from './races.ts';
import { resume } from './resume.ts';
import { runSize, scale } from './scale.ts';

const benches: readonly Bench[] = [hold, pingPong, resume, scale, memoryExplore, exploreSearch, races];

function main(names: readonly string[]): number {
  const unknown = names.filter((name) => !benches.some((bench) => bench.name === name));
  if (unknown.length > 0) {
    const known = benches.map((bench) => `  ${bench.name.padEnd(12)} ${bench.about}\n`).join('');
    process.stderr.write(`no benchmark named ${unknown.join(', ')}; there are\n${known}`);
    return 2;
  }
  let reached = true;
  for (const bench of benches) {
    if (names.length > 0 && !names.includes(bench.name)) continue;
    process.stdout.write(`${bench.name}: ${bench.about}\n`);
    reached = bench.run((line) => process.stdout.write(`  ${line}\n`)) && reached;
  }
  return reached ? 0 : 1;
}

const [first, second, third, fourth] = process.argv.slice(2);
if (first === '--scale') runSize(Number(second));
else if (first === '--conflicts') runConflicts(second!, third, Number(fourth ?? 200));
else process.exitCode = main(process.argv.slice(2));
