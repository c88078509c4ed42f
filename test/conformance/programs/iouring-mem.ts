// iouring.c table: every memory type as a registered buffer.
import { call, type Steps } from '../../../src/engine/process.ts';
import { MEM_BOOT, MEM_TYPES, mk } from '../mem.ts';
import type { Program } from '../program.ts';
import { deviceWrite, regMem, unreg } from '../ring.ts';
import { type Session, word } from '../session.ts';
import { mapObserved, snap } from '../snap.ts';
import { must, vfOpen } from '../vf.ts';

function* table(s: Session, type: string): Steps<void> {
  const name = `iouring/mem/${type}`;
  const args = { type, op: 'IORING_REGISTER_BUFFERS' };
  if (type === 'pfnmap_bar') yield* call(vfOpen(s));
  yield* call(must(s, 'iouring.setup', { as: 'r' }));
  const mem = yield* call(mk(s, type));
  if ('errno' in mem) {
    s.emit(name, mem.errno, args, { stage: 'make_memory' });
    return;
  }
  const a = yield* call(snap(s, mem));
  const result = yield* call(regMem(s, 'r', mem));
  const b = yield* call(snap(s, mem));
  const observed = mapObserved(a, b);
  if (type.startsWith('uffd')) observed.uffd_faults_served = Math.max(0, b.present - a.present);
  if (result.errno === null) {
    observed.fixed_io = word(yield* call(deviceWrite(s, 'r', mem.memory, 'D')));
    if (mem.readable) {
      const seen = yield* call(s.op('cpu.read', { memory: mem.memory }));
      observed.cpu_sees_fixed_read_data = seen.shows.value === 'D';
    }
    const gone = yield* call(unreg(s, 'r'));
    yield* call(must(s, 'settle', {}));
    const c = yield* call(snap(s, mem));
    observed.unregister = word(gone);
    observed.vmpin_kb_after_unregister = c.pin - a.pin;
    observed.foll_pin_released_by_unregister = c.released - b.released;
  }
  s.emit(name, result, { ...args, size: Number(mem.bytes) }, observed);
}

export const iouringMem: readonly Program[] = MEM_TYPES.map((type) => ({
  name: `iouring/mem/${type}`,
  boot: MEM_BOOT,
  run: (s: Session) => table(s, type),
}));
