// The world outside the program: where it writes, what the environment says. Tests hand in their own.

export interface Sink {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

export interface Io {
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Folder that relative paths start from. */
  readonly cwd: string;
  /** Call `handler` the first time that the user asks to stop; the function returned ends that. Absent: nobody can. */
  readonly onInterrupt?: (handler: () => void) => () => void;
}

/** Those of this process. */
export function processIo(): Io {
  const { stdout, stderr, env } = process;
  return { stdout, stderr, env, cwd: process.cwd(), onInterrupt };
}

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

function onInterrupt(handler: () => void): () => void {
  for (const signal of SIGNALS) process.once(signal, handler);
  return () => {
    for (const signal of SIGNALS) process.off(signal, handler);
  };
}
