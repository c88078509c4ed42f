// The file that `explore --frontier` keeps: searches that were stopped, and where to go on.
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { FrontierError, findSaved, parseFrontier, printFrontier, type SavedCase } from '../scenario/search/frontier.ts';
import type { CaseSearcher } from '../scenario/search/search-case.ts';
import { readText } from './files.ts';
import { HeldFile } from './held-file.ts';
import type { Io } from './io.ts';
import { checkOutput, writeWhole } from './output.ts';
import { UsageError } from './usage.ts';
import { programVersion } from './version.ts';

export class FrontierFile {
  private readonly io: Io;
  private readonly path: string;
  private readonly held: HeldFile;
  private cases: readonly SavedCase[] = [];

  /** Throws UsageError when the file is there and cannot be used, cannot be written, or is in use. */
  constructor(io: Io, path: string) {
    this.io = io;
    this.path = path;
    checkOutput(io, path);
    this.held = new HeldFile(io, path);
    if (!existsSync(resolve(io.cwd, path))) return;
    try {
      this.obey(() => {
        this.cases = parseFrontier(programVersion(), readText(io, path));
      });
    } catch (error) {
      this.held.release();
      throw error;
    }
  }

  /** Nothing more is to be saved. */
  close(): void {
    this.held.release();
  }

  /** Let the searcher go on where it was stopped, if it was. Throws UsageError when what is saved is of something else. */
  resume(searcher: CaseSearcher): void {
    const saved = findSaved(this.cases, searcher.identity);
    if (saved !== undefined) this.obey(() => searcher.restore(saved));
  }

  save(searcher: CaseSearcher): void {
    const saved = searcher.save();
    const before = findSaved(this.cases, saved.identity);
    this.cases =
      before === undefined ? [...this.cases, saved] : this.cases.map((one) => (one === before ? saved : one));
    writeWhole(this.io, this.path, printFrontier(programVersion(), this.cases));
    this.held.touch();
  }

  private obey(act: () => void): void {
    try {
      act();
    } catch (error) {
      if (!(error instanceof FrontierError)) throw error;
      throw new UsageError(`cannot go on from ${this.path}: ${error.message}`, 'name another file to start over');
    }
  }
}
