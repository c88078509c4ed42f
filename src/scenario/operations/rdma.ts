// RDMA as far as memory goes: on-demand-paging regions, which pin nothing.
import * as z from 'zod';
import { call } from '../../engine/process.ts';
import { OdpRegion } from '../../rdma/odp.ts';
import { zDeclares, zRef } from '../file/reference.ts';
import { ScriptMistake } from '../mistake.ts';
import { defineOperation } from '../operation.ts';
import { umrQueue } from '../world/objects.ts';
import { mustRange, WHERE } from './place.ts';

export const rdmaOperations = [
  defineOperation({
    name: 'odp.reg',
    summary: 'ibv_reg_mr with IBV_ACCESS_ON_DEMAND and a prefetch: the device may use the range, and pins nothing.',
    on: ['process'],
    args: z.strictObject({ ...WHERE, as: zDeclares('region') }),
    *run(context, args) {
      const { world } = context.performance;
      const { core } = world;
      const { vpn, pages } = mustRange(context, args);
      const mm = core.current.task.mm.peek()!;
      const region = new OdpRegion(core, mm, umrQueue(world), args.as.name, vpn, pages);
      yield* call(region.register());
      world.looks.name(args.as.name, () => world.named.set(`region:${args.as.name}`, region));
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'odp.dereg',
    summary: 'ibv_dereg_mr of an on-demand-paging region.',
    on: ['process'],
    args: z.strictObject({ region: zRef('region') }),
    *run(context, args) {
      const region = context.performance.world.named.get(`region:${args.region.name}`);
      if (!(region instanceof OdpRegion)) throw new ScriptMistake(`there is no region ${args.region.name}`);
      yield* call(region.deregister());
      return { returns: 0 };
    },
  }),
];
