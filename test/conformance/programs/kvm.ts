// kvmtest.c: memory types behind a memslot, memslot arguments, the KVM-VFIO device, guest and device on the same memory.
import { call, type Steps } from '../../../src/engine/process.ts';
import { labBoot } from '../boot.ts';
import { MEM_OBJECTS, MEM_TYPES, type Mem, mk } from '../mem.ts';
import type { Program } from '../program.ts';
import { hex, type Result, type Session, word } from '../session.ts';
import { snap } from '../snap.ts';
import { addressOf, IOVA0, must, PG, VRW, vfNeed } from '../vf.ts';

const GPA = 0x8000n;
const GUEST_BYTES = 8n * PG;

/** vm_open: one vCPU and a page of code at 0. */
function* vmOpen(s: Session): Steps<void> {
  yield* call(must(s, 'kvm.create_vm', { as: 'vm' }));
  yield* call(must(s, 'mmap', { name: 'code', size: PG }));
  yield* call(must(s, 'cpu.write', { memory: 'code', value: 'code' }));
  yield* call(must(s, 'kvm.set_memory_region', { vm: 'vm', slot: 0, gpa: 0, memory: 'code' }));
}

/** The byte that a content stands for, as the programs write and print it. */
function byteOf(value: unknown): number {
  const text = String(value);
  if (text === 'zero') return 0;
  return text === 'uffd' ? 0x77 : text.charCodeAt(0);
}

interface Guest {
  /** What the guest read; null when it left with an exit. */
  readonly value: number | null;
  readonly exit: string;
}

function guestOf(result: Result, write: boolean): Guest {
  if (result.errno !== null) return { value: null, exit: result.errno };
  const exit = String(result.shows.exit);
  if (exit === 'MMIO') return { value: null, exit: write ? 'mmio_write' : 'mmio_read' };
  return { value: byteOf(result.shows.value), exit: write ? 'hlt' : 'io' };
}

function* guestRead(s: Session): Steps<Guest> {
  return guestOf(yield* call(s.op('vcpu.read', { vm: 'vm', vcpu: 0, gpa: GPA })), false);
}

function* guestWrite(s: Session, value: string, gpa = GPA): Steps<Guest> {
  return guestOf(yield* call(s.op('vcpu.write', { vm: 'vm', vcpu: 0, gpa, value })), true);
}

// ---- which memory can back guest memory ------------------------------------------------------------------------------

function* table(s: Session, type: string): Steps<void> {
  const name = `kvm/mem/${type}`;
  yield* call(vmOpen(s));
  if (type === 'pfnmap_bar') yield* call(vfNeed(s));
  const mem = yield* call(mk(s, type));
  if ('errno' in mem) {
    s.emit(name, mem.errno, { type }, { stage: 'make_memory' });
    return;
  }
  const observed: Record<string, unknown> = {};
  const a = yield* call(snap(s, mem));
  const bytes = mem.bytes > GUEST_BYTES ? GUEST_BYTES : mem.bytes;
  const hva = mem.address ?? addressOf(s, mem.memory);
  const slot = yield* call(s.op('kvm.set_memory_region', { vm: 'vm', slot: 1, gpa: GPA, hva, size: bytes }));
  observed.set_memslot = word(slot);
  if (slot.errno !== null) {
    s.emit(name, slot, { type }, observed);
    return;
  }
  let b = yield* call(snap(s, mem));
  observed.pages_present_before = a.present;
  observed.pages_present_after_memslot = b.present;
  const read = yield* call(guestRead(s));
  observed.guest_read_exit = read.exit;
  if (read.value !== null) observed.guest_read = read.value;
  b = yield* call(snap(s, mem));
  observed.pages_present_after_read = b.present;
  observed.guest_read_maps_zero_page = b.zero;
  if (type !== 'pfnmap_bar') yield* call(guestWrites(s, mem, observed));
  const c = yield* call(snap(s, mem));
  observed.foll_pin_acquired = c.acquired - a.acquired;
  observed.vmlck_kb_delta = c.lck - a.lck;
  observed.pages_present_after_write = c.present;
  if (type.startsWith('uffd')) observed.uffd_faults_served = type === 'uffd_missing' ? 1 : 0;
  s.emit(name, slot, { type }, observed);
}

function* guestWrites(s: Session, mem: Mem, observed: Record<string, unknown>): Steps<void> {
  const write = yield* call(guestWrite(s, 'G'));
  observed.guest_write_exit = write.exit;
  if (write.value === null || !mem.readable) return;
  observed.cpu_sees_guest_write = (yield* call(s.op('cpu.read', { memory: 'm' }))).shows.value === 'G';
}

// ---- memslot arguments -----------------------------------------------------------------------------------------------

function* slots(s: Session): Steps<void> {
  yield* call(vmOpen(s));
  yield* call(must(s, 'mmap', { name: 'p', size: 64n * PG }));
  const p = addressOf(s, 'p');
  function* S(name: string, slot: number, gpa: bigint, hva: bigint, size: bigint, flags: number): Steps<void> {
    const result = yield* call(s.op('kvm.set_memory_region', { vm: 'vm', slot, gpa, hva, size, flags }));
    s.emit(`kvm/memslot/${name}`, result, { slot, gpa: hex(gpa), size: hex(size), flags });
  }
  yield* call(S('ok', 1, 0x10000n, p, 8n * PG, 0));
  yield* call(S('overlap_other_slot', 2, 0x11000n, p, PG, 0));
  yield* call(S('same_slot_same_args', 1, 0x10000n, p, 8n * PG, 0));
  yield* call(S('resize_existing', 1, 0x10000n, p, 4n * PG, 0));
  yield* call(S('change_hva', 1, 0x10000n, p + 16n * PG, 8n * PG, 0));
  yield* call(S('move_gpa', 1, 0x30000n, p, 8n * PG, 0));
  yield* call(S('set_dirty_log_flag', 1, 0x30000n, p, 8n * PG, 1));
  yield* call(S('readonly_flag_change', 1, 0x30000n, p, 8n * PG, 2));
  yield* call(S('same_hva_second_slot', 2, 0x50000n, p, 8n * PG, 0));
  yield* call(S('gpa_unaligned', 3, 0x60008n, p, PG, 0));
  yield* call(S('hva_unaligned', 3, 0x60000n, p + 8n, PG, 0));
  yield* call(S('size_unaligned', 3, 0x60000n, p, PG + 8n, 0));
  yield* call(S('delete_nonexistent', 9, 0n, 0n, 0n, 0));
  yield* call(S('delete', 1, 0n, 0n, 0n, 0));
  yield* call(S('delete_twice', 1, 0n, 0n, 0n, 0));
  yield* call(S('hva_hole', 4, 0x70000n, 0x1000n, PG, 0));
  yield* call(S('hva_kernel', 5, 0x80000n, 0xffff888000000000n, PG, 0));
  yield* call(S('gpa_wrap', 6, 0xfffffffffffff000n, p, 2n * PG, 0));
  yield* call(S('unknown_flag', 6, 0x90000n, p, PG, 0x80));
  yield* call(S('slot_id_huge', 0xffff, 0x90000n, p, PG, 0));
  yield* call(S('new_readonly', 7, 0x90000n, p, PG, 2));
  s.emit('kvm/vfio_device/create', yield* call(s.op('kvm.create_vfio_device', { vm: 'vm' })));
  yield* call(must(s, 'vfio.open_group', { device: 'edu' }));
  const file = (what: 'add' | 'del') => s.op('kvm.vfio_file', { vm: 'vm', group_of: 'edu', do: what });
  s.emit('kvm/vfio_device/group_add', yield* call(file('add')));
  s.emit('kvm/vfio_device/group_add_twice', yield* call(file('add')));
  s.emit('kvm/vfio_device/group_del', yield* call(file('del')));
  s.emit('kvm/vfio_device/group_del_twice', yield* call(file('del')));
}

// ---- guest and device on the same memory -----------------------------------------------------------------------------

type Change = (s: Session, mem: Mem, observed: Record<string, unknown>) => Steps<Result>;

/** tri(): who sees whose writes now. */
function* tri(s: Session, observed: Record<string, unknown>): Steps<void> {
  const dmaRead = () => s.op('dma.read', { device: 'edu', iova: IOVA0 });
  const read = yield* call(guestRead(s));
  if (read.value !== null) observed.guest_read = read.value;
  else observed.guest_read_exit = read.exit;
  observed.dma_read = byteOf((yield* call(dmaRead())).shows.value);
  // After an MMIO exit the next KVM_RUN completes the access that left; the write itself does not happen then.
  const pending = read.exit.startsWith('mmio');
  const write = pending ? { value: 0, exit: 'io' } : yield* call(guestWrite(s, 'G'));
  if (write.value === null) observed.guest_write_exit = write.exit;
  else observed.dma_sees_guest_write = (yield* call(dmaRead())).shows.value === 'G';
  yield* call(must(s, 'dma.write', { device: 'edu', iova: IOVA0, value: 'D' }));
  observed.guest_sees_dma_write = (yield* call(guestRead(s))).value === byteOf('D');
}

function* pfnOf(s: Session): Steps<unknown> {
  return (yield* call(s.op('pagemap', { memory: 'm', length: PG }))).shows.pfn;
}

const CHANGES: Readonly<Record<string, { readonly change: Change; readonly after?: Change; readonly tri?: false }>> = {
  baseline: { change: (s) => s.op('settle') },
  madv_dontneed: { change: (s) => s.op('madvise', { memory: 'm', advice: 'DONTNEED' }), after: samePfn },
  punch_hole: { change: (s) => s.op('fallocate', { memory: 'm', mode: 'punch-hole' }) },
  munmap: { change: (s) => s.op('munmap', { memory: 'm' }) },
  remap_same_hva: { change: remap },
  mprotect_read: { change: (s) => s.op('mprotect', { memory: 'm', prot: 'r' }), after: cpuSees },
  mprotect_none: { change: (s) => s.op('mprotect', { memory: 'm', prot: 'none' }) },
  madv_pageout: { change: pageout },
  fork: { change: forked, after: samePfn },
  memslot_delete: { change: (s) => s.op('kvm.set_memory_region', { vm: 'vm', slot: 1, size: 0 }) },
  dirty_log: { change: dirtyLog, tri: false },
};

const before = new WeakMap<Session, unknown>();

function* samePfn(s: Session, _mem: Mem, observed: Record<string, unknown>): Steps<Result> {
  observed.same_pfn = (yield* call(pfnOf(s))) === before.get(s);
  return { ret: 0, errno: null, shows: {} };
}

function* cpuSees(s: Session, _mem: Mem, observed: Record<string, unknown>): Steps<Result> {
  const read = yield* call(s.op('cpu.read', { memory: 'm' }));
  observed.cpu_sees_dma_write = read.shows.value === 'D';
  return read;
}

function* remap(s: Session, mem: Mem): Steps<Result> {
  const at = addressOf(s, 'm');
  const result = yield* call(s.op('mmap', { name: 'n', at, size: mem.bytes }));
  yield* call(must(s, 'cpu.write', { memory: 'n', value: 'n' }));
  return { ...result, ret: 0 };
}

function* pageout(s: Session, mem: Mem, observed: Record<string, unknown>): Steps<Result> {
  const result = yield* call(s.op('madvise', { memory: 'm', advice: 'PAGEOUT' }));
  yield* call(samePfn(s, mem, observed));
  return result;
}

function* forked(s: Session): Steps<Result> {
  yield* call(must(s, 'fork', { as: 'child', stays: true }));
  return yield* call(s.op('settle'));
}

function* dirtyLog(s: Session, _mem: Mem, observed: Record<string, unknown>): Steps<Result> {
  const hva = addressOf(s, 'm');
  const region = { vm: 'vm', slot: 1, gpa: GPA, hva, size: GUEST_BYTES, log_dirty: true };
  const result = yield* call(s.op('kvm.set_memory_region', region));
  function* bits(): Steps<string> {
    const log = yield* call(s.op('kvm.get_dirty_log', { vm: 'vm', slot: 1 }));
    const pages = (log.shows.pages ?? []) as readonly number[];
    return hex(pages.reduce((sum, page) => sum | (1n << BigInt(page)), 0n));
  }
  observed.initial = yield* call(bits());
  yield* call(must(s, 'dma.write', { device: 'edu', iova: IOVA0 + PG, value: 'D' }));
  observed.after_dma_write_page1 = yield* call(bits());
  yield* call(guestWrite(s, 'x', GPA + 2n * PG));
  observed.after_guest_write_page2 = yield* call(bits());
  yield* call(s.op('cpu.write', { memory: 'm', offset: 3n * PG, value: 'y' }));
  observed.after_cpu_write_page3 = yield* call(bits());
  return result;
}

function* both(s: Session, what: string, type: string): Steps<void> {
  const name = `kvm_vfio/${what}/${type}`;
  yield* call(vmOpen(s));
  yield* call(vfNeed(s));
  const mem = yield* call(mk(s, type));
  if ('errno' in mem) {
    s.emit(name, mem.errno, { type }, { stage: 'setup' });
    return;
  }
  const hva = addressOf(s, 'm');
  yield* call(must(s, 'kvm.set_memory_region', { vm: 'vm', slot: 1, gpa: GPA, hva, size: GUEST_BYTES }));
  yield* call(must(s, 'vfio.map', { device: 'edu', vaddr: hva, iova: IOVA0, length: mem.bytes, flags: VRW }));
  yield* call(guestRead(s));
  yield* call(guestWrite(s, 'b'));
  before.set(s, yield* call(pfnOf(s)));
  const { change, after, tri: looks } = CHANGES[what]!;
  const observed: Record<string, unknown> = {};
  const result = yield* call(change(s, mem, observed));
  if (looks !== false) yield* call(tri(s, observed));
  if (after !== undefined) yield* call(after(s, mem, observed));
  s.emit(name, result, { type }, observed);
}

/** c_ctl: the guest's memory paged out, with no device on it. */
function* pageoutWithoutVfio(s: Session, type: string): Steps<void> {
  const name = `kvm_vfio/pageout_without_vfio/${type}`;
  yield* call(vmOpen(s));
  const mem = yield* call(mk(s, type));
  if ('errno' in mem) throw new Error(`${type}: ${mem.errno}`);
  const hva = addressOf(s, 'm');
  yield* call(must(s, 'kvm.set_memory_region', { vm: 'vm', slot: 1, gpa: GPA, hva, size: GUEST_BYTES }));
  yield* call(guestWrite(s, 'b'));
  const before = yield* call(pfnOf(s));
  // The rest of the first page; here a page holds one word.
  yield* call(must(s, 'cpu.write', { memory: 'm', value: 'b' }));
  const page = function* (): Steps<Result['shows']> {
    return (yield* call(s.op('pagemap', { memory: 'm', length: PG }))).shows;
  };
  let calls = 0;
  let result: Result;
  do {
    result = yield* call(s.op('madvise', { memory: 'm', length: mem.bytes, advice: 'PAGEOUT' }));
    yield* call(must(s, 'settle', {}));
    calls++;
  } while (calls < 5 && (yield* call(page())).swapped !== true);
  const observed: Record<string, unknown> = {
    pageout_calls: calls,
    swapped_out: (yield* call(page())).swapped === true,
  };
  const read = yield* call(guestRead(s));
  observed.guest_reads_back_own_data = read.value === byteOf('b');
  observed.swapped_in_by_guest = (yield* call(page())).present === true;
  observed.same_pfn = (yield* call(pfnOf(s))) === before;
  s.emit(name, result, { type }, observed);
}

const MEMORY = labBoot({ memory: MEM_OBJECTS });
const COMBINED = ['anon_rw_touched', 'memfd_shared_rw_touched', 'anon_thp', 'hugetlb_2m'];
const combos = [
  ...COMBINED.flatMap((type) =>
    Object.keys(CHANGES)
      .filter((what) => what !== 'punch_hole')
      .map((what) => [what, type] as const),
  ),
  ['punch_hole', 'memfd_shared_rw_touched'],
  ['punch_hole', 'memfd_hugetlb'],
] as const;

export const kvm: readonly Program[] = [
  { name: 'kvm/memslot', reports: ['kvm/memslot', 'kvm/vfio_device'], boot: labBoot(), run: slots },
  ...MEM_TYPES.map((type) => ({ name: `kvm/mem/${type}`, boot: MEMORY, run: (s: Session) => table(s, type) })),
  ...combos.map(([what, type]) => ({
    name: `kvm_vfio/${what}/${type}`,
    boot: MEMORY,
    run: (s: Session) => both(s, what, type),
  })),
  ...['anon_rw_touched', 'anon_thp'].map((type) => ({
    name: `kvm_vfio/pageout_without_vfio/${type}`,
    boot: MEMORY,
    run: (s: Session) => pageoutWithoutVfio(s, type),
  })),
];
