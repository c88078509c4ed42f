// The corpus folder: one small text file per cause, meant to be committed and replayed first. Its name follows from the
// cause, so that the same cause found again is the same file. A line per fact behind `#`; when the campaign made the
// workload up, the scenario follows, and the file can be run like any other.
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import type { FuzzAbsence, FuzzFinding } from '../../scenario/search/fuzz-result.ts';
import { parseCaseToken, printCaseToken } from '../../scenario/search/token.ts';
import type { Io } from '../io.ts';
import { writeWhole } from '../output.ts';
import { UsageError } from '../usage.ts';

const FIRST_LINE = '# pinsim corpus 1';

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

export function entryOfAbsence({ file, pattern, kind, token }: FuzzAbsence): NewEntry {
  const says = `a run does not show ${pattern}, which every run must show`;
  return { file, what: `no-${kind}`, says, kind, cause: `absent|${pattern}`, token };
}

/** Where a case is kept, as a file name. `hash`: of its cause. */
export function entryName({ file, what, workload }: NewEntry, hash: string): string {
  const story = basename(file).replace(/\.ya?ml$/, '');
  return `${story}--${what}--${hash}.${workload === undefined ? 'txt' : 'yaml'}`;
}

/** All cases of the folder, by name. A folder that does not exist is empty. Throws UsageError for a file of another kind. */
export function readCorpus(io: Io, folder: string): readonly CorpusEntry[] {
  const path = resolve(io.cwd, folder);
  if (!existsSync(path)) return [];
  if (!statSync(path).isDirectory()) throw new UsageError(`${folder} is no folder`);
  return readdirSync(path)
    .filter((name) => /\.(txt|yaml)$/.test(name))
    .sort((a, b) => (a < b ? -1 : 1))
    .map((name) => readEntry(join(folder, name), name, readFileSync(join(path, name), 'utf8')));
}

function readEntry(file: string, name: string, text: string): CorpusEntry {
  const fact = (key: string): string => {
    const found = new RegExp(`^# ${key}: (.*)$`, 'm').exec(text)?.[1];
    if (found === undefined) throw new UsageError(`${file} is no case of a corpus: it has no line \`# ${key}: ...\``);
    return found;
  };
  if (!text.startsWith(FIRST_LINE))
    throw new UsageError(`${file} is no case of a corpus`, `such a file starts with \`${FIRST_LINE}\``);
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

/** Keep a case, unless its cause is kept already. Returns the file's name, or undefined when it was there. */
export function keep(io: Io, folder: string, name: string, found: NewEntry, version: string): string | undefined {
  const path = resolve(io.cwd, folder);
  mkdirSync(path, { recursive: true });
  if (existsSync(join(path, name))) return undefined;
  writeWhole(io, join(folder, name), entryText(found, join(folder, name), version));
  return name;
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
