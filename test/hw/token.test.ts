// Content tokens: the same in every world, whatever is named first; texts belong to a world.
import { describe, expect, it } from 'vitest';
import { Tokens, tokenOf } from '../../src/hw/token.ts';
import { findingsOf } from '../support/scenario.ts';

describe('content tokens', () => {
  it('do not depend on what was named before', () => {
    const one = new Tokens();
    const other = new Tokens();
    one.of('B');
    expect(one.of('A')).toBe(other.of('A'));
    expect(one.of('A')).toBe(tokenOf('A'));
    expect(one.of('zero')).toBe(0);
  });

  it('are known by text in the world that named them, and nowhere else', () => {
    const one = new Tokens();
    const token = one.of('A');
    expect(one.text(token)).toBe('A');
    expect(new Tokens().text(token)).toBe(`token ${token}`);
  });

  it('are exact integers, and do not collide in a million writes', () => {
    const tokens = new Set<number>();
    for (let i = 0; i < 1_000_000; i++) tokens.add(tokenOf(`p#${i}`));
    expect(tokens.size).toBe(1_000_000);
    expect([...tokens].every(Number.isSafeInteger)).toBe(true);
  });

  it('last through 20,000 writes of one actor', () => {
    const text = `title: T
kernel: v6.1.192
memory: {ram: {kind: anon, size: 4KiB}}
processes: {p: {maps: {ram: {}}}}
actors:
  p:
    - repeat: {times: 20000, do: [{cpu.write: {memory: ram}}]}
    - cpu.read: {memory: ram}
      shows: {value: 'p#20001'}
`;
    expect(findingsOf(text)).toEqual([]);
  });
});
