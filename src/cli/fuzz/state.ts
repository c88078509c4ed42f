// The state file of a campaign: a header, then one line of JSON per finding and per finished epoch, each on the disk
// before it counts. A kill can only tear the last line, which is then left out; what it told is run again.
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Kept } from '../../explore/feedback.ts';
import type { FuzzAbsence, FuzzFinding } from '../../scenario/search/fuzz-result.ts';
import { HeldFile } from '../held-file.ts';
import type { Io } from '../io.ts';
import { checkOutput, writeWhole } from '../output.ts';
import { UsageError } from '../usage.ts';

const FORMAT = 2;

/** What makes a campaign what it is: another seed or another file is another campaign. */
export type Identity = Readonly<Record<string, unknown>>;

/** A finding, as first met. Its runs are counted by epochs. */
export interface FindingRecord {
  readonly finding: FuzzFinding;
}

/** An absence, likewise. */
export interface AbsenceRecord {
  readonly absence: FuzzAbsence;
}

export interface EpochRecord {
  readonly epoch: number;
  /** Run numbers that it reaches to: an epoch cut short by `--runs` is run again when there are to be more. */
  readonly to: number;
  /** It ended where the runs did. */
  readonly cut: boolean;
  readonly runs: number;
  readonly steps: number;
  readonly runsBy: Readonly<Record<string, number>>;
  readonly limits: Readonly<Record<string, number>>;
  /** Case by index, its runs, its steps. */
  readonly cases: readonly (readonly [number, number, number])[];
  readonly workloads: number;
  /** What is new: features, labels, answers of behaviours, workloads. */
  readonly features: readonly number[];
  readonly labels: readonly string[];
  readonly asked: readonly (readonly [string, string])[];
  readonly kept: readonly Kept[];
  /** Case by index, and which labels that its scenario wants reached it reached. */
  readonly reached: readonly (readonly [number, readonly string[]])[];
  /** Cause, and how many of the epoch's runs showed it. */
  readonly shown: readonly (readonly [string, number])[];
  /** Absence, and how many of the epoch's runs had it. */
  readonly lacked: readonly (readonly [string, number])[];
}

export type StateRecord = FindingRecord | AbsenceRecord | EpochRecord;

export class StateFile {
  /** What the file had when it was opened. */
  readonly records: readonly StateRecord[];
  private readonly fd: number;
  private readonly held: HeldFile;

  /** Open a file, or begin it. Throws UsageError when it is another campaign's, no such file at all, or in use. */
  constructor(io: Io, file: string, version: string, identity: Identity) {
    checkOutput(io, file);
    this.held = new HeldFile(io, file);
    try {
      const header = { format: FORMAT, pinsim: version, campaign: identity };
      const path = resolve(io.cwd, file);
      this.records = existsSync(path) ? read(file, readFileSync(path, 'utf8'), header) : [];
      // Written anew without what was torn, in one piece: from here on lines are only added.
      writeWhole(io, file, [header, ...this.records].map(line).join(''));
      this.fd = openSync(path, 'a');
    } catch (error) {
      this.held.release();
      throw error;
    }
  }

  /** When this returns, the record is on the disk. */
  add(record: StateRecord): void {
    writeSync(this.fd, line(record));
    fsyncSync(this.fd);
    this.held.touch();
  }

  close(): void {
    closeSync(this.fd);
    this.held.release();
  }
}

interface Header {
  readonly format: number;
  readonly pinsim: string;
  readonly campaign: Identity;
}

function read(file: string, text: string, expected: Header): readonly StateRecord[] {
  const lines = text.split('\n');
  // What follows the last line break was torn; an empty file has not even a header.
  lines.pop();
  if (lines.length === 0 && text === '') return [];
  let header: Header;
  let records: StateRecord[];
  try {
    header = JSON.parse(lines[0] ?? '') as Header;
    records = lines.slice(1).map((one) => JSON.parse(one, withBigints) as StateRecord);
  } catch {
    throw new UsageError(`${file} is no state of a campaign`, 'name another file, or one that does not exist yet');
  }
  checkHeader(file, header, expected);
  return records;
}

function checkHeader(file: string, header: Header, expected: Header): void {
  if (header.format !== expected.format || typeof header.campaign !== 'object')
    throw new UsageError(`${file} is no state of a campaign of this version`);
  if (header.pinsim !== expected.pinsim)
    throw new UsageError(
      `${file} was written by pinsim ${header.pinsim}, this is ${expected.pinsim}`,
      'other versions take other paths: begin a new file',
    );
  const differs = Object.keys(expected.campaign).find(
    (key) => JSON.stringify(header.campaign[key]) !== JSON.stringify(expected.campaign[key]),
  );
  if (differs === undefined) return;
  const was = JSON.stringify(header.campaign[differs]);
  const is = JSON.stringify(expected.campaign[differs]);
  const values = was.length + is.length < 80 ? `: ${was} there, ${is} here` : '';
  throw new UsageError(`${file} belongs to another campaign: other ${differs}${values}`, 'name another file');
}

function line(value: unknown): string {
  return `${JSON.stringify(value, asBigints)}\n`;
}

function asBigints(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? { $bigint: String(value) } : value;
}

function withBigints(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const text = (value as { readonly $bigint?: unknown }).$bigint;
  return typeof text === 'string' ? BigInt(text) : value;
}
