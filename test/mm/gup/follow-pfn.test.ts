import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import { fixupUserFault, followPfn } from '../../../src/mm/gup/follow-pfn.ts';
import { makeKind } from '../../support/kinds.ts';
import { type Lab, RECORDED } from '../../support/lab.ts';

const follow = (lab: Lab, page = 0) => lab.do(() => followPfn(lab.core, lab.mm, lab.vma(), lab.vpn + page));

function fixup(lab: Lab, write: boolean, mayUnlock = false) {
  return lab.do(function* () {
    yield* call(lab.mm.mmapLock.read());
    const fixed = yield* call(fixupUserFault(lab.core, lab.mm, lab.vpn, { write, remote: true, mayUnlock }));
    yield lab.mm.mmapLock.up();
    return fixed;
  });
}

describe.each(RECORDED)('the frame behind a BAR on %s', (kernel) => {
  it('is found once a fault has put it there, writable as the mapping is', () => {
    const lab = makeKind('pfnmap_bar', { kernel });
    expect(follow(lab)).toBeNull();
    expect(fixup(lab, true)).toEqual({ refusal: null, unlocked: false });
    const found = follow(lab);
    expect(found).toMatchObject({ writable: true, special: true, pages: 1 });
    expect(lab.core.machine.zoneOf(found!.pfn)?.kind).toBe('DEVICE');
    expect(follow(lab, 1)).toBeNull();
  });
});

describe('follow_pfnmap_start', () => {
  it('refuses ordinary memory, which follow_pte did not', () => {
    expect(follow(makeKind('anon_rw_touched', { kernel: 'v6.12.117' }))).toBeNull();
    const old = makeKind('anon_rw_touched', { kernel: 'v6.1.192' });
    expect(follow(old)?.pfn).toBe(old.pfn());
  });
});

describe('fixup_user_fault', () => {
  it('faults the page in and takes no reference', () => {
    const lab = makeKind('anon_rw_untouched');
    expect(fixup(lab, true).refusal).toBeNull();
    expect(lab.core.vmstat.peek('nr_foll_pin_acquired')).toBe(0);
    // One reference of the mapping, one of the LRU batch.
    expect(lab.refcount(lab.pfn())).toBe(2);
  });

  it('is EFAULT where nothing is mapped and where the mapping forbids it', () => {
    expect(fixup(makeKind('hole'), false).refusal).toMatchObject({ errno: 'EFAULT' });
    const refused = fixup(makeKind('anon_ro_untouched'), true).refusal;
    expect(refused?.errno).toBe('EFAULT');
    expect(refused?.reasons.at(-1)).toContain('VM_WRITE');
  });

  it('says when it dropped mmap_lock to wait', () => {
    expect(fixup(makeKind('uffd_missing'), true, true)).toEqual({ refusal: null, unlocked: true });
    expect(fixup(makeKind('uffd_missing'), true, false).refusal).toMatchObject({ errno: 'EFAULT' });
  });
});
