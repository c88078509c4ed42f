// What happens to processes: signals, limits and their permissions, the OOM killer, names of mappings that move.
import { describe, expect, it } from 'vitest';
import { everyOrder, failures } from './failures.ts';

describe('kill', () => {
  it('ends the process: its scripts stop, it exits, and who waits for it goes on', () => {
    const text = `
title: a process that works is killed
kernel: v6.12
memory: {ram: {kind: anon, size: 64KiB}}
processes: {worker: {maps: {ram: {}}}, other: {}}
actors:
  worker:
    - repeat: {times: 1000, do: [{cpu.write: {memory: ram}, expect: [ok, SIGKILL]}, {sleep: 1ms}]}
    - cpu.write: {memory: ram}
      expect: SIGBUS
  sleeper: {on: worker, do: [{wait: never}]}
  never: {on: other, do: [{wait: worker}]}
  other:
    - sleep: 20ms
    - kill: {process: worker}
    - wait: [worker, sleeper, never]
`;
    expect(failures(text)).toEqual([]);
  });

  it('reaches a child while it works', () => {
    const text = `
title: a child that works is killed
kernel: v6.12
processes: {vmm: {}}
actors:
  vmm:
    - fork: {as: child, child: [{sleep: 1s}, {cpu.read: {at: 0}}]}
    - kill: {process: child}
    - waitpid: {process: child}
    - waitpid: {process: child}
      expect: ECHILD
`;
    expect(failures(text)).toEqual([]);
  });

  it('is for the same user or CAP_KILL, waiting for the parent', () => {
    const text = `
title: permissions
kernel: v6.12
processes:
  victim: {uid: 1}
  stranger: {uid: 2}
  capable: {uid: 3, capabilities: [CAP_KILL]}
actors:
  stranger:
    - kill: {process: victim}
      expect: EPERM
    - waitpid: {process: victim}
      expect: ECHILD
  capable:
    - wait: stranger
    - kill: {process: victim}
`;
    expect(failures(text)).toEqual([]);
  });
});

describe('exit', () => {
  const threads = (worker: string) => `
title: one thread exits while another works
kernel: v6.12
memory: {ram: {kind: shmem, size: 64KiB}}
processes: {vmm: {maps: {ram: {}}}, other: {maps: {ram: {}}}}
actors:
  vmm:
    - sleep: 20ms
    - exit: {}
      as: exit
  worker: {on: vmm, do: [${worker}]}
  other:
    - wait: {actor: vmm, step: exit}
    - wait: worker
`;

  it('ends the scripts of the other threads', () => {
    const work = '{repeat: {times: 1000, do: [{cpu.write: {memory: ram}}, {sleep: 1ms}]}}';
    expect(failures(threads(`${work}, {cpu.write: {memory: ram}, expect: SIGBUS}`))).toEqual([]);
  });

  it('waits for nothing but them, and ends a script that waits', () => {
    expect(failures(threads('{wait: other}'))).toEqual([]);
  });

  it('of the only thread ends its script there', () => {
    const text = `
title: one thread
kernel: v6.12
processes: {vmm: {}}
actors:
  vmm:
    - choose: [[{exit: {}}], [{exit: {}}]]
    - cpu.read: {at: 0}
      expect: ok
`;
    expect(failures(text)).toEqual([]);
  });
});

describe('exec by one of several threads', () => {
  const threads = (...actors: readonly string[]) => `
title: one thread execs while another works
kernel: v6.12
memory: {ram: {kind: shmem, size: 16KiB}}
processes: {vmm: {maps: {ram: {}}}, other: {}}
actors:
  ${actors.join('\n  ')}
`;
  const exec = 'vmm: [{exec: {}}, {mmap: {memory: ram, name: again}}, {touch: {memory: again}}]';

  it('ends the others, wherever they are, and goes on', () => {
    const second = 'second: {on: vmm, do: [{wait: vmm}, {cpu.write: {memory: ram}, expect: SIGBUS}]}';
    const work = '{repeat: {times: 1000, do: [{cpu.write: {memory: ram}, expect: [ok, SIGKILL]}, {sleep: 1ms}]}}';
    const third = `third: {on: vmm, do: [${work}, {cpu.write: {memory: ram}, expect: SIGBUS}]}`;
    expect(failures(threads(exec, second, third))).toEqual([]);
  });

  it('lets only one of them do it', () => {
    const text = threads(
      'vmm: [{exec: {}, expect: [ok, SIGKILL]}, {cpu.write: {at: 0x10000}, expect: SIGSEGV}]',
      'second: {on: vmm, do: [{exec: {}, expect: [ok, SIGKILL]}, {cpu.write: {at: 0x10000}, expect: SIGSEGV}]}',
    );
    expect(failures(text)).toEqual([]);
    expect(everyOrder(text)).toEqual([]);
  });

  it('is not undone by a thread that exits meanwhile, and does not outlive SIGKILL', () => {
    const second = 'second: {on: vmm, do: [{touch: {memory: ram}, expect: [ok, SIGKILL]}, {exit: {}}]}';
    const killed = exec
      .replace('{}}', '{}, expect: [ok, SIGKILL]}')
      .replace('again}}]', 'again}, expect: [ok, SIGKILL]}]');
    const kill = 'other: [{kill: {process: vmm}}]';
    const third = 'third: {on: vmm, do: [{wait: last}]}';
    const last = 'last: {on: other, do: [{wait: vmm}]}';
    expect(everyOrder(threads(killed, second, third, kill, last))).toEqual([]);
  });
});

describe('a step after exit', () => {
  const script = (steps: string) => `title: x\nkernel: v6.12\nprocesses: {vmm: {}}\nactors: {vmm: [${steps}]}\n`;

  it('is a mistake, as it can never run', () => {
    expect(() => failures(script('{exit: {}}, {sleep: 1ms}'))).toThrow(
      'test.yaml:4:28: error: nothing is done after `exit`',
    );
  });

  it('is none after a choice, or a repetition, of which it may be part', () => {
    expect(failures(script('{choose: [[{exit: {}}], []]}, {sleep: 1ms}'))).toEqual([]);
  });
});

describe('RLIMIT_MEMLOCK', () => {
  it('goes up to its hard limit, and the hard limit down only, without CAP_SYS_RESOURCE', () => {
    const text = `
title: limits
kernel: v6.12
processes:
  a: {uid: 1, memlock: 1MiB, memlock_hard: 4MiB}
  b: {uid: 2, capabilities: [CAP_SYS_RESOURCE]}
  c: {uid: 3}
actors:
  a:
    - mmap: {name: m, size: 2MiB}
    - mlock: {memory: m}
      expect: ENOMEM
    - setrlimit: {memlock: 4MiB}
    - mlock: {memory: m}
    - setrlimit: {memlock: 5MiB}
      expect: EPERM
    - setrlimit: {memlock: 2MiB, memlock_hard: 1MiB}
      expect: EINVAL
    - setrlimit: {memlock: 2MiB, memlock_hard: 2MiB}
    - setrlimit: {memlock: 4MiB}
      expect: EPERM
  b:
    - wait: a
    - setrlimit: {process: a, memlock: unlimited}
  c:
    - wait: b
    - setrlimit: {process: a, memlock: 1MiB}
      expect: EPERM
`;
    expect(failures(text)).toEqual([]);
  });
});

describe('mmap_min_addr', () => {
  it('keeps the lowest 64 KiB for CAP_SYS_RAWIO', () => {
    const text = `
title: low addresses
kernel: v6.12
processes: {user: {uid: 1}, root: {}}
actors:
  user:
    - mmap: {name: low, size: 4KiB, at: 0x1000}
      expect: EPERM
    - mmap: {name: first, size: 4KiB, at: 0x10000}
    - mmap: {name: hinted, size: 4KiB, hint: 0x1000}
      shows: {address: {at-least: 0x11000}}
    - mremap: {memory: first, to: 0xf000}
      expect: EPERM
  root:
    - mmap: {name: low, size: 4KiB, at: 0x1000}
`;
    expect(failures(text)).toEqual([]);
  });
});

describe('the name of a mapping that mremap moves', () => {
  it('goes with the whole of it; a part gets a name of its own, and the old one stays', () => {
    const text = `
title: names
kernel: v6.12
processes: {vmm: {}}
actors:
  vmm:
    - mmap: {name: s, size: 128KiB}
    - touch: {memory: s, value: A}
    - mremap: {memory: s, offset: 64KiB, length: 64KiB, to: 0x10000000, name: part}
    - cpu.read: {memory: part, offset: 60KiB}
      shows: {value: A}
    - munmap: {memory: s, length: 64KiB}
    - cpu.read: {memory: s}
      expect: SIGSEGV
    - cpu.read: {memory: part}
      shows: {value: A}
    - mremap: {memory: part, to: 0x20000000}
    - cpu.read: {memory: part}
      shows: {value: A}
    - cpu.read: {at: 0x20000000}
      shows: {value: A}
    - mremap: {memory: part, dontunmap: true, name: there}
    - cpu.read: {memory: part}
      shows: {value: zero}
    - cpu.read: {memory: there}
      shows: {value: A}
    - mremap: {memory: there, new_size: 128KiB, may_move: true}
    - cpu.read: {memory: there, offset: 124KiB}
      shows: {value: zero}
`;
    expect(failures(text)).toEqual([]);
  });
});

describe('the OOM killer', () => {
  it('kills who has most memory, not who asks for a little', () => {
    const text = `
title: a hog and a bystander
kernel: v6.12
host: {memory: {normal: 16MiB}, thp: never}
memory: {much: {kind: anon, size: 32MiB}, little: {kind: anon, size: 256KiB}}
processes: {hog: {maps: {much: {}}}, bystander: {maps: {little: {}}}}
actors:
  hog:
    - touch: {memory: much}
      expect: SIGKILL
    - touch: {memory: much}
  bystander:
    - repeat: {times: 20, do: [{touch: {memory: little}}, {madvise: {memory: little, advice: DONTNEED}}, {sleep: 1ms}]}
    - wait: hog
    - vmstat: {}
      shows: {oom_kill: 1}
expect: {always: [{kind: oom-kill, victim: hog}]}
`;
    expect(failures(text)).toEqual([]);
  });

  it('is not called as long as there is swap, for shared memory as well', () => {
    const text = `
title: a memfd larger than memory
kernel: v6.1
host: {memory: {normal: 6MiB}, swap: 16MiB, thp: never}
memory: {ram: {kind: shmem, size: 3MiB}}
processes: {vmm: {maps: {ram: {}}}}
actors:
  vmm:
    - touch: {memory: ram, value: A}
    - touch: {memory: ram, read: true}
      shows: {value: A}
    - vmstat: {}
      shows: {oom_kill: 0, pswpout: {at-least: 256}}
`;
    expect(failures(text)).toEqual([]);
  });
});
