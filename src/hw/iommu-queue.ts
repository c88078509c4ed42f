// The command queue of an IOMMU (VT-d queued invalidation, AMD command buffer): software appends invalidations and wait
// commands, hardware executes them in order as an actor of its own, and software looks for the wait to be done.
import { Cell } from '../engine/cell.ts';
import { mix } from '../engine/hash.ts';
import type { Steps } from '../engine/process.ts';
import type { Sim } from '../engine/sim.ts';
import { type Announced, type Step, step } from '../engine/step.ts';
import { until } from '../engine/wait.ts';
import type { Iotlb } from './iotlb.ts';

const IDLE = step('iommu-queue:idle', 'none');
const EXECUTE = step('iommu-queue:execute', 'iotlb');

/** Drop pages [from, to) of a tag, or write the number of a wait command to memory. Immutable. */
export class QueueCommand {
  readonly iotlb: Iotlb | null;
  readonly from: number;
  readonly to: number;
  readonly sequence: number;
  readonly identity: number;

  private constructor(iotlb: Iotlb | null, from: number, to: number, sequence: number) {
    this.iotlb = iotlb;
    this.from = from;
    this.to = to;
    this.sequence = sequence;
    this.identity = mix(mix(iotlb?.identity ?? 0, from | 0), mix(to | 0, sequence));
  }

  static invalidate(iotlb: Iotlb, from: number, to: number): QueueCommand {
    return new QueueCommand(iotlb, from, to, 0);
  }

  static wait(sequence: number): QueueCommand {
    return new QueueCommand(null, 0, 0, sequence);
  }
}

export class CommandQueue {
  readonly sim: Sim;
  readonly name: string;
  readonly commands: Cell<readonly QueueCommand[]>;
  /** Number of the last wait command queued. */
  readonly sequence: Cell<number>;
  /** Number of the last wait command that hardware has executed. */
  readonly done: Cell<number>;
  /** AMD: something was queued since the last wait command. Part of the queue. */
  readonly needSync: Cell<boolean>;

  /** Made while the world is built: spawns the actor that executes. */
  constructor(sim: Sim, name: string) {
    this.sim = sim;
    this.name = name;
    this.commands = new Cell<readonly QueueCommand[]>(sim, `command queue of ${name}`, []);
    this.sequence = new Cell(sim, `wait sequence of ${name}`, 0, this.commands);
    this.needSync = new Cell(sim, `need_sync of ${name}`, false, this.commands);
    this.done = new Cell(sim, `completed waits of ${name}`, 0);
    sim.spawn(`queue of ${name}`, () => this.execute(), { daemon: true });
  }

  /** Announce appending commands. */
  willAppend(at: Step): Announced {
    return this.commands.willUpdate(at);
  }

  append(...commands: readonly QueueCommand[]): void {
    this.commands.value = [...this.commands.value, ...commands];
  }

  /** Append a wait command; its number. */
  appendWait(): number {
    this.sequence.value += 1;
    this.append(QueueCommand.wait(this.sequence.value));
    return this.sequence.value;
  }

  /** Resumes when the wait command of that number, and with it all before it, has been executed. */
  wait(sequence: number, at: Step): Announced {
    return until(this.sim, [this.done], () => this.done.peek() >= sequence, at, { name: `completion by ${this.name}` });
  }

  private *execute(): Steps<void> {
    for (;;) {
      yield until(this.sim, [this.commands], () => this.commands.peek().length > 0, IDLE);
      // Nobody else takes commands out: the first stays the first.
      const command = this.commands.peek()[0]!;
      this.commands.willUpdate(EXECUTE);
      if (command.iotlb === null) {
        yield this.done.willWrite(EXECUTE);
        this.done.value = command.sequence;
      } else {
        yield command.iotlb.willInvalidate(command.from, command.to, EXECUTE);
        command.iotlb.invalidate(command.from, command.to);
      }
      this.commands.value = this.commands.value.slice(1);
    }
  }
}
