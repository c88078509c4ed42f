// Contents in tests: tokens by text without a world at hand. The table on the way back is this module's own.
import { Tokens } from '../../src/hw/token.ts';

const tokens = new Tokens();

export const tokenOf = (text: string): number => tokens.of(text);
export const tokenText = (token: number): string => tokens.text(token);
export const tornToken = (before: number, after: number): number => tokens.torn(before, after);
