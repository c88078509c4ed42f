// iouring.c beh: what fixed IO sees after the mapping has changed.
import { call, type Steps } from '../../../src/engine/process.ts';
import { labBoot } from '../boot.ts';
import type { Program } from '../program.ts';
import { deviceRead, deviceWrite, reg } from '../ring.ts';
import type { Result, Session } from '../session.ts';
import { addressOf, anonTouched, byteOf, must, PG } from '../vf.ts';

const EIGHT = 8n * PG;

/** The macro NEW: a ring and a mapping of their own, registered. */
class Case {
  readonly s: Session;
  readonly name: string;
  readonly ring: string;
  readonly p: string;
  registered: Result = { ret: 0, errno: null, shows: {} };
  pfn = 0;

  constructor(s: Session, name: string) {
    this.s = s;
    this.name = `iouring/beh/${name}`;
    this.ring = `ring-${name}`;
    this.p = `p-${name}`;
  }

  *open(): Steps<void> {
    yield* call(must(this.s, 'iouring.setup', { as: this.ring }));
    yield* call(anonTouched(this.s, this.p, 8n, 'a'));
    this.registered = yield* call(reg(this.s, this.ring, this.p, 0n, EIGHT));
    this.pfn = yield* call(this.frame());
  }

  *frame(): Steps<number> {
    return Number((yield* call(this.s.op('pagemap', { memory: this.p, length: PG }))).shows.pfn);
  }

  *cpu(): Steps<string> {
    return String((yield* call(must(this.s, 'cpu.read', { memory: this.p }))).shows.value);
  }

  device(): Steps<number> {
    return deviceRead(this.s, this.ring, this.p);
  }

  /** The macro COH: do CPU and device see each other? */
  *coherence(): Steps<Record<string, unknown>> {
    const same = (yield* call(this.frame())) === this.pfn;
    yield* call(must(this.s, 'cpu.write', { memory: this.p, value: 'N' }));
    const read = yield* call(this.device());
    yield* call(deviceWrite(this.s, this.ring, this.p, 'D'));
    return {
      same_pfn: same,
      device_sees_new_data: read === byteOf('N'),
      device_read: read,
      cpu_sees_device_write: (yield* call(this.cpu())) === 'D',
    };
  }
}

function* behaviour(s: Session): Steps<void> {
  const start = function* (name: string): Steps<Case> {
    const one = new Case(s, name);
    yield* call(one.open());
    return one;
  };
  const old = byteOf('a');

  let c = yield* call(start('baseline'));
  s.emit(c.name, c.registered, {}, yield* call(c.coherence()));

  c = yield* call(start('madv_dontneed'));
  const dropped = yield* call(s.op('madvise', { memory: c.p, advice: 'DONTNEED' }));
  const after = { cpu_reads_after: byteOf(yield* call(c.cpu())) };
  s.emit(c.name, dropped, {}, { ...after, ...(yield* call(c.coherence())) });

  c = yield* call(start('fork_parent_writes'));
  yield* call(must(s, 'fork', { as: 'sharer', stays: true }));
  yield* call(must(s, 'settle', {}));
  const forked = yield* call(c.coherence());
  yield* call(must(s, 'kill', { process: 'sharer' }));
  yield* call(must(s, 'waitpid', { process: 'sharer' }));
  s.emit(c.name, 'ok', {}, forked);

  c = yield* call(start('munmap'));
  yield* call(must(s, 'munmap', { memory: c.p }));
  const gone = yield* call(c.device());
  s.emit(c.name, c.registered, {}, { device_read: gone, device_sees_old_data: gone === old });

  c = yield* call(start('munmap_then_new_mapping_same_va'));
  yield* call(must(s, 'munmap', { memory: c.p }));
  yield* call(must(s, 'mmap', { name: 'n', size: EIGHT, at: addressOf(s, c.p) }));
  yield* call(must(s, 'touch', { memory: 'n', value: 'n' }));
  const stale = yield* call(c.device());
  const sees = { device_sees_old_data: stale === old, device_sees_new_data: stale === byteOf('n') };
  s.emit(c.name, c.registered, {}, sees);

  c = yield* call(start('mprotect_ro'));
  const lowered = yield* call(s.op('mprotect', { memory: c.p, prot: 'r' }));
  yield* call(deviceWrite(s, c.ring, c.p, 'D'));
  const lands = { device_write_lands_in_read_only_mapping: (yield* call(c.cpu())) === 'D' };
  s.emit(c.name, lowered, {}, lands);
}

export const iouringBehaviour: Program = { name: 'iouring/beh', boot: labBoot(), run: behaviour };
