// The stable tree node of a KSM page (mm/ksm.c struct ksm_stable_node): which addresses of which mms map it. It takes the
// place of an anon_vma for reverse mapping; the kernel walks the anon_vmas of its rmap_items one after the other.
import { Cell } from '../../engine/cell.ts';
import { mix } from '../../engine/hash.ts';
import type { Steps } from '../../engine/process.ts';
import type { Sim } from '../../engine/sim.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Mm } from '../mm.ts';
import { AnonVma } from '../rmap/anon-vma.ts';
import type { RmapPlace } from '../rmap/rmap.ts';

const WALK = step('rmap_walk_ksm', 'op');

/** struct ksm_rmap_item of a merged page: an address, and the anon_vma of its area at the time. */
export class KsmRmapItem {
  readonly mm: Mm;
  readonly vpn: number;
  readonly anonVma: AnonVma;
  readonly identity: number;

  constructor(mm: Mm, vpn: number, anonVma: AnonVma) {
    this.mm = mm;
    this.vpn = vpn;
    this.anonVma = anonVma;
    this.identity = mix(mix(mm.identity, vpn | 0), anonVma.identity);
  }
}

export class StableNode extends AnonVma {
  readonly items: Cell<readonly KsmRmapItem[]>;
  /** kpfn: the KSM page, or 0 when it is gone. Migration moves it. */
  readonly pfn: Cell<number>;

  constructor(sim: Sim, name: string) {
    super(sim, name);
    this.items = new Cell<readonly KsmRmapItem[]>(sim, `rmap items of ${name}`, []);
    this.pfn = new Cell(sim, `page of ${name}`, 0);
  }
}

/** rmap_walk_ksm: the items' addresses, in their own mms and in those that got the page by fork. */
export function* ksmPlaces(_core: CoreMm, node: StableNode): Steps<readonly RmapPlace[]> {
  for (const { anonVma } of node.items.peek()) for (const mm of anonVma.mms.peek()) mm.vmas.willRead(WALK);
  yield node.items.willRead(WALK);
  const places: RmapPlace[] = [];
  for (const { anonVma, vpn } of node.items.value) {
    for (const mm of anonVma.mms.peek()) {
      const vma = mm.vmaAt(vpn);
      if (vma === undefined || vma.fields.anonVma !== anonVma) continue;
      if (!places.some((place) => place.mm === mm && place.vpn === vpn))
        places.push({ mm, vma, vpn, pages: 1, offset: 0 });
    }
  }
  return places;
}
