// vfio_type1.c entry_limit: dma_entry_limit is sampled when the container gets its driver.
import { call, type Steps } from '../../../src/engine/process.ts';
import { labBoot } from '../boot.ts';
import type { Program } from '../program.ts';
import { type Result, type Session, word } from '../session.ts';
import { IOVA0, must, PG, vfMap, vfNeed, vfUnmap, vmlck } from '../vf.ts';

function* entryLimit(s: Session): Steps<void> {
  yield* call(must(s, 'vfio.module_param', { dma_entry_limit: 3 }));
  yield* call(vfNeed(s));
  yield* call(must(s, 'vfio.module_param', { dma_entry_limit: 65535 }));
  yield* call(must(s, 'mmap', { name: 'p', size: 8n * PG }));
  const before = yield* call(vmlck(s));
  const results: Result[] = [];
  for (let i = 0n; i < 4n; i++) results.push(yield* call(vfMap(s, 'p', i * PG, IOVA0 + i * PG, PG)));
  const observed: Record<string, unknown> = {};
  for (const [i, result] of results.entries()) observed[`map${i + 1}`] = word(result);
  observed.vmlck_kb_delta = (yield* call(vmlck(s))) - before;
  const third = yield* call(s.op('pagemap', { memory: 'p', offset: 3n * PG, length: PG }));
  observed.page_faulted_in_on_enospc = third.shows.present === true;
  const args = { dma_entry_limit: 3, note: 'one entry already used by a scratch page' };
  s.emit('type1/limit/dma_entry_limit', results[2]!, args, observed);
  const unmapped = yield* call(vfUnmap(s, IOVA0, PG));
  const again = yield* call(vfMap(s, 'p', 0n, IOVA0 + 5n * PG, PG));
  s.emit('type1/limit/dma_entry_limit_after_unmap', again, {}, { unmap_one: word(unmapped) });
}

export const type1Limit: Program = {
  name: 'type1/limit',
  boot: labBoot(),
  run: entryLimit,
};
