// The call from a long-term pin into migration. Migration installs itself here when the world is built: it faults,
// allocates and reclaims, and an import each way would be a cycle.
import { call, type Steps } from '../engine/process.ts';
import type { CoreMm } from './core.ts';
import type { Errno } from './errno.ts';
import type { Gfp } from './page-alloc.ts';

export interface MigrateOptions {
  readonly mode: 'async' | 'sync-light' | 'sync';
  /** migrate_reason: `longterm-pin`, `compaction`, `syscall`... */
  readonly reason: string;
  readonly target: Omit<Gfp, 'order'>;
}

export interface MigrateResult {
  /** Heads that stayed where they are, still isolated: the caller puts them back. */
  readonly failed: readonly number[];
  readonly errno?: Errno;
}

/** migrate_pages: the folios are isolated, each with the isolation's reference. */
export type MigratePages = (core: CoreMm, heads: readonly number[], options: MigrateOptions) => Steps<MigrateResult>;

const installed = new WeakMap<CoreMm, MigratePages>();

export function installMigration(core: CoreMm, migrate: MigratePages): void {
  installed.set(core, migrate);
}

/** migrate_pages. Throws when the world was built without migration. */
export function* migratePages(core: CoreMm, heads: readonly number[], options: MigrateOptions): Steps<MigrateResult> {
  const migrate = installed.get(core);
  if (migrate === undefined) throw new Error(`no migration in this world to move ${heads.length} folios with`);
  return yield* call(migrate(core, heads, options));
}
