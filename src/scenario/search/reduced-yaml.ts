// A shrunk counterexample as a scenario of its own: the file without the actors and steps that were left out, only the
// case that shows the finding, and the token as a comment. The document is edited, so that comments stay.
import { isMap, isNode, isPair, isSeq, LineCounter, type Node, parseDocument, visit, type YAMLSeq } from 'yaml';
import type { Scenario, ScenarioCase } from '../file/scenario.ts';
import type { ScriptStep, WaitTarget } from '../file/step.ts';
import { omit, placesOf } from './omit.ts';

/** The text of the smaller file. `token`: a comment at its top, when there is one already. */
export function reducedYaml(
  text: string,
  scenario: Scenario,
  one: ScenarioCase,
  omitted: readonly string[],
  kind: string,
): string {
  return new Reducer(text, scenario, omitted).reduce(one, kind);
}

/** The same text with lines of comment at its top, after those that editors read. */
export function withHeader(text: string, lines: readonly string[]): string {
  const comment = lines.map((line) => `# ${line}\n`).join('');
  const first = /^# yaml-language-server:.*\n/.exec(text)?.[0] ?? '';
  return `${first}${comment}${text.slice(first.length)}`;
}

class Reducer {
  private readonly document: ReturnType<typeof parseDocument>;
  private readonly lines = new LineCounter();
  private readonly scenario: Scenario;
  private readonly smaller: Scenario;

  constructor(text: string, scenario: Scenario, omitted: readonly string[]) {
    this.document = parseDocument(text, { lineCounter: this.lines, intAsBigInt: true });
    this.scenario = scenario;
    this.smaller = omit(scenario, omitted).scenario;
  }

  reduce(one: ScenarioCase, kind: string): string {
    const { document, scenario, smaller } = this;
    for (const { name } of scenario.actors)
      if (!smaller.actors.some((actor) => actor.name === name)) document.deleteIn(['actors', name]);
    this.editSteps();
    this.keepCase(one, kind);
    const text = document.toString({ lineWidth: 120, flowCollectionPadding: false });
    return text;
  }

  /** Steps are known by where they were written. */
  private editSteps(): void {
    const now = new Map(placesOf(this.smaller).map(({ step }) => [placeText(step), step]));
    const before = new Map(placesOf(this.scenario).map(({ step }) => [placeText(step), step]));
    visit(this.document, {
      Seq: (_key, seq) => {
        seq.items = seq.items.filter((item) => {
          const place = this.placeOf(item);
          return place === undefined || !before.has(place) || now.has(place);
        });
        for (const [index, item] of seq.items.entries()) {
          const place = this.placeOf(item);
          const step = place === undefined ? undefined : now.get(place);
          if (step !== undefined) this.edit(seq, index, step, before.get(place!)!);
        }
      },
    });
  }

  private edit(seq: YAMLSeq, index: number, now: ScriptStep, before: ScriptStep): void {
    const item = seq.items[index];
    if (now.kind === 'repeat' && before.kind !== 'repeat') {
      // Somebody waits for its name.
      seq.items[index] = this.document.createNode({ repeat: { times: 1, do: [] }, as: now.name });
      return;
    }
    if (!isMap(item)) return;
    if (now.kind === 'repeat' && before.kind === 'repeat' && now.times !== before.times)
      item.setIn(['repeat', 'times'], now.times);
    if (now.kind === 'wait' && before.kind === 'wait' && !sameTargets(now.targets, before.targets))
      item.set('wait', this.document.createNode(written(now.targets), { flow: true }));
    if (now.kind === 'operation' && before.kind === 'operation' && now.holds.length < before.holds.length) {
      if (now.holds.length === 0) item.delete('hold');
      else {
        const holds = now.holds.map(({ at, time, until }) => ({
          at,
          ...(time === undefined ? {} : { time }),
          until: written(until),
        }));
        item.set('hold', this.document.createNode(holds, { flow: true }));
      }
    }
  }

  /** `line:column` of a node, as the loader counts. */
  private placeOf(node: unknown): string | undefined {
    const range = isNode(node) ? (node as Node).range : undefined;
    if (range === undefined || range === null) return undefined;
    const { line, col } = this.lines.linePos(range[0]);
    return `${line}:${col}`;
  }

  /** Only the case that shows the finding, which a search must find again. */
  private keepCase(one: ScenarioCase, kind: string): void {
    const { document, scenario } = this;
    const index = scenario.cases.findIndex(({ name }) => name === (one.written ?? one.name));
    const cases = document.get('cases');
    const kept = isSeq(cases) ? cases.items[index] : undefined;
    for (const key of ['reaches', 'cases']) document.delete(key);
    const steps = isMap(kept) ? kept.get('steps') : undefined;
    const host = isMap(kept) ? kept.get('host') : undefined;
    for (const key of ['kernel', 'with', 'without', 'expect']) document.delete(key);
    const only: Record<string, unknown> = { name: one.written || one.name, kernel: one.kernel };
    if (one.with.length > 0) only.with = one.with;
    if (one.without.length > 0) only.without = one.without;
    only.expect = { possible: [kind] };
    const node = document.createNode([only]);
    const [first] = node.items;
    if (isMap(first)) {
      for (const [key, value] of [
        ['steps', steps],
        ['host', host],
      ] as const)
        if (value !== undefined) first.add(document.createPair(key, value));
      for (const pair of first.items)
        if (isPair(pair) && (isMap(pair.value) || isSeq(pair.value))) pair.value.flow = true;
    }
    document.set('cases', node);
    this.dropStepNames(first);
  }

  /** Expectations of named steps that are gone. */
  private dropStepNames(only: unknown): void {
    const steps = isMap(only) ? only.get('steps') : undefined;
    if (!isMap(steps)) return;
    const names = new Set(placesOf(this.smaller).flatMap(({ step }) => (step.name === undefined ? [] : [step.name])));
    steps.items = steps.items.filter(({ key }) => names.has(String(key)));
    if (steps.items.length === 0 && isMap(only)) only.delete('steps');
  }
}

function placeText({ where }: ScriptStep): string {
  return `${where.line}:${where.column}`;
}

function sameTargets(a: readonly WaitTarget[], b: readonly WaitTarget[]): boolean {
  return JSON.stringify(written(a)) === JSON.stringify(written(b));
}

/** Targets as a scenario file has them. */
function written(targets: readonly WaitTarget[]): readonly unknown[] {
  return targets.map(({ actor, step, label, time }) => {
    if (step === undefined && label === undefined) return actor.name;
    return {
      actor: actor.name,
      ...(step === undefined ? {} : { step }),
      ...(label === undefined ? {} : { label }),
      ...(time === undefined ? {} : { time }),
    };
  });
}
