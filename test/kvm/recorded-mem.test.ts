// Which memory can back a guest, as recorded on 6.1.192 and 6.12.117, which agree in every row: pages present before,
// after a guest read and after a guest write to the first page; what the guest read; what became of its write.
import { describe, expect, it } from 'vitest';
import { call, type Steps } from '../../src/engine/process.ts';
import { vcpuRead, vcpuWrite } from '../../src/guest/vcpu.ts';
import { createVm } from '../../src/kvm/create.ts';
import { setUserMemoryRegion } from '../../src/kvm/set-memory-region.ts';
import { labBoot } from '../conformance/boot.ts';
import { MEM_OBJECTS, type Mem, mk } from '../conformance/mem.ts';
import { runProgram, type Session } from '../conformance/session.ts';
import { snap } from '../conformance/snap.ts';
import { addressOf } from '../conformance/vf.ts';

type Row = readonly [
  present: number,
  afterRead: number,
  zero: boolean,
  read: string,
  write: 'ok' | 'EFAULT',
  after: number,
];

/** 'c' stands for what the VMM wrote, 'f' for what is in the file. */
const ROWS: Readonly<Record<string, Row>> = {
  anon_rw_untouched: [0, 1, true, 'zero', 'ok', 1],
  anon_rw_touched: [8, 8, false, 'c', 'ok', 8],
  anon_rw_zeropage: [8, 8, true, 'zero', 'ok', 8],
  anon_ro_untouched: [0, 1, true, 'zero', 'EFAULT', 1],
  anon_ro_zeropage: [8, 8, true, 'zero', 'EFAULT', 8],
  anon_ro_after_write: [8, 8, false, 'c', 'EFAULT', 8],
  anon_wo: [8, 8, false, 'c', 'ok', 8],
  anon_thp_untouched: [0, 512, true, 'zero', 'ok', 512],
  anon_mlocked: [8, 8, false, 'zero', 'ok', 8],
  anon_dontfork: [8, 8, false, 'c', 'ok', 8],
  anon_after_fork_cow: [8, 8, false, 'c', 'ok', 8],
  shared_anon: [0, 1, false, 'zero', 'ok', 1],
  dev_zero_shared: [0, 1, false, 'zero', 'ok', 1],
  hugetlb_2m: [512, 512, false, 'c', 'ok', 512],
  memfd_hugetlb: [0, 512, false, 'zero', 'ok', 512],
  memfd_shared_rw: [0, 1, false, 'zero', 'ok', 1],
  memfd_shared_rw_touched: [8, 8, false, 'c', 'ok', 8],
  memfd_shared_ro: [0, 1, false, 'zero', 'EFAULT', 1],
  memfd_rofd_shared_ro: [0, 1, false, 'zero', 'EFAULT', 1],
  memfd_write_sealed_ro: [0, 1, false, 'zero', 'EFAULT', 1],
  memfd_private_rw: [0, 1, false, 'zero', 'ok', 1],
  memfd_private_rw_touched: [8, 8, false, 'c', 'ok', 8],
  memfd_private_ro: [0, 1, false, 'zero', 'EFAULT', 1],
  tmpfs_shared_rw: [0, 8, false, 'f', 'ok', 8],
  tmpfs_shared_ro: [0, 8, false, 'f', 'EFAULT', 8],
  ext4_shared_rw_touched: [8, 8, false, 'c', 'ok', 8],
  ext4_shared_ro: [0, 8, false, 'f', 'EFAULT', 8],
  ext4_private_rw: [0, 8, false, 'f', 'ok', 8],
  ext4_private_rw_touched: [8, 8, false, 'c', 'ok', 8],
  fsdax_shared_rw: [0, 1, false, 'f', 'ok', 1],
  fsdax_private_rw_touched: [8, 8, false, 'c', 'ok', 8],
  memfd_secret: [8, 8, false, 'EFAULT', 'EFAULT', 8],
  prot_none: [0, 0, false, 'EFAULT', 'EFAULT', 0],
  prot_none_after_touch: [8, 8, false, 'EFAULT', 'EFAULT', 8],
  hole: [0, 0, false, 'EFAULT', 'EFAULT', 0],
  half_ro: [8, 8, false, 'c', 'ok', 8],
  uffd_missing: [0, 1, false, 'w', 'ok', 1],
  uffd_wp: [8, 8, false, 'c', 'ok', 8],
};

const GFN = 8;

function* program(s: Session, type: string): Steps<void> {
  const mem = yield* call(mk(s, type));
  if ('errno' in mem) throw new Error(mem.errno);
  const vm = yield* call(createVm(s.world.core, { name: 'vm' }));
  const vcpu = vm.addVcpuNow();
  const before = yield* call(snap(s, mem));
  const memorySize = mem.bytes > 8n * 4096n ? 8n * 4096n : mem.bytes;
  const region = { slot: 1, flags: 0, guestPhysAddr: BigInt(GFN) * 4096n, memorySize, userspaceAddr: address(s, mem) };
  const set = yield* call(setUserMemoryRegion(vm, region));
  if (set !== 'ok') throw new Error(set);
  const present = (yield* call(snap(s, mem))).present;
  const read = yield* call(vcpuRead(vm, vcpu, GFN));
  const afterRead = yield* call(snap(s, mem));
  const write = yield* call(vcpuWrite(vm, vcpu, GFN, vm.core.frames.tokens.of('G')));
  const after = yield* call(snap(s, mem));
  let seen = true;
  if ('token' in write) seen = (yield* call(s.op('cpu.read', { memory: 'm' }))).shows.value === 'G';
  const row: Row = [
    present,
    afterRead.present,
    afterRead.zero,
    'token' in read ? vm.core.frames.tokens.text(read.token) : read.exit,
    'token' in write && seen ? 'ok' : 'EFAULT',
    after.present,
  ];
  s.emit(type, 'ok', {}, { row, pinned: after.acquired - before.acquired, charged: after.lck - before.lck });
}

let addressOfHole = 0n;

function address(s: Session, mem: Mem): bigint {
  if (mem.type === 'hole') return addressOfHole;
  addressOfHole = addressOf(s, 'm');
  return addressOfHole;
}

describe.each(['v6.1.192', 'v6.12.117'])('guest memory of each type on %s', (kernel) => {
  it.each(Object.entries(ROWS))('%s', (type, row) => {
    const emitted = runProgram(kernel, labBoot({ memory: MEM_OBJECTS }), (s) => program(s, type));
    expect(emitted[0]?.observed).toEqual({ row, pinned: 0, charged: 0 });
  });
});
