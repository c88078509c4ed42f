// Drives processes by hand: tests say who steps, and ask who could.
import type { Process, Steps } from '../../src/engine/process.ts';
import { Sim, type SimOptions } from '../../src/engine/sim.ts';

export class Stepper {
  readonly sim: Sim;

  constructor(options: SimOptions = {}) {
    this.sim = new Sim({ checked: true, journaled: true, digested: true, ...options });
  }

  spawn(name: string, body: () => Steps<void>): Process {
    return this.sim.spawn(name, body);
  }

  /** Let each named actor act one step. */
  act(...names: readonly string[]): void {
    for (const name of names) {
      if (!this.enabled().includes(name)) throw new Error(`${name} cannot step`);
      this.sim.act(this.named(name));
    }
  }

  /** Let one actor act until it ends or has to wait. */
  finish(name: string): void {
    while (this.enabled().includes(name)) this.act(name);
  }

  named(name: string): Process {
    const process = this.sim.processes.find((p) => p.name === name);
    if (process === undefined) throw new Error(`no actor ${name}`);
    return process;
  }

  /** Who can step, in slot order. */
  enabled(): string[] {
    return this.sim.processes.filter((p) => p.state === 'live' && p.enabled).map((p) => p.name);
  }

  ended(name: string): boolean {
    return this.named(name).state === 'ended';
  }
}
