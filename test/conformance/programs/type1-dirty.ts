// vfio_type1.c dirty: VFIO_IOMMU_DIRTY_PAGES and the bitmap that an unmap can return.
import { call, type Steps } from '../../../src/engine/process.ts';
import { labBoot } from '../boot.ts';
import type { Program } from '../program.ts';
import { hex, type Result, type Session } from '../session.ts';
import { IOVA0, must, PG, vfMap, vfNeed } from '../vf.ts';

const MB = 256n * PG;
const START = 1;
const STOP = 2;

/** The first word of the bitmap over [iova, ...), from runs `iova+pages`. */
function bitsOf(result: Result, iova: bigint): string {
  let bits = 0n;
  for (const run of String(result.shows.dirty ?? '')
    .split(' ')
    .filter((text) => text !== '')) {
    const [from, pages] = run.split('+') as [string, string];
    const first = (BigInt(from) - iova) / PG;
    for (let i = 0n; i < BigInt(pages); i++) bits |= 1n << (first + i);
  }
  return hex(bits);
}

function* dirty(s: Session): Steps<void> {
  yield* call(vfNeed(s));
  yield* call(must(s, 'mmap', { name: 'p', size: 16n * PG }));
  yield* call(must(s, 'touch', { memory: 'p', value: 'd' }));
  function* pages(name: string, flags: number): Steps<void> {
    s.emit(`type1/dirty/${name}`, yield* call(s.op('vfio.dirty', { device: 'edu', flags })));
  }
  function* get(name: string, iova: bigint, size: bigint, pgsize = PG, bitmapSize = 8n): Steps<void> {
    const result = yield* call(
      s.op('vfio.dirty', { device: 'edu', do: 'get', iova, size, pgsize, bitmap_size: bitmapSize }),
    );
    s.emit(`type1/dirty/${name}`, result, { iova: hex(iova), size: hex(size) }, { bits: bitsOf(result, iova) });
  }
  const four = 4n * PG;
  yield* call(vfMap(s, 'p', 0n, IOVA0, four));
  yield* call(get('get_before_start', IOVA0, four));
  yield* call(pages('stop_before_start', STOP));
  yield* call(pages('start', START));
  yield* call(pages('start_twice', START));
  yield* call(pages('two_flags', START | STOP));
  yield* call(pages('no_flag', 0));
  yield* call(get('get_untouched_by_device', IOVA0, four));
  yield* call(must(s, 'dma.write', { device: 'edu', iova: IOVA0 + PG, value: 'D' }));
  yield* call(get('get_after_dma_write', IOVA0, four));
  yield* call(get('get_again', IOVA0, four));
  yield* call(get('get_partial_range', IOVA0, 2n * PG));
  yield* call(get('get_wrong_pgsize', IOVA0, four, 2n * MB));
  yield* call(get('get_bitmap_too_small', IOVA0, four, PG, 0n));
  yield* call(get('get_range_without_mapping', IOVA0 + MB, four));
  yield* call(get('get_unaligned', IOVA0 + 8n, four));
  const unmap = yield* call(
    s.op('vfio.unmap', { device: 'edu', iova: IOVA0, size: four, dirty: { pgsize: PG, size: 8n } }),
  );
  const observed = { bits: bitsOf(unmap, IOVA0), unmapped_bytes: Number(unmap.shows.unmapped) };
  s.emit('type1/dirty/unmap_with_bitmap', unmap, {}, observed);
  yield* call(pages('stop', STOP));
}

export const type1Dirty: Program = { name: 'type1/dirty', boot: labBoot(), run: dirty };
