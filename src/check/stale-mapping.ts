// stale-mapping and use-after-free: a translation outlives the frame it was made for. Latent: the frame goes back to the
// allocator while a stage-2, IO page table or IOTLB entry still leads to it. Used: somebody got there. Kernel code that
// reaches a freed frame (a kernel mapping, a pin's holder) is a use after free.
import {
  FRAME_ACCESS,
  FRAME_RELEASED,
  type FrameAccess,
  type FrameReleased,
  type TranslationKind,
} from '../hw/frames.ts';
import type { CoreMm } from '../mm/core.ts';
import { type CheckContext, type Checker, isReported, reportFinding } from './checker.ts';
import { addressIn, FrameHistory, type Freeing, type Making } from './frame-history.ts';
import type { Moment } from './step-log.ts';

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

/** Translations named in a latent finding. */
const NAMED = 4;

/** Object ids whose steps tell the life of a frame. */
function lifeOf(core: CoreMm, pfn: number): readonly number[] {
  const head = core.folios.headOf(pfn);
  return [core.folios.refcount.base + head, core.folios.mapcount.base + head, core.frames.content.base + pfn];
}

export const staleMapping: Checker = {
  name: 'stale-mapping',
  kind: 'relation',
  attach(context) {
    const { sim, core, log } = context;
    const history = log === null ? null : new FrameHistory(sim, core.frames, log);
    sim.on(FRAME_RELEASED, (released) => {
      if (released.translations > 0 && !isReported(context, 'stale-mapping', 'latent'))
        reportLatent(context, history, released);
    });
    sim.on(FRAME_ACCESS, (access) => {
      if (access.madeFor === access.generation) return;
      const { through } = access;
      const kind = through === 'kernel' || through === 'pin' || through === 'pte' ? 'use-after-free' : 'stale-mapping';
      if (!isReported(context, kind, `used ${through}`)) reportUsed(context, history, access, kind);
    });
  },
};

function reportLatent(context: CheckContext, history: FrameHistory | null, released: FrameReleased): void {
  const { sim, core, log } = context;
  const { pfn, pages, translations, why } = released;
  const by = sim.current?.name ?? 'the end of the run';
  const label = sim.actingAccess?.step.label;
  const leading = history?.leading(pfn, pages, NAMED) ?? [];
  const freeing = log === null ? [] : [log.moment(`frees pfn ${pfn}: ${why}`)];
  reportFinding(context, {
    kind: 'stale-mapping',
    message: `pfn ${pfn} goes back to the allocator while ${translations} translation${translations === 1 ? '' : 's'} still lead${translations === 1 ? 's' : ''} to it`,
    reasons: [
      `freed by ${by}${label === undefined ? '' : ` in ${label}`}${at(sim.nowNs)}: ${why}`,
      ...leading.map((making) => `${whereIs(making)} still leads there: ${madeBy(making)}`),
    ],
    objects: [`pfn ${pfn}`, ...leading.map(({ table }) => table.name)],
    about: lifeOf(core, pfn),
    moments: [...leading.map(({ moment }) => moment), ...freeing],
    details: {
      state: 'latent',
      pfn,
      pages,
      translations,
      'freed-by': sim.current?.name ?? 'drain',
      why,
      ...factsOf(leading[0]),
    },
    objectClass: 'latent',
  });
}

function reportUsed(context: CheckContext, history: FrameHistory | null, access: FrameAccess, kind: string): void {
  const { sim, core, log } = context;
  const { pfn, through } = access;
  const verb = access.marksDirty ? 'sets PG_dirty of' : access.write ? 'writes' : 'reads';
  const address = `0x${(access.page * 4096).toString(16)}`;
  const seen = core.frames.tokens.text(access.token);
  const freeing = history?.freeing(pfn, access.madeFor);
  const making = history?.making(pfn, access.table ?? access.holder, access.page);
  const moments: Moment[] = [];
  if (making !== undefined) moments.push(making.moment);
  if (freeing !== undefined && freeing.moment.step !== making?.moment.step) moments.push(freeing.moment);
  const where = ownerNow(core, pfn);
  const effect = access.marksDirty ? `it is ${where}` : `it ${access.write ? 'leaves' : 'sees'} '${seen}' in ${where}`;
  const now = log?.moment(`${verb} pfn ${pfn} through the ${THROUGH[through]} of ${access.holder}`);
  if (now !== undefined && moments.every(({ step }) => step !== now.step)) moments.push(now);
  reportFinding(context, {
    kind,
    message:
      `${sim.current?.name} ${verb} pfn ${pfn} at ${address} of ${access.holder} through its ` +
      `${THROUGH[through]}, though the frame has been freed since the translation was made: ${effect}`,
    reasons: [
      ...(freeing === undefined ? [] : [freedBy(freeing)]),
      making === undefined
        ? `the translation was made for generation ${access.madeFor} of the frame, which is now at ${access.generation}`
        : `${whereIs(making)} led there: ${madeBy(making)} for generation ${access.madeFor} of the frame, which is now at ${access.generation}`,
    ],
    objects: [`pfn ${pfn}`, access.holder],
    about: lifeOf(core, pfn),
    moments,
    details: {
      state: 'used',
      pfn,
      through,
      holder: access.holder,
      access: access.marksDirty ? 'mark dirty' : access.write ? 'write' : 'read',
      ...(access.marksDirty ? {} : { content: seen }),
      ...(freeing === undefined ? {} : { 'freed-by': freeing.moment.actor, why: freeing.why }),
      ...factsOf(making),
    },
    objectClass: `used ${through}`,
  });
}

function at(timeNs: number): string {
  return timeNs > 0 ? ` at ${timeNs} ns` : '';
}

function whereIs({ table, page }: Making): string {
  return `${addressIn(table, page)} in ${table.name}`;
}

function madeBy({ moment }: Making): string {
  return `made by ${moment.actor} in ${moment.label}${at(moment.timeNs)}`;
}

function freedBy({ moment, why }: Freeing): string {
  return `the frame was freed by ${moment.actor} in ${moment.label}${at(moment.timeNs)}: ${why}`;
}

function factsOf(making: Making | undefined): Readonly<Record<string, string | number>> {
  if (making === undefined) return {};
  const { table, page, moment } = making;
  const where = table.addresses === 'gfn' ? { gfn: page } : { iova: page * 4096 };
  return { table: table.name, ...where, 'made-by': moment.actor, 'made-in': moment.label };
}

/** Who has the frame now, in words. */
function ownerNow(core: CoreMm, pfn: number): string {
  const head = core.folios.headOf(pfn);
  if (core.folios.refcount.peek(head) === 0) return 'a free page';
  const anon = core.rmapAnon(head);
  if (anon !== undefined) return `a page of ${anon.name}`;
  const inode = core.rmapInode(head);
  return inode === undefined ? 'a page of the kernel' : `a page of ${inode.name}`;
}
