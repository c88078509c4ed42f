// Content tokens: what a page holds, as "which write wrote it last". A token's number is a hash of its text, so that
// it does not depend on the order in which tokens were made.
import { hashText } from '../engine/hash.ts';

const texts = new Map<number, string>([[0, 'zero']]);

/** A page of zeroes. */
export const ZERO_TOKEN = 0;

/** The number of a content, by its text (`A`, `vmm#3`). `zero` is 0. Throws on a hash collision. */
export function tokenOf(text: string): number {
  if (text === 'zero') return ZERO_TOKEN;
  const token = (hashText(text) & 0x3fffffff) + 1;
  const known = texts.get(token);
  if (known === undefined) texts.set(token, text);
  else if (known !== text) throw new Error(`contents '${known}' and '${text}' hash alike; rename one`);
  return token;
}

/** The text of a token. */
export function tokenText(token: number): string {
  return texts.get(token) ?? `token ${token}`;
}
