// What migrate_pages is asked and answers (include/linux/migrate.h).

import type { Gfp } from '../alloc/page-alloc.ts';
import type { Errno } from '../errno.ts';

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
