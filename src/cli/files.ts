// The scenario files that a command line means: files as named, folders searched through, in one order everywhere.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { didYouMean } from '../scenario/file/diagnostic.ts';
import type { Io } from './io.ts';
import { UsageError } from './usage.ts';

const IS_SCENARIO = /\.ya?ml$/;

/** Paths as a person would write them, each once: arguments in their order, what is in a folder by name. */
export function findScenarios(io: Io, paths: readonly string[]): readonly string[] {
  const files = new Set<string>();
  for (const path of paths) {
    const there = statSync(resolve(io.cwd, path), { throwIfNoEntry: false });
    if (there === undefined) throw new UsageError(`there is no file or folder ${path}`, nearby(io, path));
    if (!there.isDirectory()) files.add(path);
    else {
      const found = searched(io, path);
      if (found.length === 0) throw new UsageError(`${path} has no scenario files`, 'they end in .yaml or .yml');
      for (const file of found) files.add(file);
    }
  }
  return [...files];
}

/** The text of a file. Throws UsageError when it cannot be read. */
export function readText(io: Io, file: string): string {
  try {
    return readFileSync(resolve(io.cwd, file), 'utf8');
  } catch (error) {
    throw new UsageError(`cannot read ${file}: ${(error as Error).message}`);
  }
}

function searched(io: Io, folder: string): readonly string[] {
  const entries = readdirSync(resolve(io.cwd, folder), { withFileTypes: true });
  // By code unit: the order of names must not depend on the language of the machine.
  entries.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  return entries.flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.name.startsWith('.') || entry.name === 'node_modules') return [];
    if (entry.isDirectory()) return searched(io, path);
    return IS_SCENARIO.test(entry.name) ? [path] : [];
  });
}

/** `did you mean ...?` for a file that does not exist; undefined when none is near. */
export function suggestFile(io: Io, path: string): string | undefined {
  return nearby(io, path);
}

function nearby(io: Io, path: string): string | undefined {
  try {
    return didYouMean(basename(path), readdirSync(resolve(io.cwd, dirname(path))));
  } catch {
    // No such folder either: nothing to suggest.
    return undefined;
  }
}
