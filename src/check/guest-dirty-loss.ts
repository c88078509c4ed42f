// dirty-loss of a guest: a page that it wrote while its memslot logs dirty pages, and that no log will ever name: a live
// migration sends the old contents. Writes wait for the log that names them; at the end it must still be able to. What a
// vCPU writes while logging is being switched on is copied after that.
import type { Sim, Undoable } from '../engine/sim.ts';
import { DIRTY_LOG_TAKEN, DIRTY_LOGGING, GUEST_WROTE, VIEW_ADDED, VIEW_REMOVED, type View } from '../mm/ledger.ts';
import { type CheckContext, type Checker, reportFinding } from './checker.ts';

/** A view of a guest that can log, and whether it does. */
interface Logged {
  readonly view: View;
  readonly on: boolean;
}

interface Write {
  readonly view: View;
  readonly page: number;
  readonly token: number;
  readonly by: string;
}

/** Views of guests that can log, and the writes that no log has named yet; both undone with the world. */
class Pending implements Undoable {
  private readonly sim: Sim;
  private views: readonly Logged[] = [];
  private readonly writes = new Map<string, Write>();
  private readonly keys: string[] = [];
  private readonly rows = new Map<string, number>();

  constructor(sim: Sim) {
    this.sim = sim;
  }

  find(holder: string, page: number): Logged | undefined {
    return this.views.find(({ view }) => view.holder === holder && view.page <= page && page < view.page + view.pages);
  }

  addView(view: View): void {
    if (view.dirtyAt !== undefined) this.changeViews([...this.views, { view, on: view.dirtyAt(0) !== null }]);
  }

  /** A log that begins anew knows nothing of what was written before. */
  switchLog(holder: string, page: number, on: boolean): void {
    const found = this.find(holder, page);
    if (found === undefined || found.on === on) return;
    this.changeViews(this.views.map((other) => (other === found ? { ...found, on } : other)));
    if (!on) this.forget(found.view);
  }

  /** What is not mapped for the guest any more will not be copied either. */
  removeView({ holder, page }: View): void {
    const found = this.views.find(({ view }) => view.holder === holder && view.page === page);
    if (found === undefined) return;
    this.changeViews(this.views.filter((other) => other !== found));
    this.forget(found.view);
  }

  private forget(view: View): void {
    for (const [key, write] of this.writes) if (write.view === view) this.set(key, undefined);
  }

  private changeViews(views: readonly Logged[]): void {
    if (this.sim.journaled) this.sim.journal(this, -1, this.views);
    this.views = views;
  }

  set(key: string, write: Write | undefined): void {
    let row = this.rows.get(key);
    if (row === undefined) {
      row = this.keys.length;
      this.keys.push(key);
      this.rows.set(key, row);
    }
    if (this.sim.journaled) this.sim.journal(this, row, this.writes.get(key));
    if (write === undefined) this.writes.delete(key);
    else this.writes.set(key, write);
  }

  undo(row: number, old: unknown): void {
    if (row < 0) this.views = old as readonly Logged[];
    else if (old === undefined) this.writes.delete(this.keys[row]!);
    else this.writes.set(this.keys[row]!, old as Write);
  }

  all(): readonly Write[] {
    return [...this.writes.values()];
  }
}

export function guestDirtyLoss(): Checker {
  let pending: Pending | null = null;
  return {
    name: 'dirty-loss',
    kind: 'end',
    attach({ sim }) {
      const writes = new Pending(sim);
      pending = writes;
      sim.on(VIEW_ADDED, (view) => writes.addView(view));
      sim.on(VIEW_REMOVED, (view) => writes.removeView(view));
      sim.on(DIRTY_LOGGING, ({ holder, page, on }) => writes.switchLog(holder, page, on));
      sim.on(GUEST_WROTE, ({ holder, page, token, logs }) => {
        const found = writes.find(holder, page);
        if (found === undefined || !(logs ?? found.on)) return;
        writes.set(`${holder}:${page}`, { view: found.view, page, token, by: sim.current?.name ?? '' });
      });
      sim.on(DIRTY_LOG_TAKEN, ({ holder, pages }) => {
        for (const page of pages) writes.set(`${holder}:${page}`, undefined);
      });
    },
    atEnd(context) {
      for (const write of pending?.all() ?? []) judge(context, write);
    },
  };
}

function judge(context: CheckContext, { view, page, token, by }: Write): void {
  if (view.dirtyAt!(page - view.page) !== false) return;
  const address = `0x${(page * 4096).toString(16)}`;
  reportFinding(context, {
    kind: 'dirty-loss',
    message: `'${context.core.frames.tokens.text(token)}', written by ${by} to ${address} of ${view.holder}, is in no dirty log: a migration loses it`,
    reasons: ['the memslot logs dirty pages, and neither its bitmap nor a log that was taken since has this page'],
    objects: [view.holder],
    details: { holder: view.holder, page, lost: context.core.frames.tokens.text(token), state: 'unlogged' },
    objectClass: 'guest page',
    labels: ['end'],
  });
}
