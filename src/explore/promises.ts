// What a search takes on trust from gates, checked as it goes: a false promise loses interleavings without a trace. Done
// in checked mode only, on steps that are new.
import type { Gate } from '../engine/gate.ts';
import type { Process } from '../engine/process.ts';
import type { Sim } from '../engine/sim.ts';
import { type Access, READ } from '../engine/step.ts';
import { JoinGate } from '../engine/wait.ts';

/** A gate did not do what it promises: a bug of the model or of the program. */
export class BrokenPromise extends Error {
  override readonly name = 'BrokenPromise';
}

export class GatePromises {
  private readonly sim: Sim;
  private known = false;
  // By slot: the gate that was seen there, and whether it was open.
  private readonly gates: (Gate | null)[] = [];
  private readonly open: boolean[] = [];

  constructor(sim: Sim) {
    this.sim = sim;
  }

  /** Nothing has been seen of the execution at hand. */
  forget(): void {
    this.known = false;
  }

  /** Somebody is about to act. */
  look(): void {
    if (this.known) return;
    this.known = true;
    const { processes } = this.sim;
    // The last execution may have had more actors: who is started later is seen for the first time.
    this.gates.length = processes.length;
    this.open.length = processes.length;
    for (let slot = 0; slot < processes.length; slot++) this.see(slot, processes[slot]!);
  }

  private see(slot: number, process: Process): void {
    const { gate } = process.announced;
    this.gates[slot] = process.state === 'live' ? gate : null;
    this.open[slot] = gate?.ready(process) ?? true;
  }

  /** `actor` has acted. Throws BrokenPromise. */
  check(actor: Process): void {
    const { processes } = this.sim;
    for (let slot = 0; slot < processes.length; slot++) {
      const process = processes[slot]!;
      const { gate } = process.announced;
      const before = this.gates[slot];
      if (gate === null || process.state !== 'live') {
        this.gates[slot] = null;
        continue;
      }
      const open = gate.ready(process);
      if (process !== actor && before === gate && open !== this.open[slot]) this.turned(actor, process, gate, open);
      else if (!open && gate.promise === 'always') this.broken(process, gate, 'is never shut, and is shut');
      this.gates[slot] = gate;
      this.open[slot] = open;
    }
  }

  /** The step of `actor` opened or shut the gate of `process`. */
  private turned(actor: Process, process: Process, gate: Gate, open: boolean): void {
    if (gate.promise === 'lasting' && !open)
      this.broken(process, gate, `stays open once it is, and was shut by ${actor.name}: ${label(actor)}`);
    if (gate instanceof JoinGate || mayHaveWritten(actor.acted, process.announced)) return;
    const verb = open ? 'opened' : 'shut';
    this.broken(process, gate, `was ${verb} by ${actor.name}: ${label(actor)}, which wrote nothing that it announced`);
  }

  private broken(process: Process, gate: Gate, how: string): never {
    const promise = gate.promise === 'lasting' || gate.promise === 'always' ? 'promises that it ' : '';
    throw new BrokenPromise(
      `the gate '${gate.name}' at which ${process.name} waits (${process.announced.step.label}) ${promise}${how}; ` +
        'a search that relies on it would miss interleavings',
    );
  }
}

const label = (actor: Process): string => actor.acted.step.label;

/** Did the acted step announce a write to something that the waiting one announced? */
function mayHaveWritten(acted: Access, waiting: Access): boolean {
  for (let i = 0; i < acted.count; i++) {
    if (acted.kind[i] === READ) continue;
    for (let j = 0; j < waiting.count; j++) {
      if (acted.lo[i]! <= waiting.hi[j]! && waiting.lo[j]! <= acted.hi[i]!) return true;
    }
  }
  return false;
}
