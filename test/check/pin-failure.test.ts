// pin-failure: tells a colleague what was asked, how far it got, which check refused with which numbers, what would pass.
import { describe, expect, it } from 'vitest';
import { findingsOf, resultOf } from '../support/scenario.ts';

const head = (memlock: string, size = '32KiB', more = ''): string => `title: T
kernel: v6.1.192
host: {memory: {normal: 64MiB}, memlock: ${memlock}}
memory:
  ram: {kind: anon, size: ${size}, populate: write}
processes: {vmm: {uid: 1000, maps: {ram: {}}}}
devices: {nic: {process: vmm, attach: vfio-type1}}
actors:
  vmm:
${more}`;

const finding = (text: string) => resultOf(text).findings.map((one) => one.finding)[0]!;

describe('pin-failure', () => {
  it('is not reported of a mapping that fits', () => {
    expect(findingsOf(`${head('32KiB')}    - vfio.map: {device: nic, iova: 0, memory: ram}\n`)).toEqual([]);
  });

  it('says what is charged apart from what this call will charge', () => {
    const { reasons, details } = finding(`${head('16KiB')}    - vfio.map: {device: nic, iova: 0, memory: ram}\n`);
    expect(reasons.at(-1)).toBe(
      'vfio_pin_pages_remote: locked_vm of mm vmm is 0 bytes (0 pages), plus 16384 bytes (4 pages) pending in this call, ' +
        'and 4096 bytes (1 page) more would exceed RLIMIT_MEMLOCK, 16384 bytes (4 pages)',
    );
    expect(details).toMatchObject({ 'charged-bytes': 0, 'pending-bytes': 16384, 'needed-bytes': 32768 });
  });

  it('counts the pages of the mapping, not those of one GUP batch', () => {
    const hole = '    - munmap: {memory: ram, offset: 16KiB, length: 4KiB}\n';
    const { reasons, details } = finding(
      `${head('unlimited', '32KiB', hole)}    - vfio.map: {device: nic, iova: 0, memory: ram}\n`,
    );
    expect(details['failed-page']).toBe(4);
    expect(reasons.join('\n')).toMatch(/mapped 0 of 8 pages|mapped 4 of 8 pages/);
    expect(reasons.join('\n')).toMatch(/vaddr_get_pfns: page 4 of the mapping, at 0x/);
  });

  it('gives ranges with an exclusive end', () => {
    const map = '    - vfio.map: {device: nic, iova: 0, memory: ram}\n';
    const { message, reasons } = finding(head('unlimited', '64KiB', map + map));
    expect(reasons.join('\n')).toContain('overlaps the mapping 0x0..0x10000');
    const [, from, to] = /of (0x[0-9a-f]+)\.\.(0x[0-9a-f]+) fails/.exec(message)!;
    expect(Number(to) - Number(from)).toBe(65536);
  });

  it('tells who charged what another request needed, and who only looked only beside that', () => {
    const map = (page: number): string =>
      `    - vfio.map: {device: nic, iova: ${page * 4096}, memory: ram, offset: ${page * 4096}, length: 4KiB}\n`;
    const labels = (text: string): readonly string[] => finding(text).steps.map(({ label }) => label);
    const second = labels(head('4KiB', '8KiB', map(0) + map(1)));
    expect(second).toContain('mm_lock_acct:account');
    expect(second.filter((label, i) => label === second[i + 1])).toEqual([]);
    expect(labels(`${head('4KiB', '8KiB')}    - vfio.map: {device: nic, iova: 0, memory: ram}\n`)).toEqual([]);
  });
});
