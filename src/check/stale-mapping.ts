// stale-mapping and use-after-free: a translation outlives the frame it was made for. Latent: the frame goes back to the
// allocator while a stage-2, IO page table or IOTLB entry still leads to it. Used: somebody got there. Kernel code that
// reaches a freed frame (a kernel mapping, a pin's holder) is a use after free.
import { FRAME_ACCESS, FRAME_RELEASED, type TranslationKind } from '../hw/frames.ts';
import type { CoreMm } from '../mm/core.ts';
import { type Checker, reportFinding } from './checker.ts';

const THROUGH: Readonly<Record<TranslationKind, string>> = {
  pte: 'page table',
  tlb: 'CPU TLB',
  stage2: 'second-stage page table',
  'guest-tlb': 'guest TLB',
  'io-pte': 'IO page table',
  iotlb: 'IOTLB',
  pin: 'pinned page',
  kernel: 'kernel mapping',
};

/** Object ids whose steps tell the life of a frame. */
function lifeOf(core: CoreMm, pfn: number): readonly number[] {
  const head = core.folios.headOf(pfn);
  return [core.folios.refcount.base + head, core.folios.mapcount.base + head, core.frames.content.base + pfn];
}

export const staleMapping: Checker = {
  name: 'stale-mapping',
  kind: 'relation',
  attach(context) {
    const { sim, core } = context;
    sim.on(FRAME_RELEASED, ({ pfn, pages, translations, why }) => {
      if (translations <= 0) return;
      reportFinding(context, {
        kind: 'stale-mapping',
        message: `pfn ${pfn} goes back to the allocator while ${translations} translation${translations === 1 ? '' : 's'} still lead${translations === 1 ? 's' : ''} to it`,
        reasons: [`freed by ${sim.current?.name ?? 'the end of the run'} in ${why}`],
        objects: [`pfn ${pfn}`],
        about: lifeOf(core, pfn),
        details: { state: 'latent', pfn, pages, translations, 'freed-by': sim.current?.name ?? 'drain', why },
        objectClass: 'latent',
      });
    });
    sim.on(FRAME_ACCESS, (access) => {
      if (access.madeFor === access.generation) return;
      const kernel = access.through === 'kernel' || access.through === 'pin' || access.through === 'pte';
      const verb = access.write ? 'writes' : 'reads';
      const address = `0x${(access.page * 4096).toString(16)}`;
      reportFinding(context, {
        kind: kernel ? 'use-after-free' : 'stale-mapping',
        message:
          `${sim.current?.name} ${verb} pfn ${access.pfn} at ${address} of ${access.holder} through its ` +
          `${THROUGH[access.through]}, though the frame has been freed since the translation was made`,
        reasons: [
          `the translation was made for generation ${access.madeFor} of the frame, which is now at ${access.generation}`,
          `${access.write ? 'it leaves' : 'it sees'} '${core.frames.tokens.text(access.token)}' ${ownerNow(core, access.pfn)}`,
        ],
        objects: [`pfn ${access.pfn}`, access.holder],
        about: lifeOf(core, access.pfn),
        details: {
          state: 'used',
          pfn: access.pfn,
          through: access.through,
          holder: access.holder,
          access: access.write ? 'write' : 'read',
          content: core.frames.tokens.text(access.token),
        },
        objectClass: `used ${access.through}`,
      });
    });
  },
};

/** Who has the frame now, in words. */
function ownerNow(core: CoreMm, pfn: number): string {
  const head = core.folios.headOf(pfn);
  if (core.folios.refcount.peek(head) === 0) return 'in a free page';
  const anon = core.rmapAnon(head);
  if (anon !== undefined) return `in a page of ${anon.name}`;
  const inode = core.rmapInode(head);
  return inode === undefined ? 'in a page of the kernel' : `in a page of ${inode.name}`;
}
