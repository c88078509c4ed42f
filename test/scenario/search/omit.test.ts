// Actors and steps left out of a scenario, by name: what goes, and which orders stay.
import { describe, expect, it } from 'vitest';
import type { Scenario } from '../../../src/scenario/file/scenario.ts';
import type { ScriptStep } from '../../../src/scenario/file/step.ts';
import { omit, placesOf } from '../../../src/scenario/search/omit.ts';
import { load, NOISY } from './stories.ts';

const CHAIN = `title: who waits for whom
memory: {ram: {kind: anon, size: 4KiB}}
processes: {app: {maps: {ram: {}}}}
actors:
  first: {on: app, do: [{touch: {memory: ram}, as: done}, {touch: {memory: ram}}, {touch: {memory: ram}}]}
  second: {on: app, do: [{wait: first}, {touch: {memory: ram}}]}
  third: {on: app, do: [{wait: [second, {actor: first, step: done}]}, {touch: {memory: ram}}]}
  parent:
    on: app
    do:
      - fork: {as: child, child: [{touch: {memory: ram}}, {repeat: {times: 2, do: [{touch: {memory: ram}}]}}]}
      - choose: [[{touch: {memory: ram}}], [{touch: {memory: ram}}, {touch: {memory: ram}}]]
      - wait: child
`;

const actor = (scenario: Scenario, name: string) => scenario.actors.find((one) => one.name === name)!;

/** Who the first wait of an actor waits for. */
function waitsFor(scenario: Scenario, name: string): readonly string[] {
  const step = actor(scenario, name).script.steps.find(
    (one): one is ScriptStep & { kind: 'wait' } => one.kind === 'wait',
  );
  return (step?.targets ?? []).map(({ actor: { name: other }, step: named }) => `${other}${named ? `:${named}` : ''}`);
}

describe('paths of steps', () => {
  it('are words and names, counted within their script', () => {
    expect(placesOf(load(CHAIN)).map(({ path }) => path)).toEqual([
      'first:@done',
      'first:touch#2',
      'first:touch#3',
      'second:wait',
      'second:touch',
      'third:wait',
      'third:touch',
      'parent:fork',
      'parent:fork/touch',
      'parent:fork/repeat',
      'parent:fork/repeat/touch',
      'parent:choose',
      'parent:choose/touch',
      'parent:choose#1.2/touch',
      'parent:choose#1.2/touch#2',
      'parent:wait',
    ]);
  });

  it('do not change when other steps are added', () => {
    const before = placesOf(load(NOISY)).map(({ path }) => path);
    const added = NOISY.replace('      - wait: idle\n', '      - wait: idle\n      - lru_add_drain: {}\n');
    const after = placesOf(load(added)).map(({ path }) => path);
    expect(after.filter((path) => path !== 'reader:lru_add_drain')).toEqual(before);
  });
});

describe('leaving out', () => {
  const scenario = load(CHAIN);
  const without = (...paths: string[]) => omit(scenario, paths).scenario;

  it('every single step, and putting them together again, loads no harm', () => {
    for (const { path } of placesOf(scenario)) {
      const { scenario: smaller, unknown } = omit(scenario, [path]);
      expect(unknown).toEqual([]);
      expect(placesOf(smaller).length, path).toBeLessThanOrEqual(placesOf(scenario).length);
    }
    expect(placesOf(without('parent:choose#1.2/touch')).map(({ path }) => path)).not.toContain(
      'parent:choose#1.2/touch#2',
    );
  });

  it('an actor hands its waits on to whoever waited for it', () => {
    expect(waitsFor(without('second'), 'third')).toEqual(['first', 'first:done']);
    expect(waitsFor(without('first'), 'second')).toEqual([]);
    expect(waitsFor(without('first', 'second'), 'third')).toEqual([]);
  });

  it('a step that somebody waits for leaves its name behind', () => {
    const [first] = actor(without('first:@done'), 'first').script.steps;
    expect(first).toMatchObject({ kind: 'repeat', name: 'done' });
    expect(actor(without('first:@done', 'third'), 'first').script.steps).toHaveLength(2);
  });

  it('a fork leaves nobody to wait for', () => {
    expect(waitsFor(without('parent:fork'), 'parent')).toEqual([]);
    expect(placesOf(without('parent:fork')).map(({ path }) => path)).not.toContain('parent:wait');
  });

  it('rounds of a repetition keeps the others', () => {
    const inside = placesOf(without('parent:fork/repeat=1')).find(({ path }) => path === 'parent:fork/repeat')!;
    expect(inside.step).toMatchObject({ kind: 'repeat', times: 1 });
  });

  it('what is not there is told', () => {
    expect(omit(scenario, ['nobody', 'first:touch#9', 'first:@done=3']).unknown).toEqual([
      'nobody',
      'first:touch#9',
      'first:@done=3',
    ]);
  });
});
