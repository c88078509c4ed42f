// Resume cost by call depth: a kernel function six calls down must not pay for the six above it at every step. The
// process's own stack (`call`) is flat; plain `yield*` delegation, shown beside it, grows with the depth.
import { call, type Steps } from '../src/engine/process.ts';
import { Sim } from '../src/engine/sim.ts';
import { type Announced, step } from '../src/engine/step.ts';
import { type Bench, type Contender, nsPer, race, row } from './measure.ts';

const RESUMES = 1_000_000;
const DEPTHS = [1, 4, 16];
const STEP = step('bench:step', 'none');
/** How much dearer the deepest resume may be: the noise of one run. */
const TOLERANCE = 0.8;

function* called(sim: Sim, depth: number): Steps<void> {
  if (depth > 1) yield* call(called(sim, depth - 1));
  else for (;;) yield sim.local(STEP);
}

function* delegated(sim: Sim, depth: number): Generator<Announced, void, unknown> {
  if (depth > 1) yield* delegated(sim, depth - 1);
  else for (;;) yield sim.local(STEP);
}

function resumes(name: string, body: (sim: Sim) => Steps<void>): Contender {
  const sim = new Sim();
  const actor = sim.spawn('actor', () => body(sim));
  const work = (): void => {
    for (let i = 0; i < RESUMES; i++) sim.act(actor);
  };
  return { name, run: () => nsPer(RESUMES, work) };
}

export const resume: Bench = {
  name: 'resume',
  about: 'one step of an actor by the depth of its calls, no queue; x = speed relative to depth 1',
  run(print) {
    const own = DEPTHS.map((depth) => resumes(`call(), depth ${depth}`, (sim) => called(sim, depth)));
    const plain = DEPTHS.map((depth) => resumes(`yield*, depth ${depth}`, (sim) => delegated(sim, depth)));
    const ns = race([...own, ...plain]);
    for (const [i, contender] of [...own, ...plain].entries()) {
      print(row(contender.name, ns[i]!, ns[0]! / ns[i]!, i > 0 && i < own.length ? TOLERANCE : undefined));
    }
    return DEPTHS.every((_, i) => ns[0]! / ns[i]! >= TOLERANCE);
  },
};
