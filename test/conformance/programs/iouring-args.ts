// iouring.c args: argument checks of IORING_REGISTER_BUFFERS, what parts of huge pages cost, and how long a charge lives.
import { call, type Steps } from '../../../src/engine/process.ts';
import { MEM_BOOT, mk } from '../mem.ts';
import type { Program } from '../program.ts';
import { reg, regAt, unreg } from '../ring.ts';
import type { Result, Session } from '../session.ts';
import { snap } from '../snap.ts';
import { addressOf, must, PG, vmpin } from '../vf.ts';

const RING = 'r';

function* args(s: Session): Steps<void> {
  yield* call(must(s, 'iouring.setup', { as: RING }));
  yield* call(must(s, 'mmap', { name: 'p', size: 64n * PG }));
  yield* call(oneBuffer(s));
  s.emit('iouring/args/unregister_without_register', yield* call(unreg(s, RING)));
  yield* call(reg(s, RING, 'p', 0n, PG));
  s.emit('iouring/args/register_twice', yield* call(reg(s, RING, 'p', 0n, PG)));
  yield* call(unreg(s, RING));
  yield* call(severalBuffers(s));
  yield* call(partOfHuge(s));

  const kept = yield* call(reg(s, RING, 'p', 0n, 8n * PG));
  const charged = yield* call(vmpin(s));
  yield* call(must(s, 'munmap', { memory: 'p' }));
  const change = (yield* call(vmpin(s))) - charged;
  s.emit('iouring/acct/munmap_keeps_charge', kept, {}, { vmpin_kb_change: change });
  const before = yield* call(vmpin(s));
  yield* call(s.op('close', { fd: RING }));
  yield* call(must(s, 'settle', {}));
  s.emit('iouring/acct/close_ring', 'ok', {}, { vmpin_kb_change: (yield* call(vmpin(s))) - before });
}

function* oneBuffer(s: Session): Steps<void> {
  const p = addressOf(s, 'p');
  for (const [name, base, len] of [
    ['one_byte', p, 1n],
    ['unaligned_start_two_pages', p + PG - 8n, 16n],
    ['zero_len', p, 0n],
    ['null_base_nonzero_len', 0n, PG],
    ['null_base_zero_len_sparse', 0n, 0n],
    ['over_1GiB', p, (1n << 30n) + PG],
    ['wrap', (1n << 64n) - PG, 2n * PG],
    ['kernel_addr', 0xffff888000000000n, PG],
  ] as const) {
    const before = yield* call(vmpin(s));
    const result = yield* call(regAt(s, RING, base, len));
    const delta = (yield* call(vmpin(s))) - before;
    s.emit(`iouring/args/${name}`, result, { len: Number(len) }, { vmpin_kb_delta: delta });
    if (result.errno === null) yield* call(unreg(s, RING));
  }
}

function* severalBuffers(s: Session): Steps<void> {
  const good = { memory: 'p', length: 4n * PG };
  const four = [good, good, good, good];
  const register = (extra: Readonly<Record<string, unknown>>): Steps<Result> =>
    s.op('iouring.register', { ring: RING, buffers: four, ...extra });
  const a = yield* call(snap(s, null));
  const same = yield* call(register({}));
  const b = yield* call(snap(s, null));
  const note = { iovecs: 4, pages_each: 4, note: 'same pages in every iovec' };
  const pinned = { vmpin_kb_delta: b.pin - a.pin, foll_pin_acquired: b.acquired - a.acquired };
  s.emit('iouring/args/same_buffer_4_times', same, note, pinned);
  yield* call(unreg(s, RING));
  s.emit('iouring/args/nr_zero', yield* call(register({ count: 0 })));
  s.emit('iouring/args/nr_16385', yield* call(register({ count: 16385 })));
  const c = yield* call(snap(s, null));
  const bad = { base: 0x1000n, bytes: 4n * PG };
  const rolledBack = yield* call(register({ buffers: [good, good, good, bad] }));
  yield* call(must(s, 'settle', {}));
  const d = yield* call(snap(s, null));
  s.emit(
    'iouring/args/fourth_bad_rolls_back',
    rolledBack,
    {},
    {
      vmpin_kb_delta: d.pin - c.pin,
      foll_pin_acquired: d.acquired - c.acquired,
      foll_pin_released: d.released - c.released,
    },
  );
  yield* call(unreg(s, RING));
}

function* partOfHuge(s: Session): Steps<void> {
  for (const [type, name, note, offset] of [
    ['anon_thp', 'part_of_thp', '16 KiB inside a 2 MiB THP', 16n * PG],
    ['hugetlb_2m', 'part_of_hugetlb', '16 KiB inside a 2 MiB hugetlb page', 0n],
  ] as const) {
    const mem = yield* call(mk(s, type));
    if ('errno' in mem) continue;
    const before = yield* call(vmpin(s));
    const result = yield* call(reg(s, RING, 'm', offset, 4n * PG));
    const observed: Record<string, unknown> = { vmpin_kb_delta: (yield* call(vmpin(s))) - before };
    if (type === 'anon_thp') {
      observed.is_thp = (yield* call(s.op('pagemap', { memory: 'm', length: PG }))).shows.huge_page === true;
    }
    s.emit(`iouring/acct/${name}`, result, { note }, observed);
    if (result.errno === null) yield* call(unreg(s, RING));
  }
}

export const iouringArgs: Program = {
  name: 'iouring/args',
  reports: ['iouring/args', 'iouring/acct'],
  boot: MEM_BOOT,
  run: args,
};
