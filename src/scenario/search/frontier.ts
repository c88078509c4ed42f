// The frontier of a search as a file: JSON that says which search of what it belongs to, what was found so far and where
// to go on. It is refused by any search that would not make the very same executions.
import { hashText, mix } from '../../engine/hash.ts';
import type { Runner } from '../../explore/runner.ts';
import { RandomWalk } from '../../explore/schedulers/random.ts';
import type { SavedSearch } from '../../explore/search.ts';

/** Changes when an older program could not read it. */
const VERSION = 2;
const FORMAT = 'pinsim frontier';

/** What a saved search belongs to: all of it must be the same for another to go on. */
export interface SearchIdentity {
  readonly file: string;
  /** Name of the case in the file. */
  readonly case: string;
  /** Of the scenario's meaning, and of what the case expects. */
  readonly scenario: string;
  readonly expects: string;
  readonly kernel: string;
  readonly with: readonly string[];
  readonly without: readonly string[];
  readonly seed: string;
  /** Strategy and its parameters. */
  readonly strategy: string;
  /** What the model does, by the labels of one random run. */
  readonly model: string;
}

/** The search of a case between two executions. */
export interface SavedCase {
  readonly identity: SearchIdentity;
  readonly search: SavedSearch;
  /** Executions that showed a finding. */
  readonly violating: number;
  /** Labels acted so far. */
  readonly labels: readonly string[];
  /** By pattern that must always be found: executions without it, and the token of the first. */
  readonly absent: readonly (readonly [string, number, string])[];
}

/** A frontier cannot be read, or belongs to another search. */
export class FrontierError extends Error {
  override readonly name = 'FrontierError';
}

/** The text of a frontier file. `program`: version of pinsim. */
export function printFrontier(program: string, cases: readonly SavedCase[]): string {
  const head = JSON.stringify({ format: FORMAT, version: VERSION, pinsim: program });
  const lines = cases.map((one) => JSON.stringify(one));
  return `${head.slice(0, -1)},"cases":[\n${lines.join(',\n')}\n]}\n`;
}

/** The searches in a frontier file. Throws FrontierError when it is none, or another version's. */
export function parseFrontier(program: string, text: string): readonly SavedCase[] {
  let file: Partial<{ format: string; version: number; pinsim: string; cases: readonly SavedCase[] }>;
  try {
    file = JSON.parse(text) as typeof file;
  } catch (error) {
    throw new FrontierError(`it is not JSON: ${(error as Error).message}`);
  }
  if (file?.format !== FORMAT || !Array.isArray(file.cases))
    throw new FrontierError('it is no frontier of `pinsim explore`');
  if (file.version !== VERSION)
    throw new FrontierError(`it has version ${file.version} of its format, this program reads version ${VERSION}`);
  if (file.pinsim !== program)
    throw new FrontierError(`it was written by pinsim ${file.pinsim}, this is ${program}: the model may differ`);
  for (const one of file.cases as readonly Partial<SavedCase>[]) {
    if (
      typeof one?.identity?.file !== 'string' ||
      typeof one.search !== 'object' ||
      typeof one.violating !== 'number' ||
      !Array.isArray(one.labels)
    )
      throw new FrontierError('a search in it is not complete: the file has been edited or cut');
  }
  return file.cases;
}

/** The saved search of this file and case; undefined when there is none. */
export function findSaved(saved: readonly SavedCase[], { file, case: name }: SearchIdentity): SavedCase | undefined {
  return saved.find(({ identity }) => identity.file === file && identity.case === name);
}

const WORDS: Readonly<Record<keyof SearchIdentity, string>> = {
  file: 'file',
  case: 'case',
  scenario: 'scenario (it has been changed since)',
  expects: 'expectation (`expect` or `reaches` has been changed since)',
  kernel: 'kernel',
  with: 'behaviours switched on',
  without: 'behaviours switched off',
  seed: 'seed',
  strategy: 'strategy',
  model: 'model (pinsim has been changed since)',
};

/** Throws FrontierError that says what differs. */
export function checkSame(saved: SearchIdentity, now: SearchIdentity): void {
  for (const key of Object.keys(WORDS) as (keyof SearchIdentity)[]) {
    const [before, after] = [String(saved[key]), String(now[key])];
    if (before === after) continue;
    const values = ['scenario', 'expects', 'model'].includes(key) ? '' : `: \`${before}\` there, \`${after}\` here`;
    throw new FrontierError(`${now.file} ${now.case}: its search has another ${WORDS[key]}${values}`);
  }
}

/** A number for what the model does: the labels of one random run. Between executions only. */
export function fingerprint(runner: Runner): string {
  const { sim } = runner;
  const { observer, allotted } = sim;
  sim.observer = null;
  sim.allotted = null;
  let hash = 0;
  const walk = new RandomWalk('fingerprint', 1);
  runner.retrace({
    newExecution: (run) => walk.newExecution(run),
    nextActor: () => walk.nextActor(sim),
    choose: (process, alternatives) => walk.choose(process, alternatives),
    acted: (process) => {
      hash = mix(hash, hashText(process.name) ^ hashText(process.acted.step.label));
    },
  });
  sim.observer = observer;
  sim.allotted = allotted;
  return (hash >>> 0).toString(16);
}
