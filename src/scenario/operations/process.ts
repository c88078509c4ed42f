// Processes: fork with a script for the child, exec, exit, kill, limits.
import * as z from 'zod';
import { call } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { exit } from '../../mm/exit.ts';
import { fork } from '../../mm/fork.ts';
import { perform } from '../interpret.ts';
import { defineOperation } from '../operation.ts';
import { Script, zDeclares, zRef, zScript } from '../reference.ts';
import { zLimit } from '../scalar.ts';
import type { ScriptStep } from '../step.ts';
import { UNLIMITED } from '../units.ts';
import { processOf } from './place.ts';

const KILL = step('send_sig:SIGKILL', 'op');
const RLIMIT = step('do_prlimit', 'op');

export const processOperations = [
  defineOperation({
    name: 'fork',
    summary: 'fork(): the child performs a script of its own on a copy of the address space, then exits.',
    on: ['process'],
    args: z.strictObject({
      as: zDeclares('process', 'actor').describe('What to call the child; others can wait for it.'),
      child: zScript('process').optional().describe('What the child does; default: nothing.'),
      stays: z.boolean().optional().describe('The child does not exit at the end of its script.'),
    }),
    *run(context, args) {
      const { performance } = context;
      const { world, actor } = performance;
      const parent = processOf(context);
      const name = args.as.name;
      const script = (args.child as Script<ScriptStep> | undefined) ?? EMPTY;
      const result = yield* call(
        fork(world.core, { name }, function* (task) {
          world.milestones.alias(world.sim.current!, name);
          const child = { ...performance, process: name, actor: { ...actor, name, subject: name, script } };
          world.tasks.set(name, task);
          if (args.stays === true) yield* call(perform(child));
          else yield* call(perform(child, () => exit(world.core)));
        }),
      );
      if ('errno' in result) return { errno: result.errno };
      world.tasks.set(name, result.task);
      world.inheritPlaces(parent, name);
      return { returns: 1 };
    },
  }),
  defineOperation({
    name: 'exit',
    summary: 'exit(): the process drops its memory, then its descriptors.',
    on: ['process'],
    args: z.strictObject({}),
    *run(context) {
      yield* call(exit(context.performance.world.core));
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'kill',
    summary: 'kill(SIGKILL): a fatal signal is pending; waits that can be killed end.',
    on: ['process', 'kernel'],
    args: z.strictObject({ process: zRef('process') }),
    *run(context, args) {
      const { killed } = context.performance.world.task(args.process.name);
      yield killed.willWrite(KILL);
      killed.value = true;
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'setrlimit',
    summary: 'setrlimit(RLIMIT_MEMLOCK) of the process, or prlimit() of another.',
    on: ['process'],
    args: z.strictObject({ memlock: zLimit, process: zRef('process').optional() }),
    *run(context, args) {
      const task = context.performance.world.task(args.process?.name ?? processOf(context));
      yield task.memlockBytes.willWrite(RLIMIT);
      task.memlockBytes.value = args.memlock === UNLIMITED ? Number.POSITIVE_INFINITY : Number(args.memlock);
      return { returns: 0 };
    },
  }),
];

const EMPTY = new Script<ScriptStep>([], 'process');
EMPTY.steps = [];
