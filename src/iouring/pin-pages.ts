// io_pin_pages (io_uring/rsrc.c, since 6.10 memmap.c): a buffer is a writable long-term pin. Up to 6.11 by GUP-slow with
// a look at the mappings' files, then by GUP-fast.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import type { CoreMm } from '../mm/core.ts';
import { type GupResult, pinUserPages } from '../mm/gup/gup.ts';
import { pinUserPagesFast } from '../mm/gup/gup-fast.ts';
import { refuse, within } from '../mm/gup/gup-flags.ts';
import { unpinUserPages } from '../mm/gup/unpin.ts';
import type { FrameRun, Refusal } from '../mm/ledger.ts';
import type { Vma } from '../mm/mapping/vma.ts';

const FILES = step('io_pin_pages:vm_file', 'op');

export type Pinned = { readonly runs: readonly FrameRun[] } | { readonly refused: Refusal };

/** All of the pages, or nothing. Errors: those of a writable long-term pin; EFAULT for a part; EOPNOTSUPP, EINVAL. */
export function* ioPinPages(core: CoreMm, vpn: number, pages: number, owner: string): Steps<Pinned> {
  const request = { owner, write: true, longterm: true };
  if (core.kernel.has('iouring.buffer-pins-fast')) {
    const result = yield* call(pinUserPagesFast(core, vpn, pages, request));
    return yield* call(allOrNothing(core, result, pages, owner));
  }
  const mm = core.current.task.mm.peek()!;
  yield* call(mm.mmapLock.read());
  const result = yield* call(pinUserPages(core, vpn, pages, request));
  let refused: Refusal | null = null;
  if (result.pinned === pages && core.kernel.way('iouring.buffer-file-rule') === 'shmem-and-hugetlb-only') {
    yield mm.vmas.willRead(FILES);
    refused = checkFiles(core, mm.vmasIn(vpn, vpn + pages));
  }
  yield mm.mmapLock.up();
  if (refused === null) return yield* call(allOrNothing(core, result, pages, owner));
  yield* call(unpinUserPages(core, result.runs, { owner }));
  return { refused };
}

function* allOrNothing(core: CoreMm, result: GupResult, pages: number, owner: string): Steps<Pinned> {
  if (result.pinned === pages) return { runs: result.runs };
  if (result.pinned > 0) yield* call(unpinUserPages(core, result.runs, { owner }));
  const reason = result.reason ?? refuse('EFAULT', 'pin_user_pages pinned nothing', 'memory that can be pinned');
  // Of a partial pin the kernel knows no errno.
  const outer = `io_pin_pages: ${result.pinned} of ${pages} pages could be pinned`;
  return { refused: { ...within(outer, reason, { pinned: result.pinned }), errno: result.errno ?? 'EFAULT' } };
}

/** "don't support file backed memory": what mappings of files old kernels accept. */
function checkFiles(core: CoreMm, vmas: readonly Vma[]): Refusal | null {
  const first = fileOf(vmas[0]!);
  for (const vma of vmas) {
    if (core.kernel.has('iouring.buffer-same-file') && fileOf(vma) !== first) {
      return refuse(
        'EINVAL',
        `io_pin_pages: the buffer spans '${vmas[0]!.fields.name}' and '${vma.fields.name}', mappings of different files`,
        'one buffer for each mapping',
      );
    }
    const { file, vmFile, name } = vma.fields;
    if (file === null && vmFile === null) continue;
    // vma_is_shmem compares vm_ops, and those of SysV are its own.
    if (vmFile === null && (file?.kind === 'shmem' || file?.kind === 'hugetlb')) continue;
    return refuse(
      'EOPNOTSUPP',
      `io_pin_pages: '${name}' maps a file (${vmFile ?? file?.fs ?? file?.kind}) that is neither shmem nor hugetlbfs; a private mapping is no exception`,
      'anonymous memory, memfd or hugetlb; or a kernel with the rules of GUP alone (6.5)',
    );
  }
  return null;
}

function fileOf(vma: Vma): unknown {
  return vma.fields.vmFile ?? vma.fields.file;
}
