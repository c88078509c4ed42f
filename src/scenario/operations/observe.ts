// Operations that look: /proc files and pagemap, as the tools of users read them.
import * as z from 'zod';
import { step } from '../../engine/step.ts';
import { PMD_PAGES, type Zone, type ZoneKind } from '../../hw/machine.ts';
import { PG_ANON } from '../../mm/page-flags.ts';
import { memInfo, willReadMemInfo } from '../../mm/proc/meminfo.ts';
import { kpagecount, kpageflags, memoryStatus, willReadKpage, willReadMemoryStatus } from '../../mm/proc/pagemap.ts';
import { VMSTAT_NAMES } from '../../mm/proc/vmstat.ts';
import { PTE_SOFT_DIRTY, PTE_SWAP, PTE_UFFD_WP, ptePresent } from '../../mm/pte.ts';
import { zRef } from '../file/reference.ts';
import { zCount } from '../file/scalar.ts';
import { defineOperation, type Shown } from '../operation.ts';
import { sizesText } from '../world/iommu-trace.ts';
import { mustRange, processOf, WHERE } from './place.ts';

const STATUS = step('proc_pid_status', 'op');
const PAGEMAP = step('pagemap_read', 'op');
const SETTLE = step('script:settle', 'none');
const TRACE = step('trace_pipe_read', 'op');
const VMSTAT = step('vmstat_show', 'op');
const KPAGE = step('kpageflags_read', 'op');
const MEMINFO = step('meminfo_proc_show', 'op');
const SMAPS = step('show_smap', 'op');

const ZONE_NAMES: Readonly<Record<ZoneKind, string>> = {
  DMA32: 'DMA32',
  NORMAL: 'Normal',
  MOVABLE: 'Movable',
  CMA: 'CMA',
  DEVICE: 'Device',
};

function zoneName(zone: Zone | undefined): string {
  return zone === undefined ? 'none' : `node${zone.node}/${ZONE_NAMES[zone.kind]}`;
}

export const observeOperations = [
  defineOperation({
    name: 'status',
    summary: '/proc/PID/status: locked and pinned memory of a process, in bytes.',
    args: z.strictObject({ process: zRef('process').optional() }),
    shows: {
      VmLck: 'mm->locked_vm in bytes.',
      VmPin: 'mm->pinned_vm in bytes.',
      user_locked: 'user->locked_vm in bytes.',
    },
    *run(context, args) {
      const { world } = context.performance;
      const task = world.task(args.process?.name ?? processOf(context));
      for (;;) {
        // The look tells what to announce; the act looks again.
        const mm = task.mm.peek();
        const user = task.credentials.peek();
        mm?.lockedVm.willRead(STATUS);
        mm?.pinnedVm.willRead(STATUS);
        user.lockedVm.willRead(STATUS);
        task.credentials.willRead(STATUS);
        yield task.mm.willRead(STATUS);
        if (task.mm.value !== mm || task.credentials.value !== user) continue;
        return {
          returns: 0,
          shows: {
            VmLck: (mm?.lockedVm.value ?? 0) * 4096,
            VmPin: (mm?.pinnedVm.value ?? 0) * 4096,
            user_locked: user.lockedVm.value * 4096,
          },
        };
      }
    },
  }),
  defineOperation({
    name: 'pagemap',
    summary: '/proc/PID/pagemap, kpagecount and kpageflags of the pages of a range.',
    args: z.strictObject({ ...WHERE, process: zRef('process').optional() }),
    shows: {
      present: 'Whether the first page is present.',
      present_pages: 'How many are.',
      swapped: 'Whether the first is swapped out.',
      swapped_pages: 'How many are.',
      pfn: 'Frame of the first, or 0.',
      zero_page: 'Whether that is the zero page (4 KiB or huge).',
      flags: 'Its page flags, as kpageflags names them.',
      mapcount: 'kpagecount of the first.',
      anon: 'Whether it is anonymous.',
      huge: 'Whether a huge page is mapped there whole.',
      huge_page: 'Whether the page belongs to a huge page (THP or HUGE of kpageflags).',
      zone: 'Node and zone of the first, as /proc/zoneinfo names them: node0/Normal. Pages of CMA say so.',
      soft_dirty: 'Soft-dirty bit of the first: written since `clear_refs`, or mapped since.',
      uffd_wp: 'Whether it is write-protected by userfaultfd.',
    },
    *run(context, args) {
      const { world } = context.performance;
      const { core } = world;
      const { folios } = core;
      const where =
        args.process === undefined
          ? context
          : { ...context, performance: { ...context.performance, process: args.process.name } };
      const { task, vpn, pages } = mustRange(where, args);
      // The look tells which page to announce; the act looks again.
      let mm = task.mm.peek();
      const frame = () => mm?.pageTable.peekFrame(vpn) ?? 0;
      const headOf = (pfn: number) => (pfn > 0 ? folios.headOf(pfn) : 0);
      for (let seen = -1, head = -1; task.mm.peek() !== mm || seen !== frame() || head !== headOf(seen); ) {
        mm = task.mm.peek();
        seen = frame();
        head = headOf(seen);
        if (seen > 0) willReadKpage(core, seen, PAGEMAP);
        mm?.vmas.willRead(PAGEMAP);
        mm?.pageTable.willReadLeaves(vpn, pages, PAGEMAP);
        yield task.mm.willRead(PAGEMAP);
      }
      if (mm === null) return { errno: 'ESRCH' };
      const { pageTable } = mm;
      let present = 0;
      let swapped = 0;
      // walk_page_test: a VM_PFNMAP mapping shows as a hole.
      const seen = mm;
      const hidden = (at: number) => seen.vmaAt(at)?.fields.pfnMapping != null;
      for (const vma of seen.vmasIn(vpn, vpn + pages)) {
        if (vma.fields.pfnMapping !== null) continue;
        for (let at = Math.max(vpn, vma.start); at < Math.min(vpn + pages, vma.end); at++) {
          const { pte } = pageTable.peekLeaf(at);
          if (ptePresent(pte.bits)) present++;
          if ((pte.bits & PTE_SWAP) !== 0) swapped++;
        }
      }
      const { pte, huge } = pageTable.peekLeaf(vpn);
      const here = ptePresent(pte.bits) && !hidden(vpn);
      const pfn = here ? pte.pfn + (huge ? vpn % PMD_PAGES : 0) : 0;
      const shows: Record<string, Shown> = {
        present: here,
        present_pages: present,
        swapped: (pte.bits & PTE_SWAP) !== 0,
        swapped_pages: swapped,
        pfn,
        soft_dirty: (pte.bits & PTE_SOFT_DIRTY) !== 0 || mm.vmaAt(vpn)?.fields.softDirtyEnabled === false,
        uffd_wp: (pte.bits & PTE_UFFD_WP) !== 0,
      };
      if (!here) return { returns: 0, shows };
      const head = folios.headOf(pfn);
      return {
        returns: 0,
        shows: {
          ...shows,
          zero_page: pfn === core.zeroPfn || head === core.hugeZeroPfn,
          flags: kpageflags(core, pfn).join('|'),
          mapcount: kpagecount(core, pfn),
          anon: (folios.flags.peek(head) & PG_ANON) !== 0,
          huge,
          huge_page: folios.isLarge(head),
          zone: zoneName(core.machine.zoneOf(pfn)),
        },
      };
    },
  }),
  defineOperation({
    name: 'kpage',
    summary: '/proc/kpageflags and /proc/kpagecount of a frame, mapped or not.',
    args: z.strictObject({ pfn: zCount() }),
    shows: {
      flags: 'Names of its flags in the order of their bits, with | between.',
      mapcount: 'How often it is mapped.',
    },
    *run(context, args) {
      const { core } = context.performance.world;
      const headOf = () => core.folios.headOf(args.pfn);
      for (let head = -1; head !== headOf(); ) {
        head = headOf();
        yield willReadKpage(core, args.pfn, KPAGE);
      }
      // Frame 0 stands for no page.
      if (args.pfn === 0) return { returns: 0, shows: { flags: '', mapcount: 0 } };
      const flags = kpageflags(core, args.pfn).join('|');
      return { returns: 0, shows: { flags, mapcount: kpagecount(core, args.pfn) } };
    },
  }),
  defineOperation({
    name: 'meminfo',
    summary: '/proc/meminfo: free memory in bytes, and what the pool of huge pages of 2 MiB holds.',
    args: z.strictObject({}),
    shows: {
      MemFree: 'Free memory.',
      MemAvailable: 'What could be had without swapping.',
      HugePages_Free: 'Pages of the pool that nobody has.',
      HugePages_Rsvd: 'How many of these were promised to mappings.',
    },
    *run(context) {
      const { core } = context.performance.world;
      const pool = core.hugePool.get(9);
      pool?.willRead(MEMINFO);
      yield willReadMemInfo(core, MEMINFO);
      const { free, available } = memInfo(core);
      return {
        returns: 0,
        shows: {
          MemFree: free * 4096,
          MemAvailable: available * 4096,
          HugePages_Free: pool?.value.length ?? 0,
          HugePages_Rsvd: core.hugeReserved.get(9)?.value ?? 0,
        },
      };
    },
  }),
  defineOperation({
    name: 'smaps',
    summary: '/proc/PID/smaps_rollup: memory of a process by kind, in bytes.',
    args: z.strictObject({ process: zRef('process').optional() }),
    shows: { AnonHugePages: 'Anonymous memory mapped as huge pages.', Rss: 'Resident memory.', Swap: 'In swap.' },
    *run(context, args) {
      const { world } = context.performance;
      const task = world.task(args.process?.name ?? processOf(context));
      for (;;) {
        // The look tells what to announce; the act looks again.
        const mm = task.mm.peek();
        if (mm !== null) willReadMemoryStatus(mm, SMAPS);
        yield task.mm.willRead(SMAPS);
        if (task.mm.value !== mm) continue;
        if (mm === null) return { errno: 'ESRCH' };
        const { anonHugeKb, residentKb, swapKb } = memoryStatus(world.core, mm);
        return { returns: 0, shows: { AnonHugePages: anonHugeKb * 1024, Rss: residentKb * 1024, Swap: swapKb * 1024 } };
      }
    },
  }),
  defineOperation({
    name: 'settle',
    summary: 'Waits 100 ms: work that was started elsewhere (IO, a forked child) gets to its end.',
    args: z.strictObject({}),
    *run(context) {
      yield context.performance.world.sim.sleep(100_000_000, SETTLE);
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'trace.iommu',
    summary: 'The calls of iommu_map and iommu_unmap that this actor made since it last looked; needs host.trace.',
    args: z.strictObject({}),
    shows: {
      '*': '{map,unmap}_{calls,bytes,sizes}: how many, how much, and runs of sizes such as `8x4096 1x2097152`.',
    },
    *run(context) {
      const { sim, iommuTrace } = context.performance.world;
      yield sim.local(TRACE);
      if (iommuTrace === null) return { errno: 'ENODEV' };
      const made = iommuTrace.take(sim.current!);
      const shows: Record<string, Shown> = {};
      for (const what of ['map', 'unmap'] as const) {
        const calls = made.filter((one) => one.call === what);
        shows[`${what}_calls`] = calls.length;
        shows[`${what}_bytes`] = calls.reduce((sum, one) => sum + one.pages * 4096, 0);
        shows[`${what}_sizes`] = sizesText(calls);
      }
      return { returns: 0, shows };
    },
  }),
  defineOperation({
    name: 'vmstat',
    summary: '/proc/vmstat: counters since the world was built.',
    args: z.strictObject({}),
    shows: { '*': 'Every counter by its name.' },
    *run(context) {
      const { vmstat } = context.performance.world.core;
      for (const name of VMSTAT_NAMES) vmstat.willRead(name, VMSTAT);
      yield context.performance.world.sim.local(VMSTAT);
      return { returns: 0, shows: Object.fromEntries(VMSTAT_NAMES.map((name) => [name, vmstat.value(name)])) };
    },
  }),
];
