// madvise (mm/madvise.c): what is checked in which order, which lock is held, VMA by VMA over holes. What the advice does
// is in madvise-zap.ts, madvise-free.ts, madvise-lru.ts, or in those that install madvise-hooks.ts.
import { call, type Steps } from '../../engine/process.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import { fallocate } from '../file/truncate.ts';
import { populateUserPages } from '../gup/gup.ts';
import type { Vma } from '../mapping/vma.ts';
import { findVmas } from '../mapping/vma-edit.ts';
import type { Mm } from '../mm.ts';
import { madviseFree } from './madvise-free.ts';
import { madviseHooks } from './madvise-hooks.ts';
import { madviseCold } from './madvise-lru.ts';
import { adviseVma, type VmaAdvice } from './madvise-vma.ts';
import { madviseWillneed } from './madvise-willneed.ts';
import { madviseDontneed } from './madvise-zap.ts';

export type Advice =
  | VmaAdvice
  | 'DONTNEED'
  | 'DONTNEED_LOCKED'
  | 'FREE'
  | 'COLD'
  | 'PAGEOUT'
  | 'REMOVE'
  | 'WILLNEED'
  | 'COLLAPSE'
  | 'POPULATE_READ'
  | 'POPULATE_WRITE'
  | 'HWPOISON'
  | 'SOFT_OFFLINE';

const VMA_ADVICE: readonly string[] = [
  'DONTFORK',
  'DOFORK',
  'WIPEONFORK',
  'KEEPONFORK',
  'MERGEABLE',
  'UNMERGEABLE',
  'HUGEPAGE',
  'NOHUGEPAGE',
];

/**
 * madvise of pages [vpn, vpn + pages). EINVAL: unknown to this kernel, or not for this memory; EPERM: poisoning without
 * CAP_SYS_ADMIN; ENOMEM: a hole in the range (the rest was advised); EINTR: killed. The others as the advice has them.
 */
export function* madvise(core: CoreMm, vpn: number, pages: number, advice: Advice): Steps<'ok' | Errno> {
  const { task } = core.current;
  const mm = task.mm.peek()!;
  if (!known(core, advice)) return 'EINVAL';
  if (pages === 0) return 'ok';
  if (advice === 'HWPOISON' || advice === 'SOFT_OFFLINE') return yield* call(inject(core, vpn, pages, advice));
  const write = VMA_ADVICE.includes(advice);
  if (write) {
    if (!(yield* call(mm.mmapLock.killable(true, task.killed)))) return 'EINTR';
  } else {
    yield* call(mm.mmapLock.read());
  }
  const populates = advice === 'POPULATE_READ' || advice === 'POPULATE_WRITE';
  const result = populates
    ? yield* call(populate(core, mm, vpn, vpn + pages, advice === 'POPULATE_WRITE'))
    : yield* call(walkVmas(core, mm, vpn, vpn + pages, advice));
  yield mm.mmapLock.up();
  return result;
}

/** madvise_behavior_valid */
function known(core: CoreMm, advice: Advice): boolean {
  const { kernel } = core;
  switch (advice) {
    case 'COLLAPSE':
      return kernel.has('thp.madv-collapse');
    case 'HUGEPAGE':
    case 'NOHUGEPAGE':
      return kernel.has('thp.present');
    case 'MERGEABLE':
    case 'UNMERGEABLE':
      return kernel.has('ksm.present');
    case 'HWPOISON':
    case 'SOFT_OFFLINE':
      return kernel.has('hwpoison.present');
    case 'DONTNEED_LOCKED':
      return kernel.has('madvise.dontneed-locked');
    case 'POPULATE_READ':
    case 'POPULATE_WRITE':
      return kernel.has('madvise.populate');
    default:
      return true;
  }
}

/** madvise_inject_error */
function* inject(core: CoreMm, vpn: number, pages: number, advice: 'HWPOISON' | 'SOFT_OFFLINE'): Steps<'ok' | Errno> {
  if (!core.current.capable('CAP_SYS_ADMIN')) return 'EPERM';
  const hooks = madviseHooks(core);
  const run = advice === 'HWPOISON' ? hooks.hwpoison : hooks.softOffline;
  if (run === undefined) throw new Error(`MADV_${advice} in a world without memory failure`);
  return yield* call(run(core, vpn, pages));
}

/** madvise_walk_vmas: a hole is ENOMEM, but only at the end. */
function* walkVmas(core: CoreMm, mm: Mm, from: number, to: number, advice: Advice): Steps<'ok' | Errno> {
  let hole = false;
  for (let vpn = from; vpn < to; ) {
    // Looked up anew each time: an advice may have split VMAs, or dropped mmap_lock.
    const vma = (yield* call(findVmas(mm, vpn, to)))[0];
    if (vma === undefined) return 'ENOMEM';
    if (vma.start > vpn) hole = true;
    const start = Math.max(vpn, vma.start);
    const end = Math.min(to, vma.end);
    const result = yield* call(adviseOne(core, mm, vma, start, end, advice));
    if (result !== 'ok') return result;
    vpn = end;
  }
  return hole ? 'ENOMEM' : 'ok';
}

/** madvise_vma_behavior */
function* adviseOne(core: CoreMm, mm: Mm, vma: Vma, from: number, to: number, advice: Advice): Steps<'ok' | Errno> {
  switch (advice) {
    case 'DONTNEED':
      return yield* call(madviseDontneed(core, mm, vma, from, to, false));
    case 'DONTNEED_LOCKED':
      return yield* call(madviseDontneed(core, mm, vma, from, to, true));
    case 'FREE':
      return yield* call(madviseFree(core, mm, vma, from, to));
    case 'COLD':
      return yield* call(madviseCold(core, mm, vma, from, to, false));
    case 'PAGEOUT':
      return yield* call(madviseCold(core, mm, vma, from, to, true));
    case 'REMOVE':
      return yield* call(madviseRemove(core, mm, vma, from, to));
    case 'WILLNEED':
      return yield* call(madviseWillneed(core, mm, vma, from, to));
    case 'COLLAPSE': {
      const { collapse } = madviseHooks(core);
      if (collapse === undefined) throw new Error('MADV_COLLAPSE in a world without khugepaged');
      return yield* call(collapse(core, mm, vma, from, to));
    }
    case 'POPULATE_READ':
    case 'POPULATE_WRITE':
    case 'HWPOISON':
    case 'SOFT_OFFLINE':
      throw new Error(`MADV_${advice} is no advice for one VMA`);
    default:
      return yield* call(adviseVma(core, mm, vma, from, to, advice));
  }
}

/** madvise_remove: a hole in the file, with mmap_lock dropped meanwhile. */
function* madviseRemove(core: CoreMm, mm: Mm, vma: Vma, from: number, to: number): Steps<'ok' | Errno> {
  const { file, vmFile, pfnMapping, locked, shared, mayWrite } = vma.fields;
  if (locked || (file === null && vmFile === null)) return 'EINVAL';
  // vma_is_shared_maywrite; until 6.7 the mapping had to be writable now.
  const may = core.kernel.has('madvise.remove-maywrite') ? mayWrite : vma.fields.write;
  if (!shared || !may) return 'EACCES';
  // vfs_fallocate: devices are no regular files.
  if (file === null || pfnMapping !== null) return 'ENODEV';
  yield mm.mmapLock.up();
  const result = yield* call(fallocate(core, file, 'punch-hole', vma.indexOf(from), to - from));
  yield* call(mm.mmapLock.read());
  return result;
}

/** madvise_populate: stops at the first failure, with what came before in place. */
function* populate(core: CoreMm, mm: Mm, from: number, to: number, write: boolean): Steps<'ok' | Errno> {
  for (let vpn = from; vpn < to; ) {
    const vma = (yield* call(findVmas(mm, vpn, vpn + 1)))[0];
    if (vma === undefined) return 'ENOMEM';
    const { fields } = vma;
    const refused = fields.io || fields.pfnMapping !== null || fields.file?.kind === 'secret';
    if (refused || (write ? !fields.write : !fields.read)) return 'EINVAL';
    const end = Math.min(to, vma.end);
    const { done, reason } = yield* call(populateUserPages(core, mm, vpn, end - vpn, write));
    if (reason !== undefined && done === 0) return reason.errno;
    vpn += Math.max(done, 1);
  }
  return 'ok';
}
