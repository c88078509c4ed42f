// The corpus folder: one small text file per cause, meant to be committed and replayed first. Its name follows from the
// cause, so that the same cause found again is the same file. A case is kept the moment it is found, and again when it has
// been made small. A line per fact behind `#`; when the campaign made the
// workload up, the scenario follows, and the file can be run like any other.
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { plural } from '../../report/value.ts';
import type { FuzzAbsence, FuzzFinding } from '../../scenario/search/fuzz-result.ts';
import type { SearchFinding } from '../../scenario/search/result.ts';
import { type CaseToken, parseCaseToken, printCaseToken } from '../../scenario/search/token.ts';
import type { Io } from '../io.ts';
import { writeWhole } from '../output.ts';
import { UsageError } from '../usage.ts';

/** What tells a case from files that somebody else put there. */
const HEADER = '# pinsim corpus';
const FIRST_LINE = `${HEADER} 1`;
const REPLAY_LINE = /^# replay: pinsim replay '(.*)'$/m;

/** Most ignored files that are named. */
const IGNORED_NAMED = 5;

/** A case of the folder. */
export interface CorpusEntry {
  /** Name in the folder, and with the folder. */
  readonly name: string;
  readonly path: string;
  readonly token: string;
  readonly says: string;
  readonly kind: string;
  /** What tells it apart from other findings. */
  readonly cause: string;
  readonly scenario: string;
  /** The scenario, when it is one that was made up. */
  readonly text?: string;
}

/** What is to be kept. */
export interface NewEntry {
  readonly file: string;
  /** In the name of the file: the kind of the finding, or `no-` and the kind that every run must show. */
  readonly what: string;
  readonly says: string;
  readonly kind: string;
  readonly cause: string;
  readonly token: string;
  readonly workload?: FuzzFinding['workload'];
}

export function entryOf({ file, finding, token, workload }: FuzzFinding): NewEntry {
  const { kind, message, identity } = finding;
  const made = workload === undefined ? {} : { workload };
  return { file, what: kind, says: message, kind, cause: identity, token, ...made };
}

/** The same, as it is told: its schedule was made small. */
export function smallEntryOf(
  found: FuzzFinding,
  { finding, token }: SearchFinding,
): NewEntry & { readonly from: string } {
  return { ...entryOf({ ...found, finding, token }), from: found.token };
}

/** The same, made small. */
export function smallEntryOfAbsence(lacking: FuzzAbsence, token: string): NewEntry & { readonly from: string } {
  return { ...entryOfAbsence({ ...lacking, token }), from: lacking.token };
}

export function entryOfAbsence({ file, pattern, kind, token }: FuzzAbsence): NewEntry {
  const says = `a run does not show ${pattern}, which every run must show`;
  return { file, what: `no-${kind}`, says, kind, cause: `absent|${pattern}`, token };
}

/** Where a case is kept, as a file name. `hash`: of its cause. */
export function entryName({ file, what, workload }: NewEntry, hash: string): string {
  const story = basename(file).replace(/\.ya?ml$/, '');
  return `${story}--${what}--${hash}.${workload === undefined ? 'txt' : 'yaml'}`;
}

/**
 * All cases of the folder, by name. A folder that does not exist is empty; files that are something else, such as a
 * README.txt, are ignored, and named on stderr. Throws UsageError for a case that is broken.
 */
export function readCorpus(io: Io, folder: string): readonly CorpusEntry[] {
  const path = resolve(io.cwd, folder);
  if (!existsSync(path)) return [];
  if (!statSync(path).isDirectory()) throw new UsageError(`${folder} is no folder`);
  const isFile = (name: string): boolean => statSync(join(path, name), { throwIfNoEntry: false })?.isFile() === true;
  const files = readdirSync(path)
    .filter((name) => /\.(txt|yaml)$/.test(name) && isFile(name))
    .sort((a, b) => (a < b ? -1 : 1))
    .map((name) => ({ name, text: readFileSync(join(path, name), 'utf8') }));
  const foreign = files.filter(({ text }) => !text.startsWith(HEADER)).map(({ name }) => name);
  if (foreign.length > 0) {
    const names = foreign.length > IGNORED_NAMED ? [...foreign.slice(0, IGNORED_NAMED), '...'] : foreign;
    const what = `${plural(foreign.length, 'file')} of ${folder} that no campaign wrote`;
    io.stderr.write(`pinsim: ignored ${what}: ${names.join(', ')}\n`);
  }
  return files
    .filter(({ text }) => text.startsWith(HEADER))
    .map(({ name, text }) => readEntry(join(folder, name), name, text));
}

function readEntry(file: string, name: string, text: string): CorpusEntry {
  const fact = (key: string): string => {
    const found = new RegExp(`^# ${key}: (.*)$`, 'm').exec(text)?.[1];
    if (found === undefined) throw new UsageError(`${file} is no case of a corpus: it has no line \`# ${key}: ...\``);
    return found;
  };
  if (!text.startsWith(FIRST_LINE))
    throw new UsageError(`${file} is no case of a corpus of this version`, `such a file starts with \`${FIRST_LINE}\``);
  return {
    name,
    path: file,
    token: fact('replay').replace(/^pinsim replay '(.*)'$/, '$1'),
    says: fact('says'),
    kind: fact('kind'),
    cause: fact('cause'),
    scenario: fact('scenario'),
    ...(name.endsWith('.yaml') ? { text } : {}),
  };
}

/** Keep a case as it was found, unless its cause is kept already. */
export function keep(io: Io, folder: string, name: string, found: NewEntry, version: string): void {
  const path = resolve(io.cwd, folder);
  mkdirSync(path, { recursive: true });
  if (!existsSync(join(path, name))) writeWhole(io, join(folder, name), entryText(found, join(folder, name), version));
}

/**
 * Keep a case that was made small from the one with `token`: in its place, or in that of a larger one with the same
 * cause. What is kept and cannot be read stays for the next campaign to complain about.
 */
export function keepSmall(
  io: Io,
  folder: string,
  name: string,
  small: NewEntry & { readonly from: string },
  version: string,
): void {
  const path = join(resolve(io.cwd, folder), name);
  const kept = existsSync(path) ? tokenIn(readFileSync(path, 'utf8')) : undefined;
  if (kept === undefined) return;
  const isFrom = kept.schedule === parseCaseToken(small.from).schedule;
  if (!isFrom && !isSmaller(parseCaseToken(small.token), kept)) return;
  const text = entryText(small, join(folder, name), version);
  if (text !== readFileSync(path, 'utf8')) writeWhole(io, join(folder, name), text);
}

/** Is the case there as it was found with `token`, not made small yet? */
export function isAsFound(io: Io, folder: string, name: string, token: string): boolean {
  const path = join(resolve(io.cwd, folder), name);
  const kept = existsSync(path) ? tokenIn(readFileSync(path, 'utf8')) : undefined;
  return kept !== undefined && kept.schedule === parseCaseToken(token).schedule;
}

/** A shorter schedule; of two as long, the one that leaves more of the workload out. */
function isSmaller(a: CaseToken, b: CaseToken): boolean {
  const shorter = b.schedule.length - a.schedule.length;
  return shorter > 0 || (shorter === 0 && a.omitted.length > b.omitted.length);
}

function tokenIn(text: string): CaseToken | undefined {
  const token = REPLAY_LINE.exec(text)?.[1];
  try {
    return token === undefined ? undefined : parseCaseToken(token);
  } catch {
    return undefined;
  }
}

function entryText(entry: NewEntry, path: string, version: string): string {
  const { file, says, kind, cause, token, workload } = entry;
  // The token calls a made-up scenario by the name under which it is kept.
  const replay = workload === undefined ? token : printCaseToken({ ...parseCaseToken(token), file: path });
  const lines = [
    FIRST_LINE,
    `# says: ${oneLine(says)}`,
    `# kind: ${kind}`,
    `# cause: ${oneLine(cause)}`,
    `# scenario: ${file}`,
    `# found by: pinsim ${version}`,
    `# replay: pinsim replay '${replay}'`,
  ];
  return `${lines.join('\n')}\n${workload === undefined ? '' : `\n${workload.text}`}`;
}

function oneLine(text: string): string {
  return text.replaceAll(/\s*\n\s*/g, ' ');
}
