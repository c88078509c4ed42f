// exec's change of address space (fs/exec.c exec_mmap, begin_new_exec): the old mm is put, its pages go, pins stay with
// their descriptors. Then descriptors with O_CLOEXEC are closed.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import { Mm } from '../mm.ts';
import { fput, mmput } from './exit.ts';
import type { OpenFile } from './task.ts';

const SWITCH = step('exec_mmap', 'op');
const CLOSE = step('do_close_on_exec', 'op');

/** execve: a fresh, empty address space. `closeOnExec`: which descriptors do not survive. EINTR: killed. */
export function* exec(core: CoreMm, closeOnExec: (file: OpenFile) => boolean = () => false): Steps<'ok' | Errno> {
  const { task, cpu, process } = core.current;
  const old = task.mm.peek()!;
  const fresh = new Mm(core.sim, core.kernel, `${task.name}/exec.${process.nextNumber()}`);
  // The caller's mm must not change under a coredump or ptrace: mmap_lock for read, killable.
  if (!(yield* call(old.mmapLock.killable(false, task.killed)))) return 'EINTR';
  fresh.cpumask.willUpdate(SWITCH);
  yield task.mm.willWrite(SWITCH);
  task.mm.value = fresh;
  fresh.cpumask.value = [cpu];
  yield old.mmapLock.up();
  yield* call(mmput(core, old));

  yield task.files.willUpdate(CLOSE);
  const closed = task.files.value.filter(closeOnExec);
  task.files.value = task.files.value.filter((file) => !closed.includes(file));
  for (const file of closed) yield* call(fput(file));
  return 'ok';
}
