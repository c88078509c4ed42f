// The replay tokens that a command line means: pasted as they are, or found in a file (a mail, a report, a case of a
// corpus), and the scenario of each.
import { existsSync, type Stats, statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Scenario } from '../scenario/file/scenario.ts';
import type { CaseToken } from '../scenario/search/token.ts';
import type { Parts } from './command.ts';
import { readText, suggestFile } from './files.ts';
import type { Io } from './io.ts';
import { loadScenarios } from './scenarios.ts';
import { UsageError } from './usage.ts';

/** Read the arguments as one token or as files that hold tokens. Throws UsageError. */
export async function readTokens(args: readonly string[], io: Io): Promise<readonly CaseToken[]> {
  const { findTokens } = await import('../scenario/search/token.ts');
  const text = args.join(' ');
  if (!args.every((path) => kindOf(path, io)?.isFile())) return [await readToken(asToken(text, args, io))];
  const tokens: CaseToken[] = [];
  for (const file of args) {
    const found = findTokens(readText(io, file));
    if (found.length === 0) {
      const hint = 'a token is one line that begins with `pinsim1`; explore prints one for every finding';
      throw new UsageError(`${file} holds no replay token`, hint);
    }
    for (const token of found) tokens.push(await readToken(token, file));
  }
  return tokens;
}

/** What there is under that name; a long token is none that a file could have. */
function kindOf(path: string, io: Io): Stats | undefined {
  const whole = resolve(io.cwd, path);
  return existsSync(whole) ? statSync(whole, { throwIfNoEntry: false }) : undefined;
}

/** `text` if it can be a token. Throws UsageError when it must have been meant as a file. */
function asToken(text: string, args: readonly string[], io: Io): string {
  if (/^[\s>]*pinsim\d+(\s|$)/.test(text) || /^s\d+;/.test(text)) return text;
  // `pinsim replay 'pinsim replay ...'`: the whole line was pasted.
  const pasted = /\b(pinsim\d+ [^'"]*)/.exec(text);
  if (pasted !== null) return pasted[1]!;
  const folder = args.find((path) => kindOf(path, io)?.isDirectory());
  if (folder !== undefined) {
    const files = `the files in it that hold tokens (${folder.replace(/\/+$/, '')}/*)`;
    throw new UsageError(
      `\`${folder}\` is a folder`,
      `give ${files}, or a token in quotes (it begins with \`pinsim1\`)`,
    );
  }
  const missing = args.find((path) => !existsSync(resolve(io.cwd, path))) ?? text;
  const hint =
    suggestFile(io, missing) ?? 'give a token in quotes (it begins with `pinsim1`), or a file that holds one';
  throw new UsageError(`\`${missing}\` is neither a replay token nor a file`, hint);
}

async function readToken(text: string, file?: string): Promise<CaseToken> {
  const { parseCaseToken, TokenError } = await import('../scenario/search/token.ts');
  try {
    return parseCaseToken(text);
  } catch (error) {
    if (!(error instanceof TokenError)) throw error;
    throw new UsageError(`${file === undefined ? '' : `${file}: `}${error.message}`, error.hint);
  }
}

/** The scenario of a token, or the one that the command line names instead. Throws UsageError, ScenarioError. */
export async function scenarioOf(
  token: CaseToken,
  instead: string | undefined,
  io: Io,
  parts: Parts,
): Promise<Scenario> {
  const file = instead ?? token.file;
  if (!existsSync(resolve(io.cwd, file))) {
    const near = suggestFile(io, file);
    const hint = `${near === undefined ? '' : `${near} `}\`--scenario FILE\` says where it is now`;
    throw new UsageError(`there is no scenario ${file}${instead === undefined ? ', which the token names' : ''}`, hint);
  }
  const [scenario] = await loadScenarios([file], io, parts);
  return scenario!;
}
