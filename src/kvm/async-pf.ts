// Asynchronous page faults (virt/kvm/async_pf.c): where a fault would have to wait for IO, a worker faults the page in
// while the guest does something else. The worker keeps no page, so it pins nothing. What the guest does meanwhile is not
// modelled: its access waits for the completion.
import { mix } from '../engine/hash.ts';
import { call, type Process, type Steps } from '../engine/process.ts';
import { type Announced, step } from '../engine/step.ts';
import { join, until } from '../engine/wait.ts';
import { gupFlags } from '../mm/gup/gup-flags.ts';
import { getUserPagesLocked, newWalk } from '../mm/gup/gup-slow.ts';
import { mmgetNotZero, mmput } from '../mm/process/exit.ts';
import type { Vcpu } from './vcpu.ts';
import type { Vm } from './vm.ts';

const SETUP = step('kvm_setup_async_pf', 'op');
const START = step('async_pf_execute:start', 'none');
const DONE = step('async_pf_execute:done', 'op');
const WAKE = step('async_pf_execute:kvm_vcpu_wake_up', 'op');
const HALT = step('kvm_check_async_pf_completion:wait', 'none');
const DEQUEUE = step('kvm_check_async_pf_completion', 'op');
const CLEAR = step('kvm_clear_async_pf_completion_queue', 'op');

/** ASYNC_PF_PER_VCPU */
const PER_VCPU = 64;

/** struct kvm_async_pf. Immutable. */
export class AsyncPf {
  readonly gfn: number;
  readonly vpn: number;
  readonly worker: Process;
  readonly identity: number;

  constructor(gfn: number, vpn: number, worker: Process) {
    this.gfn = gfn;
    this.vpn = vpn;
    this.worker = worker;
    this.identity = mix(mix(gfn | 0, vpn | 0), worker.identity);
  }
}

/** kvm_setup_async_pf: false when the vCPU has too many already; then the fault waits itself. */
export function* setupAsyncPf(vm: Vm, vcpu: Vcpu, gfn: number, vpn: number): Steps<boolean> {
  const { core } = vm;
  yield vcpu.asyncQueue.willUpdate(SETUP);
  const queue = vcpu.asyncQueue.value;
  if (queue.some((work) => work.gfn === gfn)) return true;
  if (queue.length >= PER_VCPU) return false;
  const { task } = core.current;
  let work: AsyncPf | null = null;
  const worker = core.sim.spawn('async_pf', function* () {
    yield core.sim.local(START);
    yield* call(execute(vm, vcpu, work!));
  });
  core.runAs(worker, task, true);
  work = new AsyncPf(gfn, vpn, worker);
  vcpu.asyncQueue.value = [...queue, work];
  return true;
}

/** async_pf_execute, in a worker of its own. */
function* execute(vm: Vm, vcpu: Vcpu, work: AsyncPf): Steps<void> {
  const { core, mm } = vm;
  if (yield* call(mmgetNotZero(mm))) {
    yield* call(mm.mmapLock.read());
    // get_user_pages_remote without pages: FOLL_WRITE whatever the guest wanted, and nothing is kept.
    const request = { owner: `async_pf ${vm.name}`, write: true, unlockable: true };
    const walk = newWalk(core, true);
    yield* call(
      getUserPagesLocked(core, mm, work.vpn, 1, gupFlags(request, 'none', { touch: true, remote: true }), walk),
    );
    if (walk.locked) yield mm.mmapLock.up();
    yield* call(mmput(core, mm));
  }
  yield vcpu.asyncDone.willUpdate(DONE);
  vcpu.asyncDone.value = [...vcpu.asyncDone.value, work];
  // From here on the work item may be freed; the worker still touches the vCPU.
  yield vm.gone.willRead(WAKE);
  if (vm.gone.value) reportLate(vm, vcpu);
}

function reportLate(vm: Vm, vcpu: Vcpu): void {
  const { sim } = vm.core;
  sim.report({
    kind: 'use-after-free',
    message: `the worker of an asynchronous page fault wakes ${vcpu.name} after ${vm.name} was destroyed`,
    reasons: ['kvm_clear_async_pf_completion_queue freed the finished work item without waiting for its worker'],
    actors: sim.current === null ? [] : [sim.current.name],
    objects: [vcpu.name, vm.name],
    steps: [],
    details: { vm: vm.name },
    identity: 'use-after-free|kvm_vcpu|async_pf_execute',
  });
}

/** The guest was told that the page is not present: wait until some fault of this vCPU is completed. */
export function* waitAsyncPf(vm: Vm, vcpu: Vcpu): Steps<AsyncPf> {
  yield waitDone(vm, vcpu);
  const [work] = vcpu.asyncDone.value;
  vcpu.asyncDone.value = vcpu.asyncDone.value.slice(1);
  yield vcpu.asyncQueue.willUpdate(DEQUEUE);
  vcpu.asyncQueue.value = vcpu.asyncQueue.value.filter((other) => other !== work);
  if (vm.core.kernel.has('kvm.async-pf-flushes-work')) yield join(vm.core.sim, work!.worker);
  return work!;
}

function waitDone(vm: Vm, vcpu: Vcpu): Announced {
  return until(vm.core.sim, [vcpu.asyncDone], () => vcpu.asyncDone.peek().length > 0, HALT, {
    name: `asynchronous page faults of ${vcpu.name}`,
    update: true,
    lasting: true,
  });
}

/** kvm_clear_async_pf_completion_queue: the vCPU goes away. Work that runs is waited for, finished work since 6.9. */
export function* clearAsyncPf(vm: Vm, vcpu: Vcpu): Steps<void> {
  const { sim, kernel } = vm.core;
  vcpu.asyncQueue.willUpdate(CLEAR);
  yield vcpu.asyncDone.willUpdate(CLEAR);
  const done = vcpu.asyncDone.value;
  const queued = vcpu.asyncQueue.value.filter((work) => !done.includes(work));
  vcpu.asyncQueue.value = [];
  vcpu.asyncDone.value = [];
  // cancel_work_sync of what is queued; flush_work of what is done.
  for (const work of queued) yield join(sim, work.worker);
  if (kernel.has('kvm.async-pf-flushes-work')) for (const work of done) yield join(sim, work.worker);
}
