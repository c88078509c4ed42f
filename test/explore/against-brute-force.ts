// The explorer and the brute force on one program: the same traces, each once.
import { Sim } from '../../src/engine/sim.ts';
import { Program } from '../../src/explore/program.ts';
import { Runner } from '../../src/explore/runner.ts';
import { Dpor } from '../../src/explore/schedulers/dpor.ts';
import { type Build, bruteForce, traceKey } from './brute-force.ts';

export interface Comparison {
  readonly traces: number;
  readonly interleavings: number;
  /** What differs, in words; empty when nothing does. */
  readonly differences: readonly string[];
  readonly deadlocks: number;
  readonly findings: number;
}

/** Throws when the program has more than `limit` inequivalent prefixes. */
export function compare(build: Build, limit: number): Comparison {
  const brute = bruteForce(build, limit);
  const sim = new Sim({ checked: true, journaled: true });
  build(new Program(sim));
  const runner = new Runner(sim);
  const dpor = new Dpor(sim);
  const seen = new Set<string>();
  const findings = new Set<string>();
  const differences: string[] = [];
  let deadlocks = 0;
  let executions = 0;
  let blocked = 0;
  while (executions < 3 * brute.traces.size + 10 && runner.execute(dpor, executions)) {
    executions++;
    if (dpor.redundant) blocked++;
    // Livelocks show in some linearizations of a trace only.
    for (const { kind, message } of runner.findings) {
      if (kind !== 'deadlock' && kind !== 'livelock') findings.add(message);
    }
    if (sim.processes.length > 0 && runner.end === 'deadlock') deadlocks++;
    const key = traceKey(build, runner.initialChoices, runner.schedule());
    if (seen.has(key)) differences.push(`twice: ${key}`);
    seen.add(key);
    if (!brute.traces.has(key)) differences.push(`no trace: ${key}`);
  }
  for (const key of brute.traces) if (!seen.has(key)) differences.push(`missed: ${key}`);
  if (blocked > 0) differences.push(`${blocked} blocked`);
  if (!dpor.finished) differences.push('not finished');
  if ([...findings].sort().join('\n') !== brute.findings.join('\n')) differences.push('findings differ');
  const { interleavings } = brute;
  return { traces: brute.traces.size, interleavings, differences, deadlocks, findings: findings.size };
}
