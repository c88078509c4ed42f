// Replay tokens as text: what is printed can be read, what was cut or changed on the way is refused in words.
import { describe, expect, it } from 'vitest';
import { type CaseToken, findTokens, parseCaseToken, printCaseToken } from '../../../src/scenario/search/token.ts';

const token: CaseToken = {
  file: 'my scenarios/a.yaml',
  digest: '0123abcd',
  case: "fix off: the driver's page",
  kernel: 'v6.1.192',
  with: ['gup.fast.recheck-pmd'],
  without: ['a.b', 'c.d=way'],
  seed: 'seven',
  omitted: ['guest', 'vmm:madvise#2'],
  shows: { kind: 'stale-mapping', hash: '5d3c01aa', absent: false },
  schedule: 's1;=1;dma;vcpu0@gup_fast:recheck-pte#2=0,3;zap',
};
const text = printCaseToken(token);

const messageOf = (broken: string): string => {
  try {
    parseCaseToken(broken);
    return 'nothing wrong';
  } catch (error) {
    return (error as Error).message;
  }
};

describe('a replay token', () => {
  it('is one line without quotes, and comes back as it was', () => {
    expect(text).not.toMatch(/[\n'"]/);
    expect(parseCaseToken(text)).toEqual(token);
  });

  it('says that an expected finding did not appear', () => {
    const absent = { ...token, shows: { kind: 'deadlock', hash: '00000001', absent: true }, seed: '1', omitted: [] };
    expect(parseCaseToken(printCaseToken(absent))).toEqual(absent);
  });

  it('holds a seed that is the empty text', () => {
    expect(parseCaseToken(printCaseToken({ ...token, seed: '' }))).toEqual({ ...token, seed: '' });
  });

  it('survives line breaks and quote marks of a mail', () => {
    const wrapped = text.replaceAll(' ', '\n> ');
    expect(parseCaseToken(`> ${wrapped}\n`)).toEqual(token);
    expect(parseCaseToken(text.replace(';vcpu0', ';\n  vcpu0'))).toEqual(token);
  });

  it.each([
    ['after the schedule', text.replace(/ \.[0-9a-f]{4}$/, ''), 'the replay token has been cut: its end is missing'],
    ['within the schedule', text.slice(0, -25), 'the replay token has been cut: its end is missing'],
    ['before the schedule', text.slice(0, 60), 'the replay token has been cut: its schedule is missing'],
    ['at its start', text.slice(8), 'a replay token starts with `pinsim1`, this one with `my%20scenarios/a.yaml`'],
  ])('that was cut %s is refused', (_where, broken, message) => {
    expect(messageOf(broken)).toBe(message);
  });

  it('that was changed is refused, unless its check is taken off', () => {
    const changed = text.replace('vcpu0', 'vcpu1');
    expect(messageOf(changed)).toBe('the replay token has been changed: its check does not fit');
    expect(parseCaseToken(changed.replace(/\.[0-9a-f]{4}$/, '.')).schedule).toContain('vcpu1');
  });

  it('of a later form is told apart from nonsense', () => {
    expect(messageOf(text.replace('pinsim1', 'pinsim7'))).toBe(
      'this version of pinsim does not know replay tokens of form pinsim7',
    );
    expect(messageOf('s1;a;b')).toBe('this is a schedule alone, as the library prints it, and names no scenario');
  });

  it('is found in a mail, a report or a corpus file', () => {
    const mail = `Hello,\n\n  pinsim replay '${text}'\n\nand again ${text}\n`;
    expect(findTokens(mail)).toEqual([text]);
    expect(findTokens(`> see '${text.replaceAll(' ', '\n> ')}'\n> and\n${text}`)).toEqual([text]);
    expect(findTokens('pinsim1 is great')).toEqual(['pinsim1 is great']);
    expect(findTokens('nothing here')).toEqual([]);
  });
});
