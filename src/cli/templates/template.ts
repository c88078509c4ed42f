// What a starter scenario is.

export interface Template {
  readonly name: string;
  readonly summary: string;
  /** A whole scenario file. */
  readonly text: string;
}
