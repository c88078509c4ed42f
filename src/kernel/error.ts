// The error of a kernel that cannot be built as asked: a mistake of the user, which the command line turns into exit 2.

export type KernelErrorKind =
  | 'unknown-kernel'
  | 'unknown-behaviour'
  | 'unknown-way'
  | 'unasked'
  | 'malformed'
  | 'contradiction'
  | 'requires'
  | 'excludes'
  | 'arch'
  | 'config';

/** Message = what was wrong, then why, then what was probably meant. */
export class KernelError extends Error {
  override readonly name = 'KernelError';
  readonly kind: KernelErrorKind;
  /** The text of the user that caused it: a kernel name, or a `--with`/`--without` argument. */
  readonly offending: string;
  readonly reason: string;
  readonly didYouMean: readonly string[];

  constructor(
    kind: KernelErrorKind,
    offending: string,
    what: string,
    reason: string,
    didYouMean: readonly string[] = [],
  ) {
    const hint = didYouMean.length === 0 ? '' : `; did you mean ${didYouMean.map((name) => `'${name}'`).join(' or ')}?`;
    super(`${what}: ${reason}${hint}`);
    this.kind = kind;
    this.offending = offending;
    this.reason = reason;
    this.didYouMean = didYouMean;
  }
}
