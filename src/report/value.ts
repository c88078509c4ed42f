// Values of findings and traces as people read them: times to three digits, addresses in hexadecimal.
import type { FindingValue } from '../scenario/result.ts';

const TIME_UNITS = [
  ['s', 1e9],
  ['ms', 1e6],
  ['us', 1e3],
] as const;

/** Simulated time to three significant digits: `1.23us`, `45.6ms`, `250ns`. Whole nanoseconds below 1 us. */
export function formatTime(ns: number): string {
  for (const [unit, scale] of TIME_UNITS) {
    if (ns < scale) continue;
    const value = ns / scale;
    const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
    return `${value.toFixed(digits)}${unit}`;
  }
  return `${ns}ns`;
}

/** 1234567 as `1,234,567`. */
export function formatCount(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ',');
}

const ADDRESS_KEYS = /(^|[-_])(iova|gpa|va|addr|address|start|end)$/;

/** A detail of a finding; addresses in hexadecimal, by the name of their key; frames are counted, here as in all texts. */
export function formatDetail(key: string, value: FindingValue): string {
  if (Array.isArray(value)) return value.map((item: FindingValue) => formatDetail(key, item)).join(', ');
  if (
    ADDRESS_KEYS.test(key) &&
    (typeof value === 'bigint' || (typeof value === 'number' && Number.isSafeInteger(value)))
  )
    return `0x${value.toString(16)}`;
  return String(value);
}

/** Words joined with their number: `1 scenario`, `2 scenarios`. */
export function plural(count: number, word: string): string {
  return `${formatCount(count)} ${word}${count === 1 ? '' : /[A-Z]$/.test(word) ? 'S' : 's'}`;
}

/** Break a text into lines of at most `width` columns, at spaces. A word longer than that stays whole. */
export function wrap(text: string, width: number): readonly string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines;
}
