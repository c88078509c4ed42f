// Colours as functions, so that reports are written once: the command line hands in real ones on a terminal, and
// nothing but text comes out everywhere else.

export interface Paint {
  readonly good: (text: string) => string;
  readonly bad: (text: string) => string;
  readonly warn: (text: string) => string;
  readonly strong: (text: string) => string;
  readonly faint: (text: string) => string;
}

const plain = (text: string): string => text;

export const NO_PAINT: Paint = { good: plain, bad: plain, warn: plain, strong: plain, faint: plain };
