// Rows of the type1 conformance table about MAP_DMA, beyond what is recorded as arguments and accounting.

import { describe, expect, test } from 'vitest';
import { call, type Steps } from '../../src/engine/process.ts';
import { step } from '../../src/engine/step.ts';
import { iommuDriver } from '../../src/iommu/driver.ts';
import type { Inode, InodeKind } from '../../src/mm/file/inode.ts';
import { Inode as MemoryObject } from '../../src/mm/file/inode.ts';
import { mprotect } from '../../src/mm/mapping/mprotect.ts';
import { uffdModes, Vma } from '../../src/mm/mapping/vma.ts';
import { VfioContainer, vfioIommuDirtyPages, vfioSetIommu } from '../../src/vfio/container.ts';
import { vfioGroupOpen, vfioGroupSetContainer } from '../../src/vfio/group.ts';
import type { VfioIommu } from '../../src/vfio/iommu.ts';
import { vfioMapDma } from '../../src/vfio/map.ts';
import {
  containerFile,
  fail,
  IOVA0,
  type Lab,
  makeLab,
  makeStation,
  mapMemory,
  type Opened,
  openStation,
  PAGE,
  play,
  READ,
  RW,
  type Station,
  touch,
  vfMap,
  vfUnmap,
  vmlck,
  WRITE,
} from '../support/vfio-world.ts';
import { actor, makeTask } from '../support/world.ts';

const AT = step('test', 'none');

/** Open a station and run `body` in it. */
function inStation<R>(
  options: Parameters<typeof makeLab>[0],
  body: (opened: Opened, lab: Lab) => Steps<R>,
): { readonly lab: Lab; readonly station: Station; readonly seen: R } {
  const lab = makeLab(options);
  const station = makeStation(lab, 'edu');
  const seen = play(lab, function* () {
    return yield* call(body(yield* call(openStation(lab, station, 'container0')), lab));
  });
  return { lab, station, seen };
}

/** A container with groups of emulated devices only. */
function* emulatedContainer(lab: Lab, station: Station): Steps<VfioContainer> {
  const container = new VfioContainer(lab.core, lab.module, 'container0');
  yield* call(joinContainer(lab, station, container));
  const set = yield* call(vfioSetIommu(container, 3));
  return set === 'ok' ? container : fail(set);
}

function* joinContainer(lab: Lab, station: Station, container: VfioContainer): Steps<string> {
  const file = yield* call(vfioGroupOpen(station.group));
  if (typeof file === 'string') fail(file);
  return yield* call(vfioGroupSetContainer(station.group, containerFile(lab, container)));
}

const iommuOf = (container: VfioContainer) => container.driver.peek() as VfioIommu;

test('adjacent mappings are separate entries', () => {
  const { seen } = inStation({}, function* ({ container }, lab) {
    const p = yield* call(mapMemory(lab, { pages: 4 }));
    yield* call(vfMap(container, p, IOVA0, 2));
    yield* call(vfMap(container, p + 2, IOVA0 + 2n * PAGE, 2));
    return iommuOf(container).held.entries.map((dma) => [dma.iova, dma.pages]);
  });
  const first = Number(IOVA0 / PAGE);
  expect(seen).toEqual([
    [first, 2],
    [first + 2, 2],
  ]);
});

test('over the limit: ENOMEM, everything unpinned, the entry free again', () => {
  const { seen, lab } = inStation(
    { task: { capabilities: [], memlockBytes: 8 * 4096 } },
    function* ({ container }, lab) {
      const p = yield* call(mapMemory(lab, { pages: 16 }));
      const before = iommuOf(container).dmaAvail.peek();
      const result = yield* call(vfMap(container, p, IOVA0, 9));
      return [result, before - iommuOf(container).dmaAvail.peek()];
    },
  );
  expect(seen).toEqual(['ENOMEM', 0]);
  expect(vmlck(lab.task)).toBe(0);
  const { vmstat } = lab.core;
  expect(vmstat.peek('nr_foll_pin_acquired')).toBe(vmstat.peek('nr_foll_pin_released'));
});

test('CAP_IPC_LOCK at MAP time: charged beyond the limit', () => {
  const { seen, lab } = inStation({ task: { memlockBytes: 0 } }, function* ({ container }, lab) {
    return yield* call(vfMap(container, yield* call(mapMemory(lab, { pages: 4 })), IOVA0, 4));
  });
  expect(seen).toBe('ok');
  expect(vmlck(lab.task)).toBe(16);
});

test('a container with emulated devices only: no address is validated, no page pinned, no window refused', () => {
  const lab = makeLab();
  const station = makeStation(lab, 'mdev', { type: 'emulated' });
  const seen = play(lab, function* () {
    const container = yield* call(emulatedContainer(lab, station));
    return [yield* call(vfMap(container, 1, IOVA0, 4)), yield* call(vfMap(container, 1, 0xfee00000n, 1))];
  });
  expect(seen).toEqual(['ok', 'ok']);
  expect(vmlck(lab.task)).toBe(0);
});

test('while tracking, a mapping of more than 2^31 - 1 pages is EINVAL and leaves no entry', () => {
  const lab = makeLab();
  const station = makeStation(lab, 'mdev', { type: 'emulated' });
  const seen = play(lab, function* () {
    const container = yield* call(emulatedContainer(lab, station));
    const large = { flags: RW, vaddr: 0n, iova: 0n, size: 1n << 43n };
    yield* call(vfioIommuDirtyPages(container, { flags: 1 }));
    const tracked = yield* call(vfioMapDma(iommuOf(container), lab.module, large));
    const entries = iommuOf(container).held.entries.length;
    yield* call(vfioIommuDirtyPages(container, { flags: 2 }));
    return [tracked, entries, yield* call(vfioMapDma(iommuOf(container), lab.module, large))];
  });
  expect(seen).toEqual(['EINVAL', 0, 'ok']);
});

test('a no-IOMMU container answers MAP with ENOTTY, and wants CAP_SYS_RAWIO', () => {
  const lab = makeLab();
  const station = makeStation(lab, 'nic', { type: 'noiommu' });
  const seen = play(lab, function* () {
    const container = new VfioContainer(lab.core, lab.module, 'container0');
    yield* call(joinContainer(lab, station, container));
    const set = yield* call(vfioSetIommu(container, 8));
    return [set, yield* call(vfMap(container, 1, IOVA0, 1))];
  });
  expect(seen).toEqual(['ok', 'ENOTTY']);
  expect(play(lab, () => vfioGroupOpen(station.group), makeTask(lab, 'user', { uid: 1000 }))).toBe('EPERM');
});

describe.each(['v6.1.192', 'v6.12.117'] as const)('kinds of memory, %s', (kernel) => {
  const old = kernel === 'v6.1.192';

  const mapKind = (make: (lab: Lab) => Steps<number>, flags: number, pages = 4, params: object = { thp: 'never' }) => {
    const { lab, seen } = inStation({ kernel, params }, function* ({ container }, lab) {
      const p = yield* call(make(lab));
      const result = yield* call(vfMap(container, p, IOVA0, pages, flags));
      const kb = vmlck(lab.task);
      if (result === 'ok') yield* call(vfUnmap(container, IOVA0, BigInt(pages) * PAGE));
      return [result, kb];
    });
    expect(vmlck(lab.task)).toBe(0);
    return seen;
  };
  const file = (lab: Lab, kind: InodeKind, options: object = {}): Inode =>
    lab.core.addInode(new MemoryObject(lab.sim, { kind, name: `a ${kind} file`, sizePages: 512, ...options }));
  const ofFile = (kind: InodeKind, options: object, mapping: object) => (lab: Lab) =>
    mapMemory(lab, { pages: 512, file: file(lab, kind, options), pgoff: 0, ...mapping });

  test('untouched anonymous memory, READ: a page of its own from 6.2 on, the zero page before', () => {
    expect(mapKind((lab) => mapMemory(lab, { pages: 4 }), READ)).toEqual(['ok', old ? 0 : 16]);
  });

  test('untouched anonymous memory, WRITE', () => {
    expect(mapKind((lab) => mapMemory(lab, { pages: 4 }), WRITE)).toEqual(['ok', 16]);
  });

  test('PROT_READ anonymous memory, WRITE', () => {
    const make = function* (lab: Lab) {
      const p = yield* call(mapMemory(lab, { pages: 4 }));
      yield* call(touch(lab, p, 4));
      yield* call(mprotect(lab.core, p, 4, { read: true, write: false, exec: false }));
      return p;
    };
    expect(mapKind(make, WRITE)).toEqual(['EFAULT', 0]);
  });

  test('shmem is pinned and charged', () => {
    expect(mapKind(ofFile('shmem', {}, { shared: true }), RW)).toEqual(['ok', 16]);
  });

  test('hugetlb is pinned and charged by 4 KiB pages', () => {
    const params = { thp: 'never', hugePages: { 9: 1 } };
    expect(mapKind(ofFile('hugetlb', { hugeOrder: 9 }, { shared: true }), RW, 512, params)).toEqual(['ok', 2048]);
  });

  test('a shared writable mapping of an ext4 file: refused for WRITE from 6.5 on', () => {
    const ext4 = ofFile('file', { fs: 'ext4' }, { shared: true });
    expect(mapKind(ext4, RW)).toEqual(old ? ['ok', 16] : ['EFAULT', 0]);
    expect(mapKind(ext4, READ)).toEqual(['ok', 16]);
  });

  test('fs-dax is refused', () => {
    expect(mapKind(ofFile('fsdax', { fs: 'ext4' }, { shared: true }), RW)).toEqual(['EOPNOTSUPP', 0]);
  });

  test('memfd_secret is refused', () => {
    const { seen } = inStation({ kernel }, function* ({ container }, lab) {
      const p = yield* call(mapMemory(lab, { pages: 4, file: file(lab, 'secret'), shared: true, pgoff: 0 }));
      return yield* call(vfMap(container, p, IOVA0, 4, READ));
    });
    expect(seen).toBe('EFAULT');
  });

  test('VM_IO without VM_PFNMAP is refused', () => {
    const make = function* (lab: Lab) {
      const vmas = lab.task.mm.peek()!.vmas;
      yield vmas.willUpdate(AT);
      vmas.set(4096, new Vma({ start: 4096, end: 4100, name: 'io', io: true, shared: true }));
      return 4096;
    };
    expect(mapKind(make, READ)).toEqual(['EFAULT', 0]);
  });

  test('raw frames that are ordinary memory are refused; reserved ones (vvar) are mapped and not charged', () => {
    const raw = (pfn: (lab: Lab) => number) => (lab: Lab) =>
      mapMemory(lab, {
        pages: 1,
        shared: true,
        pgoff: 0,
        pfnMapping: { name: 'raw', frameAt: () => pfn(lab), writable: false, eager: true },
      });
    expect(
      mapKind(
        raw(() => 9000),
        READ,
        1,
      ),
    ).toEqual(['EFAULT', 0]);
    expect(
      mapKind(
        raw((lab) => lab.core.zeroPfn),
        READ,
        1,
      ),
    ).toEqual(['ok', 0]);
  });

  test('userfaultfd-missing memory gives EFAULT at once instead of a wait', () => {
    const make = function* (lab: Lab) {
      const p = yield* call(mapMemory(lab, { pages: 4 }));
      const vmas = lab.task.mm.peek()!.vmas;
      yield vmas.willUpdate(AT);
      vmas.set(p, vmas.get(p)!.with({ uffd: uffdModes(['missing'], null) }));
      return p;
    };
    expect(mapKind(make, RW)).toEqual(['EFAULT', 0]);
  });
});

test('killed while it waits to charge: EINTR, nothing stays', () => {
  const lab = makeLab();
  const station = makeStation(lab, 'edu');
  const { sim, task } = lab;
  const opened = play(lab, () => openStation(lab, station, 'container0'));
  const p = play(lab, () => mapMemory(lab, { pages: 4 }));
  let result: string | undefined;
  const map = actor(lab, task, 'map', function* () {
    result = yield* call(vfMap(opened.container, p, IOVA0, 4));
  });
  while (map.announced.step.label !== 'mm_lock_acct:mmap_write_lock') sim.act(map);
  const { mmapLock } = task.mm.peek()!;
  const other = actor(lab, task, 'other', function* () {
    yield* call(mmapLock.write());
    yield task.killed.willWrite(AT);
    task.killed.value = true;
    yield mmapLock.up();
  });
  while (!mmapLock.writeHeld) sim.act(other);
  sim.act(map);
  expect(map.enabled).toBe(false);
  while (!task.killed.peek()) sim.act(other);
  while (map.state !== 'ended') sim.act(map);
  while (other.state !== 'ended') sim.act(other);
  expect(result).toBe('EINTR');
  expect(vmlck(task)).toBe(0);
  expect(iommuOf(opened.container).held.entries).toEqual([]);
});

test('two domains and the second cannot map: its errno, and the first is as before', () => {
  const lab = makeLab({ kernel: 'v6.18' });
  const amd = iommuDriver('amd');
  const poor = makeStation(lab, 'poor', { driver: amd, tablePages: 3 });
  const rich = makeStation(lab, 'rich');
  const seen = play(lab, function* () {
    const { container } = yield* call(openStation(lab, poor, 'container0'));
    const p = yield* call(mapMemory(lab, { pages: 4 }));
    const fits = yield* call(vfMap(container, p, 0n, 1));
    const joined = yield* call(joinContainer(lab, rich, container));
    const result = yield* call(vfMap(container, p, IOVA0, 4));
    const { domains, entries } = iommuOf(container).held;
    const left = domains.map(({ domain }) => [...domain.table.peekLeaves(0, 2 ** 27)].map((leaf) => leaf.page));
    return { fits, joined, result, left, entries: entries.length };
  });
  expect(seen).toEqual({ fits: 'ok', joined: 'ok', result: 'ENOMEM', left: [[0], [0]], entries: 1 });
  expect(vmlck(lab.task)).toBe(4);
});

test('[2^64 - 4 KiB, 2^64): lost to UNMAP and pinned for good until 6.18', () => {
  const top = (1n << 64n) - PAGE;
  for (const [kernel, unmapped, kb] of [
    ['v6.12.117', 0, 4],
    ['v6.18', 4096, 0],
  ] as const) {
    const lab = makeLab({ kernel });
    const station = makeStation(lab, 'edu', { driver: iommuDriver('amd') });
    const seen = play(lab, function* () {
      const { container } = yield* call(openStation(lab, station, 'container0'));
      const p = yield* call(mapMemory(lab, { pages: 1 }));
      return [yield* call(vfMap(container, p, top, 1)), yield* call(vfUnmap(container, 0n, 0n, 2))];
    });
    expect(seen).toEqual(['ok', ['ok', unmapped]]);
    expect(vmlck(lab.task)).toBe(kb);
  }
});

test.each([
  ['v6.1.192', 512],
  ['v6.12.117', 0],
] as const)(
  'READ of untouched memory that may be huge, %s: the huge zero page gets %i pins; charged all the same',
  (kernel, pins) => {
    const lab = makeLab({ kernel, params: { thp: 'always', stepPages: 512 } });
    const station = makeStation(lab, 'edu');
    const { folios, hugeZeroPfn } = lab.core;
    const seen = play(lab, function* () {
      const { container } = yield* call(openStation(lab, station, 'container0'));
      const p = yield* call(mapMemory(lab, { pages: 512, at: 512 * 64, fixed: true }));
      const before = folios.refcount.peek(hugeZeroPfn);
      const pinned = () => folios.refcount.peek(hugeZeroPfn) - before;
      const during = [yield* call(vfMap(container, p, IOVA0, 512, READ)), vmlck(lab.task), pinned()];
      yield* call(vfUnmap(container, IOVA0, 512n * PAGE));
      return [...during, pinned()];
    });
    expect(seen).toEqual(['ok', 2048, pins, 0]);
  },
);

test('disable_hugepages: every run is one page', () => {
  const lab = makeLab({ module: { disableHugepages: true } });
  const station = makeStation(lab, 'edu');
  const seen = play(lab, function* () {
    const { container } = yield* call(openStation(lab, station, 'container0'));
    const p = yield* call(mapMemory(lab, { pages: 512, at: 512 * 64 }));
    yield* call(touch(lab, p, 1));
    yield* call(vfMap(container, p, IOVA0, 512));
    return [...iommuOf(container).held.domains[0]!.domain.table.peekLeaves(Number(IOVA0 / PAGE), 512)].length;
  });
  expect(seen).toBe(512);
});
