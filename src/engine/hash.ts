// Small deterministic hashes for digests: FNV-1a over text, and an integer mixer (Murmur3 finaliser).

/** 32-bit FNV-1a of UTF-16 code units. */
export function hashText(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h >>> 0;
}

/** Mix two 32-bit values into one. */
export function mix(a: number, b: number): number {
  let h = Math.imul(a ^ Math.imul(b | 0, 0xcc9e2d51), 0x1b873593) ^ (a >>> 15);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Fold a double that holds an integer (maybe beyond 32 bits) into 32 bits. */
export function foldNumber(value: number): number {
  const high = Math.floor(value / 4294967296);
  return high === 0 || high === -1 ? value | 0 : mix(value | 0, high | 0);
}

/** Objects kept in stores hash by their identity text, never by memory identity. */
export interface Identified {
  readonly identity: number;
}

/** Hash of a stored value: primitives by value, objects by `identity`, arrays and plain objects by what they hold. */
export function hashValue(value: unknown): number {
  switch (typeof value) {
    case 'number':
      return Number.isInteger(value) ? foldNumber(value) : hashText(String(value));
    case 'boolean':
      return value ? 0x51ed270b : 0x2c1b3c6d;
    case 'string':
      return hashText(value);
    case 'bigint':
      return hashText(value.toString());
    case 'undefined':
      return 0x3c6ef372;
    default:
      break;
  }
  if (value === null) return 0x1f83d9ab;
  if (Array.isArray(value)) {
    let h = value.length;
    for (const item of value) h = mix(h, hashValue(item));
    return h;
  }
  const identity = (value as Partial<Identified>).identity;
  if (typeof identity === 'number') return identity;
  if (isPlain(value as object)) return hashEntries(value as object);
  throw new Error('a stored object needs an identity to be part of a digest');
}

/** `{...}`, or an object without prototype: its entries are all there is to it. */
export function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** Whatever order the entries were made in. */
function hashEntries(value: object): number {
  const entries = Object.entries(value);
  return entries.reduce((sum, [key, held]) => (sum + mix(hashText(key), hashValue(held))) | 0, entries.length);
}
