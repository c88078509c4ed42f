// userfaultfd through the operations of scenario files: what may be registered, who resolves faults, and the errnos.
import { describe, expect, it } from 'vitest';
import { findingsOf } from '../../support/scenario.ts';

const scenario = (script: string, { kernel = 'v6.1.192', memory = '', more = '' } = {}): string => `title: T
kernel: ${kernel}
host: {memory: {normal: 64MiB}, memlock: unlimited}
memory:
  anon: {kind: anon, size: 16KiB}
  memfd: {kind: shmem, size: 16KiB}
  file: {kind: file, fs: ext4, size: 16KiB}
${memory}
processes: {p: {maps: {anon: {}, memfd: {}, file: {}}}}
actors:
  p:
${script}${more}`;
const steps = (...lines: string[]): string => lines.map((line) => `    - ${line}\n`).join('');

/** Everything went as the script says, and nobody found anything. */
function passes(text: string): void {
  expect(findingsOf(text)).toEqual([]);
}

const register = (memory: string, mode: string, more = '') =>
  `uffd.register: {memory: ${memory}, mode: ${mode}${more}}`;

describe('UFFDIO_REGISTER', () => {
  it('is for anonymous memory and shmem, not for files of a disk', () => {
    passes(
      scenario(
        steps(register('anon', 'missing'), register('memfd', 'missing')) +
          `    - ${register('file', 'missing')}\n      expect: EINVAL\n`,
      ),
    );
  });

  it('splits an area: the rest faults as ever', () => {
    passes(
      scenario(
        `${steps(
          'uffd.register: {memory: anon, offset: 4KiB, length: 4KiB, mode: missing, fill: F}',
          'cpu.read: {memory: anon, length: 12KiB}',
        ).trimEnd()}\n      shows: {value: 'zero F zero'}\n`,
      ),
    );
  });

  it('is EBUSY for a second userfaultfd, and changes the modes for the same', () => {
    passes(
      scenario(
        steps(register('anon', 'missing')) +
          `    - ${register('anon', 'missing', ', uffd: other')}\n      expect: EBUSY\n` +
          steps(register('anon', '[missing, wp]')),
      ),
    );
  });

  it('knows each mode from its release on', () => {
    const refused = (kernel: string, memory: string, mode: string) =>
      passes(scenario(`    - ${register(memory, mode)}\n      expect: EINVAL\n`, { kernel }));
    const taken = (kernel: string, memory: string, mode: string) =>
      passes(scenario(steps(register(memory, mode)), { kernel }));
    refused('v5.4', 'anon', 'wp');
    taken('v5.10', 'anon', 'wp');
    refused('v5.15', 'memfd', 'wp');
    taken('v6.1', 'memfd', 'wp');
    refused('v5.10', 'memfd', 'minor');
    taken('v5.15', 'memfd', 'minor');
    refused('v6.1', 'anon', 'minor');
  });
});

describe('a userfault', () => {
  it('waits until an actor fills the page in', () => {
    passes(
      scenario(`${steps(register('anon', 'missing'))}    - cpu.read: {memory: anon}\n      shows: {value: Z}\n`, {
        more: `  handler:
    on: p
    do:
      - sleep: 1ms
      - uffd.copy: {memory: anon, length: 4KiB, value: Z}
        returns: 0
      - uffd.copy: {memory: anon, length: 4KiB, value: Y}
        expect: EEXIST
`,
      }),
    );
  });

  it('that nobody answers is a deadlock that says who waits for what', () => {
    const text = scenario(steps(register('anon', 'missing'), 'cpu.read: {memory: anon}'));
    expect(findingsOf(text)).toEqual(['deadlock']);
  });

  it('goes on when the area is unregistered', () => {
    passes(
      scenario(`${steps(register('anon', 'missing'))}    - cpu.read: {memory: anon}\n      shows: {value: zero}\n`, {
        more: `  handler:
    on: p
    do:
      - sleep: 1ms
      - uffd.unregister: {memory: anon}
`,
      }),
    );
  });

  it('of an absent page and of a write can be had together', () => {
    passes(
      scenario(
        steps(
          register('anon', '[missing, wp]', ', fill: F'),
          'cpu.read: {memory: anon}',
          'uffd.writeprotect: {memory: anon, length: 4KiB}',
          'pagemap: {memory: anon}',
        ).trimEnd() +
          '\n      shows: {uffd_wp: true}\n' +
          steps('cpu.write: {memory: anon, value: W}', 'pagemap: {memory: anon}').trimEnd() +
          '\n      shows: {uffd_wp: false}\n',
      ),
    );
  });
});

describe('UFFDIO_CONTINUE', () => {
  it('maps what the file has, and nothing that it has not', () => {
    passes(
      scenario(
        steps('file.write: {memory: memfd, value: M}', register('memfd', 'minor')) +
          '    - uffd.continue: {memory: memfd, length: 4KiB}\n      returns: 0\n' +
          '    - cpu.read: {memory: memfd}\n      shows: {value: M}\n' +
          '    - uffd.continue: {memory: memfd, offset: 4KiB, length: 4KiB}\n      expect: EFAULT\n' +
          '    - uffd.continue: {memory: anon, length: 4KiB}\n      expect: ENOENT\n',
      ),
    );
  });
});

describe('a range that leaves its area', () => {
  const split = steps(
    register('anon', '[missing, wp]', ', length: 8KiB'),
    register('anon', 'missing', ', offset: 8KiB'),
  );

  it('is ENOENT for UFFDIO_COPY and UFFDIO_ZEROPAGE, which fill in nothing', () => {
    passes(
      scenario(
        `${split}    - uffd.copy: {memory: anon, value: C}\n      expect: ENOENT\n      shows: {pages: 0}\n` +
          '    - uffd.zeropage: {memory: anon, offset: 4KiB, length: 8KiB}\n      expect: ENOENT\n' +
          '    - uffd.copy: {memory: anon, offset: 8KiB, value: D}\n      returns: 0\n      shows: {pages: 2}\n',
      ),
    );
  });

  it('stops UFFDIO_WRITEPROTECT before it began, or since 6.4 where the next area is not registered for it', () => {
    const protect = (kernel: string, protectedFirst: boolean) =>
      passes(
        scenario(
          steps('cpu.write: {memory: anon, length: 16KiB}') +
            `${split}    - uffd.writeprotect: {memory: anon}\n      expect: ENOENT\n` +
            `    - pagemap: {memory: anon}\n      shows: {uffd_wp: ${protectedFirst}}\n`,
          { kernel },
        ),
      );
    protect('v6.1', false);
    protect('v6.12', true);
  });

  it('is no obstacle to UFFDIO_WRITEPROTECT since 6.4, nor are holes', () => {
    const twice = (kernel: string, outcome: string) =>
      passes(
        scenario(
          `${steps(
            register('anon', 'wp'),
            'munmap: {memory: anon, offset: 4KiB, length: 4KiB}',
            'uffd.writeprotect: {memory: anon}',
          ).trimEnd()}\n      expect: ${outcome}\n`,
          { kernel },
        ),
      );
    twice('v6.1', 'ENOENT');
    twice('v6.12', 'ok');
  });
});

describe('without CONFIG_USERFAULTFD', () => {
  it('there is no system call, and no descriptor for an ioctl', () => {
    const without = scenario(
      `    - ${register('anon', 'missing')}\n      expect: ENOSYS\n` +
        '    - uffd.copy: {memory: anon, value: C}\n      expect: EBADF\n' +
        '    - uffd.writeprotect: {memory: anon}\n      expect: EBADF\n' +
        '    - cpu.read: {memory: anon}\n      shows: {value: zero}\n',
    ).replace('memlock: unlimited', 'memlock: unlimited, config: {USERFAULTFD: n}');
    passes(without);
  });
});
