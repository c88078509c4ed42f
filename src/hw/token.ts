// Content tokens: what a page holds, as "which write wrote it last". A token is a hash of its text, 53 bits, so that it
// does not depend on the order in which tokens are made: every interleaving, and every process that replays it, has the
// same. Two texts of one world that hash alike need some 10^8 of them; that is an error, never a wrong answer.

/** A page of zeroes. */
export const ZERO_TOKEN = 0;

/** The token of a content, by its text (`A`, `vmm#3`). `zero` is 0. Model code asks its world's `Tokens`, which knows the way back. */
export function tokenOf(text: string): number {
  if (text === 'zero') return ZERO_TOKEN;
  // Two 32-bit lanes with multipliers of their own, each stirred into the other at the end.
  let low = 0x2545f491;
  let high = 0x41c6ce57;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    low = Math.imul(low ^ unit, 0x9e3779b1);
    high = Math.imul(high ^ unit, 0x5f356495);
    low ^= low >>> 15;
    high ^= high >>> 13;
  }
  low = Math.imul(low ^ (low >>> 16) ^ high, 0x85ebca6b);
  high = Math.imul(high ^ (high >>> 15) ^ low, 0xc2b2ae35);
  low ^= low >>> 13;
  high ^= high >>> 16;
  return (high & 0x1fffff) * 4294967296 + (low >>> 0) + 1;
}

/** The contents that one world has named: from token to text. A cache of a pure function, so a rewind leaves it alone. */
export class Tokens {
  private readonly texts = new Map<number, string>([[ZERO_TOKEN, 'zero']]);

  /** The token of a text; its text is known from now on. Throws when two texts hash alike. */
  of(text: string): number {
    return this.named(tokenOf(text), text);
  }

  private named(token: number, text: string): number {
    const known = this.texts.get(token);
    if (known === undefined) this.texts.set(token, text);
    else if (known !== text) throw new Error(`contents '${known}' and '${text}' hash alike; rename one`);
    return token;
  }

  /** What a page holds that changed from one content to the other while a device read it. */
  torn(before: number, after: number): number {
    // Of the two tokens, whose texts another world may not know.
    const token = tokenOf(`torn ${before} ${after}`);
    return this.named(token, `torn between ${this.text(before)} and ${this.text(after)}`);
  }

  text(token: number): string {
    return this.texts.get(token) ?? `token ${token}`;
  }
}
