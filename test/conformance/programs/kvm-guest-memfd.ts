// kvmtest.c slots, its second half: capabilities, guest_memfd, and the private memory of a software-protected VM.
import { call, type Steps } from '../../../src/engine/process.ts';
import { labBoot } from '../boot.ts';
import type { Program } from '../program.ts';
import { hex, type Result, type Session } from '../session.ts';
import { must, PG } from '../vf.ts';

const EIGHT = 8n * PG;
/** KVM_CAP_* */
const USER_MEMORY2 = 231;
const GUEST_MEMFD = 234;
const VM_TYPES = 235;

function* guestMemfd(s: Session): Steps<void> {
  yield* call(must(s, 'kvm.create_vm', { as: 'vm' }));
  yield* call(must(s, 'mmap', { name: 'p', size: EIGHT }));
  const capability = (number: number, vm = {}) => s.op('kvm.check_extension', { capability: number, ...vm });
  s.emit('kvm/cap_user_memory2', yield* call(capability(USER_MEMORY2)));
  s.emit('kvm/cap_guest_memfd', yield* call(capability(GUEST_MEMFD)));
  s.emit('kvm/cap_guest_memfd_on_default_vm', yield* call(capability(GUEST_MEMFD, { vm: 'vm' })));
  const note = { note: 'bit 1 = KVM_X86_SW_PROTECTED_VM' };
  s.emit('kvm/cap_vm_types', yield* call(capability(VM_TYPES)), {}, note);

  function* create(name: string, vm: string, size: bigint, flags = 0): Steps<Result> {
    const result = yield* call(s.op('kvm.create_guest_memfd', { vm, as: name, size, flags }));
    s.emit(`kvm/guest_memfd/${name}`, result, { size: hex(size), flags });
    return result;
  }
  const memory = 'create_on_default_vm';
  if ((yield* call(create(memory, 'vm', EIGHT))).errno === null) {
    const emit = function* (name: string, operation: string, args: Readonly<Record<string, unknown>>): Steps<void> {
      s.emit(`kvm/guest_memfd/${name}`, yield* call(s.op(operation, args)));
    };
    yield* call(emit('mmap', 'mmap', { name: 'q', memory, shared: true }));
    yield* call(emit('pwrite', 'file.write', { memory, value: 'x' }));
    yield* call(emit('ftruncate', 'truncate', { memory, size: 0 }));
    yield* call(emit('fallocate', 'fallocate', { memory, length: EIGHT }));
    yield* call(emit('punch_hole', 'fallocate', { memory, length: PG, mode: 'punch-hole' }));
  }
  yield* call(create('size_zero', 'vm', 0n));
  yield* call(create('size_unaligned', 'vm', PG + 1n));
  yield* call(create('flags_1', 'vm', PG, 1));
  const pv = yield* call(s.op('kvm.create_vm', { as: 'pv', type: 'sw-protected' }));
  s.emit('kvm/sw_protected_vm/create', pv);
  if (pv.errno === null) yield* call(protectedVm(s, create));
}

function* protectedVm(s: Session, create: (name: string, vm: string, size: bigint) => Steps<Result>): Steps<void> {
  const vm = { vm: 'pv' };
  const guest_memfd = 'create_on_sw_protected_vm';
  yield* call(create(guest_memfd, 'pv', EIGHT));
  const region = { ...vm, memory: 'p', size: EIGHT, guest_memfd };
  const bind = (args: Readonly<Record<string, unknown>>) => s.op('kvm.set_memory_region', { ...region, ...args });
  s.emit('kvm/guest_memfd/bind_memslot', yield* call(bind({ slot: 0, gpa: 0 })));
  s.emit('kvm/guest_memfd/bind_same_range_twice', yield* call(bind({ slot: 1, gpa: 0x100000n })));
  s.emit('kvm/guest_memfd/bind_with_dirty_log', yield* call(bind({ slot: 0, gpa: 0, flags: 5 })));
  const attributes = (size: bigint) => s.op('kvm.set_memory_attributes', { ...vm, gpa: 0, size });
  s.emit('kvm/guest_memfd/set_private_attribute', yield* call(attributes(EIGHT)));
  s.emit('kvm/guest_memfd/set_attribute_unaligned', yield* call(attributes(PG + 1n)));
}

export const kvmGuestMemfd: Program = {
  name: 'kvm/guest_memfd',
  reports: [
    ...['kvm/cap_user_memory2', 'kvm/cap_guest_memfd', 'kvm/cap_guest_memfd_on_default_vm', 'kvm/cap_vm_types'],
    ...['kvm/guest_memfd', 'kvm/sw_protected_vm'],
  ],
  boot: labBoot(),
  run: guestMemfd,
};
