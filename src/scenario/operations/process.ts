// Processes: fork with a script for the child, exec, exit, kill, limits.
import * as z from 'zod';
import { call, type Steps } from '../../engine/process.ts';
import { type Step, step } from '../../engine/step.ts';
import { until } from '../../engine/wait.ts';
import { closeInode } from '../../mm/file/iput.ts';
import { exec } from '../../mm/process/exec.ts';
import { exit, fput } from '../../mm/process/exit.ts';
import { fork } from '../../mm/process/fork.ts';
import { deThread, doGroupExit, sendSigkill } from '../../mm/process/signal.ts';
import { OpenFile } from '../../mm/process/task.ts';
import { Script, zDeclares, zRef, zScript } from '../file/reference.ts';
import { zCount, zLimit } from '../file/scalar.ts';
import type { ScriptStep } from '../file/step.ts';
import { perform } from '../interpret.ts';
import { ScriptMistake } from '../mistake.ts';
import { defineOperation, type Outcome } from '../operation.ts';
import type { OperationContext } from '../world/context.ts';
import { fileNamed, installFile } from '../world/devices.ts';
import { threadsOf } from '../world/threads.ts';
import { bytesOfLimit, type World } from '../world/world.ts';
import { inodeOf } from './files.ts';
import { outcome } from './mapping.ts';
import { processOf } from './place.ts';

const CLOSE = step('close_fd', 'op');
const PERMISSION = step('check_kill_permission', 'op');
const RLIMIT = step('do_prlimit', 'op');
const WAITPID = step('do_wait', 'none');
const SETUID = step('__sys_setresuid:commit_creds', 'op');

/** Descriptors that the kernel makes with O_CLOEXEC, whatever the caller may want. */
const CLOSED_ON_EXEC: readonly string[] = ['vfio-device', 'kvm-vm', 'guest_memfd', 'io_uring'];

export const processOperations = [
  defineOperation({
    name: 'open',
    summary: 'open() of a character device that has nothing to do with memory.',
    on: ['process'],
    args: z.strictObject({ path: z.enum(['/dev/null']), as: zDeclares('fd') }),
    *run(context, args) {
      const { world } = context.performance;
      const { process } = world.core.current;
      const file = { name: `${args.path} ${process.name}#${process.nextNumber()}`, kind: args.path, object: null };
      yield* call(installFile(world, args.as.name, new OpenFile(world.sim, file)));
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'close',
    summary:
      'close() of a descriptor by name: of a container, device, VM or guest_memfd, a group (`group_of`), a file or memfd (by its memory), any other.',
    on: ['process'],
    args: z.strictObject({
      fd: zRef('fd', 'container', 'device', 'vm', 'memory').optional(),
      group_of: zRef('device').optional().describe('The group of that device.'),
    }),
    *run(context, args): Steps<Outcome> {
      const { world } = context.performance;
      const group = args.group_of === undefined ? undefined : world.devices.get(args.group_of.name)!.group.name;
      const name = args.fd?.name ?? group ?? `container of ${processOf(context)}`;
      const file = fileNamed(world, name);
      const { task } = world.core.current;
      if (file === undefined && args.fd !== undefined && isFile(context, name)) {
        return outcome(yield* call(closeInode(world.core, inodeOf(context, args.fd))));
      }
      yield task.files.willUpdate(CLOSE);
      if (file === undefined || !task.files.value.includes(file)) return { errno: 'EBADF' };
      task.files.value = task.files.value.filter((other) => other !== file);
      yield* call(fput(file));
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'fork',
    summary: 'fork(): the child performs a script of its own on a copy of the address space, then exits.',
    on: ['process'],
    args: z.strictObject({
      as: zDeclares('process', 'actor').describe('What to call the child; others can wait for it.'),
      child: zScript('process').optional().describe('What the child does; default: nothing.'),
      cpu: zCount(0, 4095).optional().describe('The CPU it runs on; default: chosen by the order of forks.'),
      stays: z.boolean().optional().describe('After its script the child pauses; only `kill` ends it.'),
    }),
    *run(context, args) {
      const { performance } = context;
      const { world, actor } = performance;
      const parent = processOf(context);
      const name = args.as.name;
      const script = (args.child as Script<ScriptStep> | undefined) ?? EMPTY;
      // Where the child's mappings are is what its parent calls them then.
      const appearing = (at: Step) => {
        world.looks.willRead(at);
        world.looks.willAppear(name, at);
      };
      const result = yield* call(
        fork(world.core, { name, appearing, ...onCpu(args.cpu, world) }, function* () {
          world.milestones.alias(world.sim.current!, name);
          const child = { ...performance, process: name, actor: { ...actor, name, subject: name, script } };
          // pause() is nothing to do: the process is there until somebody kills it.
          yield* call(perform(child, args.stays === true ? undefined : () => exit(world.core)));
        }),
      );
      if ('errno' in result) return { errno: result.errno };
      world.tasks.set(name, result.task);
      world.looks.appears(name);
      world.inheritPlaces(parent, name);
      return { returns: 1 };
    },
  }),
  defineOperation({
    name: 'exec',
    summary:
      'execve(): a new, empty address space, once every other thread of the process is back from the kernel and has ended. Descriptors that were opened by path stay open, and with them what they pinned; those that KVM, io_uring and VFIO_GROUP_GET_DEVICE_FD make are closed. EAGAIN: the process dies, or execs in another thread.',
    on: ['process'],
    ends: 'threads',
    changes: 'mappings',
    args: z.strictObject({
      keep_open: z
        .boolean()
        .optional()
        .describe('FD_CLOEXEC of all descriptors was cleared before, for a live update.'),
    }),
    *run(context, args) {
      const { world } = context.performance;
      const several = threadsOf(world.scenario, processOf(context)) > 1;
      if (several && !(yield* call(deThread(world.core)))) return { errno: 'EAGAIN' };
      const closed = args.keep_open === true ? [] : CLOSED_ON_EXEC;
      const result = yield* call(exec(world.core, ({ kind }) => closed.includes(kind)));
      if (result !== 'ok') return { errno: result };
      world.forgetPlaces(processOf(context));
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'exit',
    summary:
      'exit_group(): the process drops its memory, then its descriptors; with other threads, once each of them is back from the kernel. The script ends here.',
    on: ['process'],
    ends: 'process',
    args: z.strictObject({}),
    *run(context) {
      const { core, scenario } = context.performance.world;
      if (threadsOf(scenario, processOf(context)) > 1) yield* call(doGroupExit(core));
      else yield* call(exit(core));
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'kill',
    summary:
      'kill(SIGKILL): the process ends at its next return to user mode, and what can be killed in it earlier. EPERM for one of another uid without CAP_KILL.',
    on: ['process', 'kernel'],
    args: z.strictObject({ process: zRef('process') }),
    *run(context, args) {
      const { world } = context.performance;
      const task = world.task(args.process.name);
      const { current } = world.core;
      yield task.credentials.willRead(PERMISSION);
      // kill_ok_by_cred
      const permitted =
        current.task.kernelThread || current.user === task.credentials.value || current.capable('CAP_KILL');
      if (!permitted) return { errno: 'EPERM' };
      yield* call(sendSigkill(world.core, task));
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'waitpid',
    summary: 'waitpid(): waits for the end of a child, once. ECHILD for any other process.',
    on: ['process'],
    args: z.strictObject({ process: zRef('process') }),
    *run(context, args) {
      const { world } = context.performance;
      const { task } = world.core.current;
      const { exited, reaped, parent } = world.task(args.process.name);
      if (parent !== task) return { errno: 'ECHILD' };
      const { killed } = task;
      const ready = () => exited.peek() || killed.peek();
      reaped.willUpdate(WAITPID);
      yield until(world.sim, [exited, killed], ready, WAITPID, { name: `the exit of ${args.process.name}` });
      if (!exited.value) return { errno: 'EINTR' };
      if (reaped.value) return { errno: 'ECHILD' };
      reaped.value = true;
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'setuid',
    summary: 'setresuid(): real, effective and saved uid; capabilities go when root becomes somebody else. EPERM.',
    on: ['process'],
    args: z.strictObject({ uid: zCount(0, 0xffffffff) }),
    *run(context, args) {
      const { world } = context.performance;
      const { current } = world.core;
      const { task } = current;
      const user = world.user(args.uid);
      task.capabilities.willUpdate(SETUID);
      yield task.credentials.willUpdate(SETUID);
      const { uid } = task.credentials.value;
      // CAP_SETUID is not modelled: root has it, nobody else does.
      if (uid !== 0 && uid !== args.uid) return { errno: 'EPERM' };
      task.credentials.value = user;
      if (uid === 0 && args.uid !== 0) task.capabilities.value = [];
      current.takeCredentials();
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'setrlimit',
    summary:
      'setrlimit(RLIMIT_MEMLOCK) of the process, or prlimit() of another. EINVAL: soft above hard; EPERM: a higher hard limit, or the process of another uid, without CAP_SYS_RESOURCE.',
    on: ['process'],
    args: z.strictObject({
      memlock: zLimit.describe('The soft limit.'),
      memlock_hard: zLimit.optional().describe('The hard limit; default: as it is, or `memlock` where that is more.'),
      process: zRef('process').optional(),
    }),
    *run(context, args) {
      const task = context.performance.world.task(args.process?.name ?? processOf(context));
      const { current } = context.performance.world.core;
      const soft = bytesOfLimit(args.memlock);
      task.credentials.willRead(RLIMIT);
      task.memlockHardBytes.willUpdate(RLIMIT);
      yield task.memlockBytes.willWrite(RLIMIT);
      const privileged = current.capable('CAP_SYS_RESOURCE');
      // check_prlimit_permission
      if (task !== current.task && current.user !== task.credentials.value && !privileged) return { errno: 'EPERM' };
      const before = task.memlockHardBytes.value;
      const hard = args.memlock_hard === undefined ? Math.max(before, soft) : bytesOfLimit(args.memlock_hard);
      if (soft > hard) return { errno: 'EINVAL' };
      if (hard > before && !privileged) return { errno: 'EPERM' };
      task.memlockBytes.value = soft;
      task.memlockHardBytes.value = hard;
      return { returns: 0 };
    },
  }),
];

/** Is it memory with a file behind it? */
function isFile(context: OperationContext, name: string): boolean {
  const { world } = context.performance;
  const inode = (world.memory.get(name) ?? world.place(processOf(context), name)?.memory)?.inode;
  return inode != null && inode.kind !== 'special';
}

/** A CPU that the machine has. */
function onCpu(cpu: number | undefined, world: World): { readonly cpu?: number } {
  if (cpu === undefined) return {};
  const { length } = world.core.cpus;
  if (cpu >= length) throw new ScriptMistake(`there is no CPU ${cpu}; the machine has ${length} (host.cpus)`);
  return { cpu };
}

const EMPTY = new Script<ScriptStep>([], 'process');
EMPTY.steps = [];
