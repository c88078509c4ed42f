// The checkers of a run, attached together. A new checker is added to this list, nowhere else.
import type { Process } from '../engine/process.ts';
import type { StepObserver } from '../engine/sim.ts';
import { accountingDrift } from './accounting.ts';
import type { CheckContext, Checker } from './checker.ts';
import { dataCorruption } from './data-corruption.ts';
import { dirtyLoss } from './dirty-loss.ts';
import { guestDirtyLoss } from './guest-dirty-loss.ts';
import { incoherentMapping } from './incoherent-mapping.ts';
import { isolationBreach } from './isolation-breach.ts';
import { oomKill } from './oom-kill.ts';
import { pinFailure } from './pin-failure.ts';
import { PinLedger } from './pin-ledger.ts';
import { checkCounters, refcountLeak } from './refcounts.ts';
import { staleMapping } from './stale-mapping.ts';

export class Checkers implements StepObserver {
  private readonly context: CheckContext;
  readonly all: readonly Checker[];

  /** Attach every checker to a world, before its set-up runs. */
  constructor(context: CheckContext) {
    this.context = context;
    const ledger = new PinLedger(context.sim, context.core);
    this.all = [
      pinFailure,
      staleMapping,
      incoherentMapping(),
      refcountLeak(ledger),
      accountingDrift(ledger),
      dirtyLoss(),
      guestDirtyLoss(),
      dataCorruption(),
      isolationBreach(),
      oomKill,
    ];
    for (const checker of this.all) checker.attach(context);
  }

  /** Counters that the step announced are judged, then the step is logged. */
  stepActed(process: Process, changesFrom: number): void {
    checkCounters(this.context, process);
    this.context.log?.stepActed(process, changesFrom);
  }

  /** The run has ended and deferred work is drained. */
  atEnd(): void {
    for (const checker of this.all) checker.atEnd?.(this.context);
  }
}
