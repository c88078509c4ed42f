// Where a new mapping goes (mm/mmap.c get_unmapped_area, top down), and the limits on locked memory that mmap, mremap
// and mlock share (mm/mlock.c can_do_mlock, mlock_future_ok).
import type { Mm } from '../mm.ts';
import type { Thread } from '../process/task.ts';

/** One past the last page of user addresses: 128 TiB less one page on x86 with 4-level tables. */
export const TASK_SIZE_PAGES = 2 ** 35 - 1;

/** mmap_base without randomization: 128 MiB below the top are left to the stack. */
const MMAP_BASE = 2 ** 35 - 32768;

/** mmap_min_addr / 4096 */
const LOWEST = 16;

/** The highest free range of `pages` aligned to `align`, or undefined. In a step that announced reading `mm.vmas`. */
export function unmappedArea(mm: Mm, pages: number, align: number): number | undefined {
  let top = MMAP_BASE;
  while (top - pages >= LOWEST) {
    const start = Math.floor((top - pages) / align) * align;
    const below = mm.vmas.floor(start + pages - 1)?.[1];
    if (below === undefined || below.end <= start) return start;
    top = below.start;
  }
  return undefined;
}

/** vm.mmap_min_addr of distributions, 64 KiB [pages]. */
export const MMAP_MIN_PAGE = 16;

/** cap_mmap_addr: the lowest pages, where a null pointer of the kernel would lead, are for CAP_SYS_RAWIO. */
export function mayMapAt(current: Thread, vpn: number): boolean {
  return vpn >= MMAP_MIN_PAGE || current.capable('CAP_SYS_RAWIO');
}

/** can_do_mlock. At the beginning of a system call it looks in the step before, which announces what may change. */
export function canMlock(current: Thread): boolean {
  return current.task.memlockBytes.peek() !== 0 || current.capable('CAP_IPC_LOCK');
}

/** mlock_future_ok: may `pages` more be locked? In a step that announced reading `mm.lockedVm` and the limit. */
export function mlockFutureOk(current: Thread, mm: Mm, pages: number): boolean {
  return current.capable('CAP_IPC_LOCK') || mm.lockedVm.value + pages <= current.task.memlockPages;
}
