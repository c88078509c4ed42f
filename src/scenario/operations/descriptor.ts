// What comes before every ioctl (fs/file.c fdget): a descriptor that is not open is EBADF, whatever it once was. Where other
// threads could close it meanwhile, the call holds the file, and the last to let go releases it.
import type * as z from 'zod';
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { putVm } from '../../kvm/create.ts';
import type { Vm } from '../../kvm/vm.ts';
import type { Inode } from '../../mm/file/inode.ts';
import { fput } from '../../mm/process/exit.ts';
import type { OpenFile } from '../../mm/process/task.ts';
import { defineOperation, type Operation, type Outcome } from '../operation.ts';
import type { OperationContext } from '../world/context.ts';
import { closesAny, closesUnderThreads } from '../world/threads.ts';
import { processOf } from './place.ts';

const FDGET = step('fdget', 'none');
const HOLD = step('get_file_rcu', 'none');
const RUN = step('kvm_vcpu_ioctl:fdget', 'none');

interface Ioctl<Args extends z.ZodType, Target> extends Omit<Operation<Args>, 'run'> {
  /** The object behind the descriptor; null: the call is made on something that is always open. */
  target(context: OperationContext, args: z.output<Args>): Target;
  run(context: OperationContext, args: z.output<Args>, target: Target): Steps<Outcome>;
}

/** An operation on an open descriptor of the acting process. EBADF: it has none of the target. */
export function defineIoctl<Args extends z.ZodType, Target extends object | null>(
  ioctl: Ioctl<Args, Target>,
): Operation {
  const { target, run, ...rest } = ioctl;
  return defineOperation<Args>({
    ...rest,
    *run(context, args) {
      const object = target(context, args);
      if (object === null) return yield* call(run(context, args, object));
      const file = yield* call(fdget(context, (one) => one.object === object));
      if (file === null) return { errno: 'EBADF' };
      if (!closesUnderThreads(context.performance.world.scenario, processOf(context))) {
        return yield* call(run(context, args, object));
      }
      yield file.references.willUpdate(HOLD);
      if (file.references.value === 0) return { errno: 'EBADF' };
      file.references.value = file.references.value + 1;
      const outcome = yield* call(run(context, args, object));
      yield* call(fput(file));
      return outcome;
    },
  });
}

/** As above, of a file: is the descriptor of the file still open? Where no script closes one there is nothing to look at. */
export function* isOpen(context: OperationContext, inode: Inode): Steps<boolean> {
  if (!closesAny(context.performance.world.scenario)) return true;
  yield inode.opened.willRead(FDGET);
  return inode.opened.value;
}

/**
 * KVM_RUN of one of the VM's vCPUs, whose descriptors close with the VM's: the call holds the file, and that the VM. EIO:
 * it has no user any more, though it may take a while yet to go.
 */
export function* inRun(context: OperationContext, vm: Vm, body: () => Steps<Outcome>): Steps<Outcome> {
  if (!closesUnderThreads(context.performance.world.scenario, processOf(context))) return yield* call(body());
  yield vm.users.willUpdate(RUN);
  if (vm.users.value === 0) return { errno: 'EIO', shows: { exit: 'EIO', value: '' } };
  vm.users.value += 1;
  const outcome = yield* call(body());
  yield* call(putVm(vm));
  return outcome;
}

/** The file of the acting process that fits; null: it has no such file open. */
export function* fdget(context: OperationContext, fits: (file: OpenFile) => boolean): Steps<OpenFile | null> {
  const { task } = context.performance.world.core.current;
  yield task.files.willRead(FDGET);
  return task.files.value.find(fits) ?? null;
}
