// What the clocks touch of a process at every turn, a column for each: of 50,000 processes a turn must fetch as little
// memory as it can, so it reads columns here and leaves the Process alone. Here a process resumes.
import type { Process, Steps } from './process.ts';
import type { Sim } from './sim.ts';
import { type Access, ANNOUNCED } from './step.ts';
import { isGenerator, neverYielded, notABody, notAStep } from './yielded.ts';

// Looked up once: every generator function has a prototype of its own, on which looking for it at every turn is slow.
const { next: NEXT } = Object.getPrototypeOf(function* () {}).prototype as { next: Steps<unknown>['next'] };

const LEAST_PRIORITY = -(2 ** 20);

/** Columns by slot. */
export class Turns {
  /** The next step: announced, not yet acted. */
  readonly announced: Access[] = [];
  /** The innermost kernel function that the process is in. */
  readonly top: Steps<unknown>[] = [];
  /** Steps acted so far. */
  readonly stepCount: number[] = [];
  /** Tie-break among events of equal time. */
  readonly priority: number[] = [];
  private readonly sim: Sim;

  constructor(sim: Sim) {
    this.sim = sim;
  }

  add(announced: Access, top: Steps<unknown>, priority: number): void {
    this.announced.push(announced);
    this.top.push(top);
    this.stepCount.push(0);
    this.priority.push(priority);
  }

  /** Forget the processes from `slot` on. */
  truncate(slot: number): void {
    this.announced.length = slot;
    this.top.length = slot;
    this.stepCount.length = slot;
    this.priority.length = slot;
  }

  /** The process of slot `from` moves down to `to`. */
  move(from: number, to: number): void {
    this.announced[to] = this.announced[from]!;
    this.top[to] = this.top[from]!;
    this.stepCount[to] = this.stepCount[from]!;
    this.priority[to] = this.priority[from]!;
  }

  /**
   * Look at what the turn of `slot` will need. A clock that knows which thousands of processes come next has their memory
   * fetched side by side, where a turn would wait for each piece in turn. A generator lies across two cache lines, of
   * which a look reaches the first; the second is most often the first one of its neighbour.
   */
  fetch(slot: number): void {
    const { top, announced, stepCount, priority, sim } = this;
    const next = slot + 1 < top.length ? slot + 1 : slot;
    // Compared by value: what cannot be otherwise is not read at all once this is compiled.
    const there =
      typeof top[slot] === 'object' &&
      typeof top[next] === 'object' &&
      sim.processes[slot] !== undefined &&
      announced[slot] !== undefined &&
      stepCount[slot]! >= 0 &&
      priority[slot]! > LEAST_PRIORITY;
    if (!there) throw new Error(`nobody has slot ${slot}`);
  }

  /**
   * Act the announced step of `slot` and run on to the next announcement. Only for the sim. Returns what was announced now,
   * with its times, until the next turn; null when the process has ended.
   */
  resume(slot: number): Access | null {
    const { sim } = this;
    const acting = this.announced[slot]!;
    const process = sim.processes[slot]!;
    const building = sim.enter(process, acting);
    if (acting.gate !== null) acting.gate.take(process);
    const before = this.top[slot]!;
    let top = before;
    let sent: unknown;
    let ended = false;
    try {
      for (;;) {
        const result = NEXT.call(top, sent);
        if (result.done === true) {
          const caller = process.callers.pop();
          if (caller === undefined) {
            if (building.count > 0 || building.gate !== null) throw neverYielded(process.name, building.step);
            ended = true;
            break;
          }
          top = caller;
          sent = result.value;
        } else if (result.value === ANNOUNCED) {
          break;
        } else {
          process.called(top);
          top = result.value as Steps<unknown>;
          sent = undefined;
        }
      }
    } catch (error) {
      throw this.explained(error, process, before, top, acting);
    }
    if (ended) {
      process.state = 'ended';
      sim.progress++;
    } else if (sim.announced !== null) sim.announced(process, building);
    // Written where they change only: a sleeper that loops keeps both.
    if (before !== top) this.top[slot] = top;
    const kept = sim.sharing ? sim.shared(building) : building;
    if (acting !== kept) this.announced[slot] = kept;
    this.stepCount[slot]!++;
    sim.leave(acting);
    return ended ? null : building;
  }

  /** What escaped from `top`; when that is nothing that can be run, whose mistake it is. */
  private explained(error: unknown, process: Process, before: unknown, top: Steps<unknown>, acting: Access): unknown {
    if (isGenerator(top)) return error;
    if (top === before) return notABody(process.name, process.body, top);
    return notAStep(process.name, top, acting.step, process.callers.at(-1));
  }
}
