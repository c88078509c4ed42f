// A guest and a device on the same memory, as recorded on 6.1.192 and 6.12.117, which agree: after the VMM did something
// to its memory, who reaches what. The guest follows the notifiers, the device keeps the page that is pinned for it.
import { describe, expect, it } from 'vitest';
import { call, type Steps } from '../../src/engine/process.ts';
import { type GuestResult, vcpuRead, vcpuWrite } from '../../src/guest/vcpu.ts';
import { createVm } from '../../src/kvm/create.ts';
import { setUserMemoryRegion } from '../../src/kvm/set-memory-region.ts';
import type { Vm } from '../../src/kvm/vm.ts';
import { labBoot } from '../conformance/boot.ts';
import { MEM_OBJECTS, mk } from '../conformance/mem.ts';
import { runProgram, type Session } from '../conformance/session.ts';
import { addressOf, IOVA0, must, VRW, vfNeed } from '../conformance/vf.ts';
import { region } from './guest.ts';

const GFN = 8;
const ANON = 'anon_rw_touched';
const THP = 'anon_thp';
const MEMFD = 'memfd_shared_rw_touched';
const HUGE = 'hugetlb_2m';

/** Guest read, device read, guest write; device sees the guest's write, guest sees the device's. */
type Row = readonly [guestRead: string, dmaRead: string, guestWrite: string, dmaSees: boolean, guestSees: boolean];
const SAME: Row = ['b', 'b', 'ok', true, true];
const APART: Row = ['zero', 'b', 'ok', false, false];
const GONE: Row = ['EFAULT', 'b', 'EFAULT', false, false];
const READ_ONLY: Row = ['b', 'b', 'EFAULT', false, true];
const NO_SLOT: Row = ['MMIO', 'b', 'MMIO', false, false];

type Deed = (s: Session, vm: Vm) => Steps<unknown>;

const DEEDS: readonly (readonly [name: string, deed: Deed, rows: Readonly<Record<string, Row>>])[] = [
  ['nothing', function* () {}, { [HUGE]: SAME }],
  ['madvise(DONTNEED)', (s) => s.op('madvise', { memory: 'm', advice: 'DONTNEED' }), { [ANON]: APART, [THP]: APART }],
  ['munmap', (s) => s.op('munmap', { memory: 'm' }), { [ANON]: GONE, [HUGE]: GONE, [MEMFD]: GONE }],
  [
    'mprotect(READ)',
    (s) => s.op('mprotect', { memory: 'm', prot: 'r' }),
    { [ANON]: READ_ONLY, [THP]: READ_ONLY, [HUGE]: READ_ONLY, [MEMFD]: READ_ONLY },
  ],
  [
    'mprotect(NONE)',
    (s) => s.op('mprotect', { memory: 'm', prot: 'none' }),
    { [ANON]: GONE, [THP]: GONE, [HUGE]: GONE },
  ],
  ['madvise(PAGEOUT)', (s) => s.op('madvise', { memory: 'm', advice: 'PAGEOUT' }), { [THP]: SAME }],
  [
    'deleting the memslot',
    (_, vm) => setUserMemoryRegion(vm, region(1, 0, 0, 0)),
    { [ANON]: NO_SLOT, [THP]: NO_SLOT, [HUGE]: NO_SLOT, [MEMFD]: NO_SLOT },
  ],
];

function said({ core }: Vm, result: GuestResult): string {
  return 'token' in result ? core.frames.tokens.text(result.token) : result.exit;
}

function* program(s: Session, type: string, deed: Deed): Steps<void> {
  yield* call(vfNeed(s));
  const mem = yield* call(mk(s, type));
  if ('errno' in mem) throw new Error(mem.errno);
  const vm = yield* call(createVm(s.world.core, { name: 'vm' }));
  const vcpu = vm.addVcpuNow();
  const set = yield* call(setUserMemoryRegion(vm, region(1, GFN, 8, Number(addressOf(s, 'm') / 4096n))));
  if (set !== 'ok') throw new Error(set);
  yield* call(must(s, 'vfio.map', { device: 'edu', memory: 'm', iova: IOVA0, length: mem.bytes, flags: VRW }));
  yield* call(vcpuRead(vm, vcpu, GFN));
  yield* call(vcpuWrite(vm, vcpu, GFN, vm.core.frames.tokens.of('b')));
  yield* call(deed(s, vm));
  const dmaRead = function* (): Steps<string> {
    return String((yield* call(s.op('dma.read', { device: 'edu', iova: IOVA0 }))).shows.value);
  };
  const guestRead = said(vm, yield* call(vcpuRead(vm, vcpu, GFN)));
  const seenByDevice = yield* call(dmaRead());
  const guestWrite = yield* call(vcpuWrite(vm, vcpu, GFN, vm.core.frames.tokens.of('G')));
  const dmaSees = 'token' in guestWrite && (yield* call(dmaRead())) === 'G';
  yield* call(must(s, 'dma.write', { device: 'edu', iova: IOVA0, value: 'D' }));
  const guestSees = said(vm, yield* call(vcpuRead(vm, vcpu, GFN))) === 'D';
  const row: Row = [guestRead, seenByDevice, 'token' in guestWrite ? 'ok' : guestWrite.exit, dmaSees, guestSees];
  s.emit(type, 'ok', {}, { row });
}

describe.each(['v6.1.192', 'v6.12.117'])('guest and device on one memory, %s', (kernel) => {
  describe.each(DEEDS)('after %s', (_, deed, rows) => {
    it.each(Object.entries(rows))('%s', (type, row) => {
      const emitted = runProgram(kernel, labBoot({ memory: MEM_OBJECTS }), (s) => program(s, type, deed));
      expect(emitted[0]?.observed.row).toEqual(row);
    });
  });
});
