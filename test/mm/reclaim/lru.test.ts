import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import { writePage } from '../../../src/mm/file/file-io.ts';
import { truncate } from '../../../src/mm/file/truncate.ts';
import { getUserPagesFast } from '../../../src/mm/gup/gup-fast.ts';
import { madvise } from '../../../src/mm/madvise/madvise.ts';
import { mlock } from '../../../src/mm/mapping/mlock.ts';
import { munmap } from '../../../src/mm/mapping/mmap.ts';
import { kpageflags } from '../../../src/mm/proc/pagemap.ts';
import { lruAddDrain, lruAddDrainAll } from '../../../src/mm/reclaim/lru.ts';
import { splitHugePagesPid } from '../../../src/mm/thp/split-huge-pages.ts';
import { fsync } from '../../../src/mm/writeback/msync.ts';
import { Lab } from '../../support/lab.ts';
import { tokenOf } from '../../support/tokens.ts';

const C = tokenOf('c');

function flags(lab: Lab, pfn = lab.pfn()): readonly string[] {
  return kpageflags(lab.core, pfn);
}

/** Shared memory whose page 0 is mapped, on its list, and not marked. */
function shared(kernel: string): Lab {
  const lab = new Lab({ kernel, cpus: 1 });
  lab.map({ file: lab.inode({ kind: 'shmem' }), shared: true });
  lab.touchAll('c');
  lab.do(() => lruAddDrainAll(lab.core));
  return lab;
}

describe('a batch of the LRU', () => {
  it.each([
    ['v6.1.192', 15],
    ['v6.12.117', 31],
  ])('of %s takes %d pages', (kernel, size) => {
    const lab = new Lab({ kernel, cpus: 1 });
    lab.map({ pages: 64 });
    for (let i = 0; i < size - 1; i++) lab.write('c', i);
    expect(flags(lab)).not.toContain('LRU');
    lab.write('c', size - 1);
    expect(flags(lab)).toContain('LRU');
  });

  it('is drained when writeback, truncation or zapping release the pages that they held', () => {
    const ways: readonly ((lab: Lab) => void)[] = [
      (lab) => {
        const file = lab.inode({ kind: 'file' });
        lab.do(() => writePage(lab.core, file, 0, C));
        lab.do(() => fsync(lab.core, file));
      },
      (lab) => {
        const file = lab.inode({ kind: 'shmem' });
        lab.do(() => writePage(lab.core, file, 0, C));
        lab.do(() => truncate(lab.core, file, 0));
      },
      (lab) => {
        const { vpn } = lab;
        lab.map({ name: 'other' });
        lab.write('c');
        lab.do(() => munmap(lab.core, lab.vpn, 8));
        lab.vpn = vpn;
      },
    ];
    for (const way of ways) {
      const lab = new Lab({ cpus: 1 });
      lab.map();
      lab.write('c');
      expect(flags(lab)).not.toContain('LRU');
      way(lab);
      expect(flags(lab)).toContain('LRU');
    }
  });
});

describe('the second use of a page', () => {
  it('makes it active once the batch of activations is drained; until then it has a reference more', () => {
    const lab = shared('v6.1.192');
    const references = lab.refcount(lab.pfn());
    lab.pin(false, 1);
    expect(flags(lab)).toContain('REFERENCED');
    lab.unpin(false);
    lab.pin(false, 1);
    lab.unpin(false);
    expect(flags(lab)).toEqual(expect.arrayContaining(['LRU', 'DIRTY']));
    expect(flags(lab)).not.toContain('REFERENCED');
    expect(flags(lab)).not.toContain('ACTIVE');
    expect(lab.refcount(lab.pfn())).toBe(references + 1);
    lab.do(() => lruAddDrain(lab.core));
    expect(flags(lab)).toContain('ACTIVE');
    expect(lab.refcount(lab.pfn())).toBe(references);
  });

  it('makes it active at once while it waits to be put on a list', () => {
    const lab = new Lab({ kernel: 'v6.1.192', cpus: 1 });
    lab.map({ file: lab.inode({ kind: 'shmem' }), shared: true });
    lab.write('c');
    for (let i = 0; i < 2; i++) {
      lab.pin(false, 1);
      lab.unpin(false);
    }
    expect(flags(lab)).toContain('ACTIVE');
    expect(flags(lab)).not.toContain('LRU');
  });

  it('through GUP-fast only leaves a mark', () => {
    const lab = shared('v6.1.192');
    for (let i = 0; i < 2; i++) {
      lab.do(() => getUserPagesFast(lab.core, lab.vpn, 1, { owner: 'test', write: false }));
    }
    expect(flags(lab)).toContain('REFERENCED');
    lab.do(() => lruAddDrain(lab.core));
    expect(flags(lab)).not.toContain('ACTIVE');
  });

  it('counts what populate finds: mlock marks its pages', () => {
    const lab = new Lab({ kernel: 'v6.1.192', cpus: 1 });
    lab.map();
    lab.do(() => mlock(lab.core, lab.vpn, 8));
    expect(flags(lab)).toEqual(expect.arrayContaining(['REFERENCED', 'MLOCKED']));
  });
});

describe('pages freed together', () => {
  // As in pins/madv_pageout/anon_rw_touched/control: whose page does the next fault get?
  it.each([
    ['v6.1.192', 0],
    ['v6.12.117', 7],
  ])('by munmap on %s: page %d of 8 is reused first', (kernel, first) => {
    const lab = new Lab({ kernel, cpus: 1 });
    lab.map();
    lab.touchAll('c');
    const frames = Array.from({ length: 8 }, (_, i) => lab.pfn(i));
    lab.do(() => munmap(lab.core, lab.vpn, 8));
    lab.map({ pages: 1, name: 'next' });
    lab.write('n');
    expect(lab.pfn()).toBe(frames[first]);
  });
});

describe('the deferred split queue', () => {
  function huge(kernel: string): Lab {
    const lab = new Lab({ kernel, cpus: 1 });
    lab.map({ pages: 512 });
    lab.write('c');
    return lab;
  }

  it.each(['v6.1.192', 'v6.12.117'])('of %s takes a THP of which a part is unmapped, once', (kernel) => {
    const lab = huge(kernel);
    lab.do(() => madvise(lab.core, lab.vpn + 256, 4, 'DONTNEED'));
    lab.do(() => madvise(lab.core, lab.vpn + 300, 4, 'DONTNEED'));
    expect(lab.core.vmstat.peek('thp_deferred_split_page')).toBe(1);
  });

  // pins/thp_debugfs_split/anon_thp and its control.
  it.each([
    ['v6.1.192', 1],
    ['v6.12.117', 0],
  ])('of %s counts a THP that a split unmaps whole: %d', (kernel, queued) => {
    const lab = huge(kernel);
    lab.do(function* () {
      return yield* call(splitHugePagesPid(lab.core, lab.mm, lab.vpn, 512));
    });
    expect(lab.core.vmstat.peek('thp_split_page')).toBe(1);
    expect(lab.core.vmstat.peek('thp_deferred_split_page')).toBe(queued);
  });

  it('does not count a pinned THP as a failed split when debugfs asks for it: it is passed over', () => {
    const lab = huge('v6.12.117');
    lab.pin();
    expect(lab.do(() => splitHugePagesPid(lab.core, lab.mm, lab.vpn, 512))).toBe(0);
    expect(lab.core.vmstat.peek('thp_split_page_failed')).toBe(0);
  });
});

describe('the hugetlb pool', () => {
  it('gives the page freed last, with the marks of its last user', () => {
    const lab = new Lab({ params: { hugePages: { 9: 4 } } });
    const used = () => {
      lab.map({ pages: 512, file: lab.inode({ kind: 'hugetlb', sizePages: 512, hugeOrder: 9 }), name: 'huge' });
      lab.write('c');
      return lab.pfn();
    };
    const first = used();
    expect(flags(lab, first)).not.toContain('DIRTY');
    lab.do(() => munmap(lab.core, lab.vpn, 512));
    expect(used()).toBe(first);
    expect(flags(lab, first)).toContain('DIRTY');
  });
});
