// Every program of the laboratory. A new program is added to this list, nowhere else.
import type { Program } from '../program.ts';
import { iouringArgs } from './iouring-args.ts';
import { iouringBehaviour } from './iouring-beh.ts';
import { iouringLimits } from './iouring-limits.ts';
import { iouringMem } from './iouring-mem.ts';
import { kvm } from './kvm.ts';
import { kvmGuestMemfd } from './kvm-guest-memfd.ts';
import { pinsFork } from './pins-fork.ts';
import { pinsLife } from './pins-life.ts';
import { pinsMadvise } from './pins-madvise.ts';
import { pinsMigrate } from './pins-migrate.ts';
import { pinsOffline } from './pins-offline.ts';
import { pinsPressure } from './pins-pressure.ts';
import { pinsProc } from './pins-proc.ts';
import { pinsTruncate } from './pins-truncate.ts';
import { pinsUnmap } from './pins-unmap.ts';
import { traceSizes } from './trace-sizes.ts';
import { type1Acct } from './type1-acct.ts';
import { type1Container } from './type1-container.ts';
import { type1Dirty } from './type1-dirty.ts';
import { type1Dma } from './type1-dma.ts';
import { type1Groups } from './type1-groups.ts';
import { type1Limit } from './type1-limit.ts';
import { type1Map } from './type1-map.ts';
import { type1Mem } from './type1-mem.ts';
import { type1Memlock } from './type1-memlock.ts';
import { type1Unmap } from './type1-unmap.ts';

export const PROGRAMS: readonly Program[] = [
  type1Container,
  type1Map,
  type1Limit,
  type1Memlock,
  type1Acct,
  ...type1Unmap,
  type1Dirty,
  type1Groups,
  type1Dma,
  ...type1Mem,
  ...iouringMem,
  iouringArgs,
  iouringLimits,
  iouringBehaviour,
  ...traceSizes,
  ...kvm,
  kvmGuestMemfd,
  ...pinsMadvise,
  ...pinsFork,
  ...pinsUnmap,
  ...pinsTruncate,
  ...pinsMigrate,
  ...pinsLife,
  ...pinsProc,
  ...pinsPressure,
  ...pinsOffline,
];
