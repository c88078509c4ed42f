// Tokens: the schedule of a finding as one line, which shows it again, also in a program that has changed a little.
import { describe, expect, test } from 'vitest';
import { explore } from '../../src/index.ts';

describe('tokens', () => {
  const lostUpdate = (sim: Parameters<Parameters<typeof explore>[0]>[0]) => {
    const x = sim.cell('x', 0);
    for (const name of ['a', 'b']) {
      sim.spawn(name, function* () {
        yield x.willRead();
        const v = x.value;
        yield x.willWrite();
        x.value = v + 1 + sim.choose(2);
        if (v === 1) sim.fail('read one');
      });
    }
  };

  test('a finding carries its schedule, and its token replays it', () => {
    const [finding] = explore(lostUpdate).findings;
    expect(finding!.schedule.map((s) => `${s.actor} ${s.label} ${s.choices}`)).toEqual([
      'a x:read ',
      'a x:write 0',
      'b x:read ',
      'b x:write 0',
    ]);
    expect(finding!.token).toBe('s1;a=0;b=0');
    const replayed = explore(lostUpdate, { strategy: 'replay', token: finding!.token });
    expect([replayed.executions, replayed.limits, replayed.complete]).toEqual([1, [], false]);
    expect(replayed.findings[0]!.schedule).toEqual(finding!.schedule);
  });

  test('a token names preemptions by label, so that it survives an added step', () => {
    const program = (extra: number) => (sim: Parameters<Parameters<typeof explore>[0]>[0]) => {
      const x = sim.cell('x', 0);
      sim.spawn('reader', function* () {
        for (let i = 0; i < extra; i++) {
          yield sim.local();
        }
        yield x.willRead();
        const first = x.value;
        yield x.willRead();
        if (x.value !== first) sim.fail('changed between two reads');
      });
      sim.spawn('writer', function* () {
        yield x.willWrite();
        x.value = 1;
      });
    };
    const [finding] = explore(program(0)).findings;
    expect(finding!.token).toBe('s1;reader@x:read#2;writer;reader');
    for (const extra of [0, 1, 5]) {
      const replayed = explore(program(extra), { strategy: 'replay', token: finding!.token });
      expect(replayed.findings.map((f) => f.message)).toEqual(['changed between two reads']);
      expect(replayed.limits).toEqual([]);
    }
  });

  test('a replay that no longer fits says where, and goes on', () => {
    const replay = (token: string) => explore(lostUpdate, { strategy: 'replay', token });
    expect(replay('s1;gone;a=0;b=0').limits).toEqual(['there is no actor gone']);
    expect(replay('s1;gone;a=0;b=0').findings.length).toBe(1);
    expect(replay('s1;a=7;b').limits).toEqual(['a has only 2 alternatives at choose, not 8']);
    expect(replay('s1;a@x:free;b').limits).toEqual(['a does not come to x:free']);
    expect(() => replay('x9;a')).toThrow("starts with 's1;'");
    expect(() => replay('s1;a@b@c')).toThrow("'a@b@c' is no part");
    expect(() => explore(lostUpdate, { strategy: 'replay' })).toThrow('needs the token');
  });

  test('names with any characters survive in a token', () => {
    const program = (sim: Parameters<Parameters<typeof explore>[0]>[0]) => {
      const x = sim.cell('x y', 0);
      sim.spawn('a;b=c', function* () {
        const child = sim.spawn('kid @1%', function* () {
          yield x.willWrite();
          x.value = sim.choose(2);
          if (x.value === 1) sim.fail('one');
        });
        yield sim.join(child);
      });
    };
    const [finding] = explore(program).findings;
    expect(finding!.token).toBe('s1;a%3bb%3dc/kid%20%401%25.1=1;a%3bb%3dc');
    expect(explore(program, { strategy: 'replay', token: finding!.token }).findings[0]!.message).toBe('one');
  });
});
