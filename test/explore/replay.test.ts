// Replay of a schedule on a program that has changed since: what it survives, and what it says where it does not fit.
import { describe, expect, it } from 'vitest';
import { Sim } from '../../src/engine/sim.ts';
import { explore } from '../../src/explore/explore.ts';
import { Program } from '../../src/explore/program.ts';
import { Runner } from '../../src/explore/runner.ts';
import { Replay } from '../../src/explore/schedulers/replay.ts';
import { shrink } from '../../src/explore/shrink.ts';
import { parseToken } from '../../src/explore/token.ts';

interface Changes {
  /** Steps that an increment makes before it reads, and between reading and writing. */
  readonly before?: number;
  readonly between?: number;
  readonly locked?: boolean;
  readonly without?: string;
}

/** Two increments that are not atomic; the last to look must see both. */
const increments =
  ({ before = 0, between = 0, locked = false, without }: Changes = {}) =>
  (sim: Program): void => {
    const count = sim.cell('count', 0);
    const lock = sim.mutex('lock');
    const done = sim.tally('done');
    for (const name of ['a', 'b'].filter((other) => other !== without)) {
      sim.spawn(name, function* () {
        for (let i = 0; i < before; i++) yield sim.local();
        if (locked) yield lock.lock();
        yield count.willRead();
        const seen = count.value;
        for (let i = 0; i < between; i++) yield sim.local();
        yield count.willWrite();
        count.value = seen + 1;
        if (locked) yield lock.unlock();
        yield done.willAdd();
        done.add(1);
      });
    }
    sim.spawn('judge', function* () {
      yield sim.until([{ id: done.id }], () => done.peek() === 2);
      yield count.willRead();
      if (count.value !== 2) sim.fail('an increment is lost');
    });
  };

const TOKEN = 's1;a@count:write;b;a;judge';

function replayed(changes: Changes, token = TOKEN) {
  const sim = new Sim({ checked: true, journaled: true });
  increments(changes)(new Program(sim));
  const runner = new Runner(sim);
  const replay = new Replay(parseToken(token));
  runner.execute(replay, 0);
  return { findings: runner.findings.map(({ message }) => message), diverged: replay.diverged };
}

describe('a schedule', () => {
  it('is what a search finds, once it is shrunk', () => {
    const { findings } = explore(increments());
    expect(shrink(increments(), findings[0]!.token).token).toBe(TOKEN);
  });

  it.each([
    ['as it was', {}],
    ['with steps before', { before: 3 }],
    ['with steps where it is preempted', { between: 2 }],
  ])('shows the finding again in the program %s', (_what, changes) => {
    expect(replayed(changes)).toEqual({ findings: ['an increment is lost'], diverged: null });
  });

  it('that a lock forbids says where, and what could be done instead', () => {
    const { findings, diverged } = replayed({ locked: true }, 's1;a@count:write;b@count:write;a;b;judge');
    expect(findings).toEqual([]);
    expect(diverged).toEqual({
      steps: 2,
      segment: 2,
      actor: 'b',
      label: 'count:write',
      message: 'b does not come to count:write',
      offers: [
        { actor: 'a', label: 'count:write' },
        { actor: 'b', label: 'lock:lock', waitsFor: 'lock' },
        { actor: 'judge', label: 'wait', waitsFor: 'wait' },
      ],
    });
  });

  it('of an actor that is gone goes on with the others', () => {
    const { diverged } = replayed({ without: 'b' });
    expect(diverged?.message).toBe('there is no actor b');
    expect(diverged?.steps).toBe(1);
  });
});
