// Replays recorded cases: runs the programs that report them on the profile of the kernel that was recorded, and judges
// every case.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Judged, judge, keyOf, type Missing, type Recorded } from './compare.ts';
import type { Program } from './program.ts';
import { PROGRAMS } from './programs/index.ts';
import { type Emitted, runProgram, Unsupported } from './session.ts';

/** The profile that stands for a recorded kernel. */
export function profileOf(kernel: string): string {
  if (kernel.startsWith('6.1.0-')) return 'v6.1.192';
  return kernel.includes('pinlab') ? 'v6.12.117+pinlab' : 'v6.12.117';
}

/** Every recorded case of a folder; throws when there is none. */
export function readCases(folder: string): readonly Recorded[] {
  const files = readdirSync(folder).filter((name) => name.endsWith('.json'));
  const cases = files.sort().flatMap((name) => {
    const content: unknown = JSON.parse(readFileSync(join(folder, name), 'utf8'));
    // kernel-config.json lies beside the cases and is an object.
    return Array.isArray(content) ? (content as readonly Recorded[]) : [];
  });
  if (cases.length === 0) throw new Error(`${folder} holds no recorded cases (JSON files with an array of cases each)`);
  return cases;
}

/** The kernels of a list of cases, in order. */
export function kernelsOf(cases: readonly Recorded[]): readonly string[] {
  return [...new Set(cases.map(({ kernel }) => kernel))].sort();
}

/** Does this program report cases of that name? */
export function reports(program: Program, name: string): boolean {
  return (program.reports ?? [program.name]).some((prefix) => name === prefix || name.startsWith(`${prefix}/`));
}

/** The verdict on every case; all are of one kernel. Programs that report none of them are not run. */
export function replay(kernel: string, cases: readonly Recorded[]): readonly Judged[] {
  const emitted = new Map<string, Emitted>();
  const broken = new Map<Program, Missing>();
  for (const program of PROGRAMS) {
    if (!cases.some((one) => reports(program, one.case))) continue;
    const found: Emitted[] = [];
    try {
      runProgram(profileOf(kernel), program.boot, (session) => program.run(session), found);
    } catch (error) {
      const reason = `${program.name}: ${(error as Error).message}`;
      broken.set(program, { verdict: error instanceof Unsupported ? 'unsupported' : 'wrong', reason });
    }
    for (const one of found) emitted.set(keyOf(one), one);
  }
  return cases.map((one) => judge(one, emitted.get(keyOf(one)) ?? missing(one.case, broken)));
}

/** Why nobody reported a case: the program that would have broke before it came to it, or there is none. */
function missing(name: string, broken: ReadonlyMap<Program, Missing>): Missing {
  for (const [program, reason] of broken) if (reports(program, name)) return reason;
  return { verdict: 'unsupported', reason: 'no program reports this case' };
}
