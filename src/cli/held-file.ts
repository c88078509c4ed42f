// A file that one call keeps for itself, from reading it to the last write: `FILE.lock` beside it says who does. Two calls
// that went on from one file would each write over what the other has found.
import {
  closeSync,
  linkSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import type { Io } from './io.ts';
import { UsageError } from './usage.ts';

/** Nobody can ask another machine whether a process of it lives: a lock of one that was not touched for so long is dead. */
const ELSEWHERE_MS = 2 * 60_000;
/** Time to write a lock once it is made. */
const WRITING_MS = 10_000;
/** Whoever was killed just now may take so long to be gone. */
const DYING_MS = 2000;
const PAUSE_MS = 50;

interface Holder {
  readonly pid: number;
  readonly host: string;
  /** Tells the process from a later one of the same number. */
  readonly started: string;
}

export class HeldFile {
  private readonly path: string;
  private held = false;

  /** Throws UsageError when another call keeps `file`. A lock that a killed call left is no hindrance. */
  constructor(io: Io, file: string) {
    const target = resolve(io.cwd, file);
    this.path = `${target}.lock`;
    // Devices and pipes are nobody's.
    if (statSync(target, { throwIfNoEntry: false })?.isFile() === false) return;
    for (let waitedMs = 0; !this.take(); waitedMs += PAUSE_MS) {
      const holder = holderOf(this.path);
      if (!isAlive(holder, this.path)) this.drop(holder);
      else if (waitedMs >= DYING_MS) throw inUse(file, holder);
      else pause(PAUSE_MS);
    }
    this.held = true;
  }

  /** Still at work, in case another machine looks. */
  touch(): void {
    if (!this.held) return;
    const now = new Date();
    try {
      utimesSync(this.path, now, now);
    } catch {
      // Somebody has deleted it, as the message allows.
    }
  }

  release(): void {
    if (!this.held) return;
    this.held = false;
    if (sameHolder(holderOf(this.path), myself())) rmSync(this.path, { force: true });
  }

  /** Take away the lock of a holder that is dead, but not one that another call has made in its place since. */
  private drop(dead: Holder | null): void {
    const aside = `${this.path}.${process.pid}`;
    try {
      renameSync(this.path, aside);
      if (!sameHolder(holderOf(aside), dead)) linkSync(aside, this.path);
    } catch {
      // Somebody else was faster, which the next look will tell.
    }
    rmSync(aside, { force: true });
  }

  private take(): boolean {
    let fd: number;
    try {
      fd = openSync(this.path, 'wx');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
      throw new UsageError(`cannot write ${this.path}: ${(error as Error).message}`);
    }
    writeSync(fd, JSON.stringify(myself()));
    closeSync(fd);
    return true;
  }
}

function myself(): Holder {
  return { pid: process.pid, host: hostname(), started: startOf(process.pid) };
}

function sameHolder(one: Holder | null, other: Holder | null): boolean {
  return one?.pid === other?.pid && one?.host === other?.host && one?.started === other?.started;
}

function inUse(file: string, holder: Holder | null): UsageError {
  const who = holder === null ? 'another call' : `process ${holder.pid} on ${holder.host}`;
  return new UsageError(
    `${file} is in use by ${who}`,
    `wait until it has ended, or name another file; when there is no such process, delete ${file}.lock`,
  );
}

function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** Who made the lock; null when it does not say (yet), or is gone. */
function holderOf(path: string): Holder | null {
  try {
    const { pid, host, started } = JSON.parse(readFileSync(path, 'utf8')) as Partial<Holder>;
    if (typeof pid === 'number' && typeof host === 'string' && typeof started === 'string')
      return { pid, host, started };
  } catch {
    // Gone, or torn.
  }
  return null;
}

function isAlive(holder: Holder | null, path: string): boolean {
  const touched = statSync(path, { throwIfNoEntry: false })?.mtimeMs;
  if (touched === undefined) return false;
  const idleMs = Date.now() - touched;
  if (holder === null) return idleMs < WRITING_MS;
  if (holder.host !== hostname()) return idleMs < ELSEWHERE_MS;
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  return startOf(holder.pid) === holder.started;
}

/**
 * When a process started, as Linux tells (field 22 of /proc/PID/stat, proc(5)); empty elsewhere, and of a zombie, which
 * has ended though nobody has asked how.
 */
function startOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name of the program, in brackets, may hold spaces and brackets.
    const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' || state === 'X' ? '' : (fields[18] ?? '');
  } catch {
    return '';
  }
}
