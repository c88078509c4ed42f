// Writing a file whole or not at all: next to the target first, then renamed over it.
import {
  closeSync,
  fsyncSync,
  lstatSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Io } from './io.ts';
import { UsageError } from './usage.ts';

/** Refuse a target that cannot be written, before any work is done for it. Throws UsageError. */
export function checkOutput(io: Io, file: string): void {
  const path = resolve(io.cwd, file);
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true)
    throw new UsageError(`${file} is a folder`, 'name a file');
  const folder = dirname(path);
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true)
    throw new UsageError(`cannot write ${file}: there is no folder ${folder}`);
}

/**
 * Write `text` to `file`: a reader sees the old content or the new, never a part. Devices and pipes are written to
 * directly. Throws UsageError when that is impossible.
 */
export function writeWhole(io: Io, file: string, text: string): void {
  checkOutput(io, file);
  let path = resolve(io.cwd, file);
  try {
    const there = lstatSync(path, { throwIfNoEntry: false });
    if (there !== undefined) path = realpathSync(path);
    const target = statSync(path, { throwIfNoEntry: false });
    if (target !== undefined && !target.isFile()) {
      writeFileSync(path, text);
      return;
    }
    replace(path, text, target?.mode);
  } catch (error) {
    throw new UsageError(`cannot write ${file}: ${(error as Error).message}`);
  }
}

function replace(path: string, text: string, mode: number | undefined): void {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    const fd = openSync(temporary, 'wx', mode ?? 0o666);
    try {
      writeFileSync(fd, text);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}
