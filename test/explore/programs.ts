// The programs of the literature that partial-order reduction is compared on, every shared access one step.
import type { Program } from '../../src/explore/program.ts';

export type Make = (n: number) => (sim: Program) => void;

/** One writer of x; n readers of a private cell and then x. */
export const readers: Make = (n) => (sim) => {
  const x = sim.cell('x', 0);
  sim.spawn('writer', function* () {
    yield x.willWrite();
    x.value = 42;
  });
  for (let i = 0; i < n; i++) {
    const own = sim.cell(`own${i}`, 0);
    sim.spawn(`reader${i}`, function* () {
      yield own.willRead();
      yield x.willRead();
    });
  }
};

/** Flanagan and Godefroid's file system: 32 inodes, 26 blocks, one lock each. */
export const filesystem =
  (threads: number, inodes = 32, blocks = 26) =>
  (sim: Program): void => {
    const inodeLocks = Array.from({ length: inodes }, (_, i) => sim.mutex(`inode lock ${i}`));
    const blockLocks = Array.from({ length: blocks }, (_, i) => sim.mutex(`block lock ${i}`));
    const inode = Array.from({ length: inodes }, (_, i) => sim.cell(`inode ${i}`, 0));
    const busy = Array.from({ length: blocks }, (_, i) => sim.cell(`busy ${i}`, false));
    for (let t = 0; t < threads; t++) {
      sim.spawn(`t${t}`, function* () {
        const i = t % inodes;
        yield inodeLocks[i]!.lock();
        yield inode[i]!.willRead();
        if (inode[i]!.value === 0) {
          let b = (2 * i) % blocks;
          for (;;) {
            yield blockLocks[b]!.lock();
            yield busy[b]!.willRead();
            if (!busy[b]!.value) {
              yield busy[b]!.willWrite();
              busy[b]!.value = true;
              yield inode[i]!.willWrite();
              inode[i]!.value = b + 1;
              yield blockLocks[b]!.unlock();
              break;
            }
            yield blockLocks[b]!.unlock();
            b = (b + 1) % blocks;
          }
        }
        yield inodeLocks[i]!.unlock();
      });
    }
  };

/** Threads put four messages each into a hash table of 128 slots by compare-and-swap. */
export const indexer: Make = (n) => (sim) => {
  const table = Array.from({ length: 128 }, (_, i) => sim.cell(`slot ${i}`, 0));
  for (let t = 0; t < n; t++) {
    sim.spawn(`t${t}`, function* () {
      for (let m = 1; m <= 4; m++) {
        const w = 11 * m + t;
        for (let h = (7 * w) % 128; ; h = (h + 1) % 128) {
          const slot = table[h]!;
          yield slot.willUpdate();
          if (slot.value !== 0) continue;
          slot.value = w;
          break;
        }
      }
    });
  }
};

/** n writers of x; main joins all, then reads x. */
export const lastwrite: Make = (n) => (sim) => {
  const x = sim.cell('x', 0);
  const writers = Array.from({ length: n }, (_, i) =>
    sim.spawn(`w${i}`, function* () {
      yield x.willWrite();
      x.value = i;
    }),
  );
  sim.spawn('main', function* () {
    for (const writer of writers) yield sim.join(writer);
    yield x.willRead();
  });
};

/** n fetch-adds on x. */
export const ainc: Make = (n) => (sim) => {
  const x = sim.cell('x', 0);
  for (let i = 0; i < n; i++) {
    sim.spawn(`t${i}`, function* () {
      yield x.willUpdate();
      x.value += 1;
    });
  }
};

/** n threads, each a fetch-add on x and then on y. */
export const binc: Make = (n) => (sim) => {
  const x = sim.cell('x', 0);
  const y = sim.cell('y', 0);
  for (let i = 0; i < n; i++) {
    sim.spawn(`t${i}`, function* () {
      yield x.willUpdate();
      x.value += 1;
      yield y.willUpdate();
      y.value += 1;
    });
  }
};

export const lockinc: Make = (n) => (sim) => {
  const m = sim.mutex('m');
  const x = sim.cell('x', 0);
  for (let i = 0; i < n; i++) {
    sim.spawn(`t${i}`, function* () {
      yield m.lock();
      yield x.willRead();
      const v = x.value;
      yield x.willWrite();
      x.value = v + 1;
      yield m.unlock();
    });
  }
};

function compareAndSwap(sim: Program, name: string, x: ReturnType<Program['cell']>, from: number, to: number): void {
  sim.spawn(name, function* () {
    yield x.willUpdate();
    if (x.value === from) x.value = to;
  });
}

export const cas: Make = (n) => (sim) => {
  const x = sim.cell<unknown>('x', 0);
  for (let i = 0; i < n; i++) compareAndSwap(sim, `t${i}`, x, 0, 1);
};

/** Thread i swaps i-1 for i. */
export const casrot: Make = (n) => (sim) => {
  const x = sim.cell<unknown>('x', 0);
  for (let i = 1; i <= n; i++) compareAndSwap(sim, `t${i}`, x, i - 1, i);
};

/** One writer x=2; n threads swap 2 for 3. */
export const wcas: Make = (n) => (sim) => {
  const x = sim.cell<unknown>('x', 0);
  sim.spawn('writer', function* () {
    yield x.willWrite();
    x.value = 2;
  });
  for (let i = 0; i < n; i++) compareAndSwap(sim, `t${i}`, x, 2, 3);
};

function fibonacci(sim: Program, n: number): { i: ReturnType<Program['cell']>; j: ReturnType<Program['cell']> } {
  const i = sim.cell('i', 1);
  const j = sim.cell('j', 1);
  for (const [name, mine, other] of [
    ['t1', i, j],
    ['t2', j, i],
  ] as const) {
    sim.spawn(name, function* () {
      for (let k = 0; k < n; k++) {
        yield mine.willRead();
        const a = mine.value;
        yield other.willRead();
        const b = other.value;
        yield mine.willWrite();
        mine.value = a + b;
      }
    });
  }
  return { i: i as ReturnType<Program['cell']>, j: j as ReturnType<Program['cell']> };
}

/** Two threads sum crosswise, while main reads i, then j. */
export const fib: Make = (n) => (sim) => {
  const { i, j } = fibonacci(sim, n);
  sim.spawn('main', function* () {
    yield i.willRead();
    yield j.willRead();
  });
};

export const fib2: Make = (n) => (sim) => {
  fibonacci(sim, n);
};

/** Two threads, up to n times: x=id; y=1; if x is still id, read y and leave. */
export const optlock: Make = (n) => (sim) => {
  const x = sim.cell('x', 0);
  const y = sim.cell('y', 0);
  for (const id of [0, 1]) {
    sim.spawn(`t${id}`, function* () {
      for (let k = 0; k < n; k++) {
        yield x.willWrite();
        x.value = id;
        yield y.willWrite();
        y.value = 1;
        yield x.willRead();
        if (x.value !== id) continue;
        yield y.willRead();
        break;
      }
    });
  }
};

/** Main counts up an index and starts n threads that each take the next. */
export const sigma: Make = (n) => (sim) => {
  const ix = sim.cell('ix', -1);
  const arr = Array.from({ length: n }, (_, i) => sim.cell(`arr${i}`, 0));
  sim.spawn('main', function* () {
    const threads = [];
    for (let k = 0; k < n; k++) {
      yield ix.willRead();
      const v = ix.value;
      yield ix.willWrite();
      ix.value = v + 1;
      threads.push(
        sim.spawn('thread', function* () {
          yield ix.willRead();
          const at = ix.value;
          yield arr[at]!.willWrite();
          arr[at]!.value = 1;
        }),
      );
    }
    for (const thread of threads) yield sim.join(thread);
  });
};

export const expbug: Make = (n) => (sim) => {
  const m = sim.mutex('m');
  const x = sim.cell('x', 0);
  const y = sim.cell('y', 0);
  sim.spawn('t1', function* () {
    for (let round = 0; round < 2; round++) {
      yield m.lock();
      yield x.willWrite();
      x.value = 1;
      for (let k = 0; k < n; k++) {
        yield y.willWrite();
        y.value = 1;
      }
      yield m.unlock();
    }
  });
  sim.spawn('t2', function* () {
    for (let round = 0; round < 2; round++) {
      yield m.lock();
      yield x.willWrite();
      x.value = 0;
      yield m.unlock();
      yield x.willRead();
      if (x.value <= 0) continue;
      yield y.willRead();
      const v = y.value;
      yield y.willWrite();
      y.value = v + 1;
      yield x.willWrite();
      x.value = 2;
    }
  });
  sim.spawn('t3', function* () {
    for (let round = 0; round < 2; round++) {
      yield x.willRead();
      if (x.value <= 1) continue;
      yield y.willRead();
      if (y.value === 3) return;
      yield y.willWrite();
      y.value = 2;
    }
  });
};

/** Litmus shapes: threads of `Wx` (write) and `Rx` (read). */
export const litmus =
  (...threads: readonly string[]) =>
  (sim: Program): void => {
    const cells = new Map<string, ReturnType<Program['cell']>>();
    for (const name of new Set(threads.join(' ').match(/[a-z]/g))) cells.set(name, sim.cell<unknown>(name, 0));
    threads.forEach((thread, t) => {
      sim.spawn(`t${t}`, function* () {
        for (const access of thread.split(' ')) {
          const cell = cells.get(access[1]!)!;
          if (access[0] === 'R') {
            yield cell.willRead();
            continue;
          }
          yield cell.willWrite();
          cell.value = t + 1;
        }
      });
    });
  };
