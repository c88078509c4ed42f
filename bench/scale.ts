// Scale: a populated guest mapped through type1 and unmapped again, as `pinsim run` does it with the default checkers.
// Each size runs in a process of its own, so that its peak memory can be told; that process starts with --scale.
import { spawnSync } from 'node:child_process';
import { loadScenario } from '../src/scenario/file/load.ts';
import { OPERATIONS } from '../src/scenario/operations/index.ts';
import { runScenario } from '../src/scenario/run.ts';
import type { Bench } from './measure.ts';

interface Size {
  readonly name: string;
  readonly guest: string;
  readonly host: string;
  readonly pages: number;
  readonly thp: 'never' | 'always';
  /** At least this many simulated seconds per second of wall time. */
  readonly ratio: number;
  /** Most wall time [s] and most resident memory [MiB]. */
  readonly seconds: number;
  readonly mebibytes: number;
}

const PAGES_PER_GIB = 2 ** 18;
const SIZES: readonly Size[] = [
  {
    name: '64 GiB of 4 KiB pages',
    guest: '64GiB',
    host: '72GiB',
    pages: 64 * PAGES_PER_GIB,
    thp: 'never',
    ratio: 1,
    seconds: Number.POSITIVE_INFINITY,
    mebibytes: 1536,
  },
  {
    name: '64 GiB of 2 MiB pages',
    guest: '64GiB',
    host: '72GiB',
    pages: 64 * PAGES_PER_GIB,
    thp: 'always',
    ratio: 1,
    seconds: 2,
    mebibytes: 1536,
  },
  {
    name: '1 TiB of 2 MiB pages',
    guest: '1TiB',
    host: '1100GiB',
    pages: 1024 * PAGES_PER_GIB,
    thp: 'always',
    ratio: 1,
    seconds: 60,
    mebibytes: 3072,
  },
];

function scenarioOf(size: Size): string {
  return `
title: A guest of ${size.name}, populated, mapped through type1 and unmapped
kernel: v6.12
host: {memory: {normal: ${size.host}}, memlock: unlimited, thp: ${size.thp}, step_pages: 512}
memory: {ram: {kind: anon, size: ${size.guest}}}
processes: {vmm: {uid: 1000}}
devices: {nic: {process: vmm, attach: vfio-type1}}
actors:
  vmm:
    - mmap: {memory: ram, populate: true}
    - vfio.map: {device: nic, iova: 0x100000000, memory: ram}
      returns: 0
    - status: {}
      shows: {VmLck: ${size.guest}}
    - vfio.unmap: {device: nic, iova: 0x100000000, size: ${size.guest}}
      returns: 0
    - status: {}
      shows: {VmLck: 0}
expect: {}
`;
}

/** What the process of one size prints: one line of JSON. */
interface Figures {
  readonly status: string;
  readonly wallNs: number;
  readonly simulatedNs: number;
  readonly steps: number;
  readonly maxRssKib: number;
}

/** Run the size of this number and print its figures. */
export function runSize(number: number): void {
  const size = SIZES[number];
  if (size === undefined) throw new Error(`no size ${number}`);
  const from = process.hrtime.bigint();
  const scenario = loadScenario(`${size.name}.yaml`, scenarioOf(size), OPERATIONS);
  const [result] = runScenario(scenario, {});
  const wallNs = Number(process.hrtime.bigint() - from);
  const figures: Figures = {
    status: result!.status,
    wallNs,
    simulatedNs: result!.timeNs,
    steps: result!.steps,
    maxRssKib: process.resourceUsage().maxRSS,
  };
  process.stdout.write(`${JSON.stringify(figures)}\n`);
}

function judge(size: Size, figures: Figures): readonly string[] {
  const missed: string[] = [];
  const { wallNs, simulatedNs, maxRssKib, status } = figures;
  if (status !== 'as-expected') missed.push(status);
  if (simulatedNs / wallNs < size.ratio) missed.push(`at least ${size.ratio} x`);
  if (wallNs > size.seconds * 1e9) missed.push(`at most ${size.seconds} s`);
  if (maxRssKib > size.mebibytes * 1024) missed.push(`at most ${size.mebibytes} MiB`);
  return missed;
}

export const scale: Bench = {
  name: 'scale',
  about: 'a populated guest mapped through type1 and unmapped, all checkers on; x = simulated time over wall time',
  run(print) {
    let reached = true;
    SIZES.forEach((size, number) => {
      const child = spawnSync(process.execPath, [process.argv[1]!, '--scale', String(number)], { encoding: 'utf8' });
      if (child.status !== 0) throw new Error(`${size.name}: ${child.stderr}`);
      const figures = JSON.parse(child.stdout) as Figures;
      const { wallNs, simulatedNs, steps, maxRssKib } = figures;
      const missed = judge(size, figures);
      if (missed.length > 0) reached = false;
      print(
        `${size.name.padEnd(22)} ${(simulatedNs / wallNs).toFixed(2).padStart(6)} x` +
          `   ${(simulatedNs / 1e9).toFixed(1).padStart(6)} s simulated in ${(wallNs / 1e9).toFixed(1)} s` +
          `   ${((size.pages / wallNs) * 1e3).toFixed(1)} million pages/s` +
          `   ${((maxRssKib * 1024) / size.pages).toFixed(2)} bytes per page, ${Math.round(maxRssKib / 1024)} MiB` +
          `   ${Math.round(wallNs / steps)} ns per step` +
          `   ${missed.length === 0 ? 'reached' : `MISSED: ${missed.join(', ')}`}`,
      );
    });
    return reached;
  },
};
