// Replays recorded cases: runs the programs that report them on the profile of the kernel that was recorded, and judges
// every case.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { type Judged, judge, keyOf, type Missing, type Recorded } from './compare.ts';
import type { Program } from './program.ts';
import { PROGRAMS } from './programs/index.ts';
import { type Emitted, runProgram, Unsupported } from './session.ts';

/** What recorded kernels call themselves, and the profile of each; the first that fits. */
const PROFILES = [
  { named: '6.1.*', like: /^6\.1(?!\d)/, profile: 'v6.1.192' },
  { named: '6.12.*-pinlab', like: /^6\.12(?!\d).*pinlab/, profile: 'v6.12.117+pinlab' },
  { named: '6.12.*', like: /^6\.12(?!\d)/, profile: 'v6.12.117' },
];

/** The profile that stands for a recorded kernel; throws when none does. */
export function profileOf(kernel: string): string {
  const found = PROFILES.find(({ like }) => like.test(kernel));
  if (found !== undefined) return found.profile;
  const known = PROFILES.map(({ named, profile }) => `${named} (${profile})`).join(', ');
  throw new Error(
    `no profile stands for the recorded kernel ${JSON.stringify(kernel)}; known: ${known}. ` +
      'Replay the others with --kernel, or name its profile in test/conformance/replay.ts',
  );
}

const RECORDED: z.ZodType<Recorded> = z.object({
  case: z.string().min(1),
  kernel: z.string().min(1),
  args: z.record(z.string(), z.unknown()),
  ret: z.number(),
  errno: z.string().nullable(),
  observed: z.record(z.string(), z.unknown()),
});

/** The recorded cases in a file's text; none in kernel-config.json, which lies beside the cases and is an object. */
function casesIn(name: string, text: string): readonly Recorded[] {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch (error) {
    throw new Error(`${name}: no JSON: ${(error as Error).message}`);
  }
  if (!Array.isArray(content)) return [];
  content.forEach((one: unknown, index) => {
    const parsed = RECORDED.safeParse(one);
    if (parsed.success) return;
    const named = (one as { case?: unknown } | null)?.case;
    const which = typeof named === 'string' ? `${index} (${named})` : `${index}`;
    const mistakes = parsed.error.issues.map(({ path, message }) => [...path, message].join(': '));
    throw new Error(`${name}: the case at index ${which}: ${mistakes.join('; ')}`);
  });
  return content as readonly Recorded[];
}

/** Every recorded case of a folder; throws when there is none, and names the file of one that it cannot read. */
export function readCases(folder: string): readonly Recorded[] {
  const files = readdirSync(folder).filter((name) => name.endsWith('.json'));
  const cases = files.sort().flatMap((name) => casesIn(name, readFileSync(join(folder, name), 'utf8')));
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
  const profile = profileOf(kernel);
  const emitted = new Map<string, Emitted>();
  const broken = new Map<Program, Missing>();
  for (const program of PROGRAMS) {
    if (!cases.some((one) => reports(program, one.case))) continue;
    const found: Emitted[] = [];
    try {
      runProgram(profile, program.boot, (session) => program.run(session), found);
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
