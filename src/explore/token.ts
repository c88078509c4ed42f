// A schedule as one line that can be pasted into a mail. It names where actors were preempted by label, never by index,
// so that it survives an added step:
//   s1;==2;=1;dma;vcpu0@gup_fast:recheck-pte#2=0,3;zap
// reads: the set-up chose 2; one choice before the first step gave 1; `dma` runs until it cannot; `vcpu0` runs, choosing 0
// and 3, until it is about to act gup_fast:recheck-pte for the second time; `zap` runs until it cannot.

/** One uninterrupted run of one actor. */
export interface Segment {
  readonly actor: string;
  /** The label before which it was preempted; null: it ran until it ended or had to wait. */
  readonly until: string | null;
  /** Which occurrence of that label within the segment, from 1. */
  readonly occurrence: number;
  readonly choices: readonly number[];
}

export interface ScheduleToken {
  /** Choices made by the set-up, outside of actors; absent: it made none. */
  readonly setUp?: readonly number[];
  /** Choices made in code that runs before any step. */
  readonly initialChoices: readonly number[];
  readonly segments: readonly Segment[];
}

const VERSION = 's1';

/** A schedule that cannot be read. */
export class ScheduleError extends Error {
  override readonly name = 'ScheduleError';
}

/** `%` and what the format uses itself, escaped as in URLs; everything else stays readable. */
function escapeName(name: string): string {
  return name.replace(/[%;@#=,\s]/g, (c) => `%${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

function unescapeName(text: string): string {
  return text.replace(/%([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

export function printToken(token: ScheduleToken): string {
  const parts = [VERSION];
  if (token.setUp !== undefined) parts.push(`==${token.setUp.join(',')}`);
  if (token.initialChoices.length > 0) parts.push(`=${token.initialChoices.join(',')}`);
  for (const { actor, until, occurrence, choices } of token.segments) {
    const stop = until === null ? '' : `@${escapeName(until)}${occurrence > 1 ? `#${occurrence}` : ''}`;
    parts.push(`${escapeName(actor)}${stop}${choices.length > 0 ? `=${choices.join(',')}` : ''}`);
  }
  return parts.join(';');
}

/** @throws ScheduleError naming the part that cannot be read. */
export function parseToken(text: string): ScheduleToken {
  const [version, ...parts] = text.trim().split(';');
  if (version !== VERSION)
    throw new ScheduleError(`a schedule token starts with '${VERSION};', this one with '${version}'`);
  const initialChoices: number[] = [];
  const segments: Segment[] = [];
  const setUp = /^==(\d+(?:,\d+)*)$/.exec(parts[0] ?? '')?.[1];
  if (setUp !== undefined) parts.shift();
  for (const part of parts) {
    const match = /^([^@#=]*)(?:@([^@#=]+)(?:#([1-9]\d*))?)?(?:=(\d+(?:,\d+)*))?$/.exec(part);
    if (match === null)
      throw new ScheduleError(`'${part}' is no part of a schedule token: expected actor@label#occurrence=choices`);
    const choices = match[4] === undefined ? [] : match[4].split(',').map(Number);
    if (match[1] === '') {
      if (segments.length > 0 || match[2] !== undefined) throw new ScheduleError(`'${part}' names no actor`);
      initialChoices.push(...choices);
      continue;
    }
    segments.push({
      actor: unescapeName(match[1]!),
      until: match[2] === undefined ? null : unescapeName(match[2]),
      occurrence: match[3] === undefined ? 1 : Number(match[3]),
      choices,
    });
  }
  return { ...(setUp === undefined ? {} : { setUp: setUp.split(',').map(Number) }), initialChoices, segments };
}
