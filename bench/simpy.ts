// SimPy beside the engine: the same programs as Python processes, in a Python of their own, when one can import simpy.
import { spawnSync } from 'node:child_process';

const HOLD = `
import simpy, sys, time, random
pending, holds = int(sys.argv[1]), int(sys.argv[2])
random.seed(1)
delays = [round(random.expovariate(0.001)) for _ in range(4096)]
env = simpy.Environment()
count = 0
def actor(env):
    global count
    while True:
        yield env.timeout(delays[count & 4095])
        count += 1
for _ in range(pending):
    env.process(actor(env))
best = float('inf')
for _ in range(3):
    while count < pending:
        env.step()
    count = 0
    start = time.perf_counter_ns()
    while count < holds:
        env.step()
    best = min(best, (time.perf_counter_ns() - start) / holds)
print(best)
`;

const PING_PONG = `
import simpy, sys, time
rounds = int(sys.argv[1])
env = simpy.Environment()
turns = [env.event(), env.event()]
moves = 0
def player(env, me):
    global moves
    while True:
        yield turns[me]
        turns[me] = env.event()
        moves += 1
        turns[1 - me].succeed()
for me in (0, 1):
    env.process(player(env, me))
turns[0].succeed()
best = float('inf')
for _ in range(3):
    moves = 0
    start = time.perf_counter_ns()
    while moves < rounds:
        env.step()
    best = min(best, (time.perf_counter_ns() - start) / moves)
print(best)
`;

const PYTHONS = ['python3', '/usr/bin/python3'];
let python: string | null | undefined;

/** A Python that can import simpy; a Python of one's own often hides the distribution's. */
function pythonWithSimpy(): string | null {
  if (python === undefined) {
    python = PYTHONS.find((name) => spawnSync(name, ['-c', 'import simpy'], { stdio: 'ignore' }).status === 0) ?? null;
  }
  return python;
}

function run(program: string, args: readonly number[]): number | null {
  const name = pythonWithSimpy();
  if (name === null) return null;
  const child = spawnSync(name, ['-c', program, ...args.map(String)], { encoding: 'utf8' });
  const ns = Number.parseFloat(child.stdout);
  if (child.status !== 0 || !(ns > 0)) throw new Error(`SimPy failed: ${child.stderr}`);
  return ns;
}

/** Nanoseconds of one hold with `pending` events, best of three; null without SimPy. */
export function simpyHold(pending: number): number | null {
  return run(HOLD, [pending, 100_000]);
}

/** Nanoseconds of one move of two processes that wake each other; null without SimPy. */
export function simpyPingPong(): number | null {
  return run(PING_PONG, [100_000]);
}
