// What a worker sends back. Errors lose their class on the way between threads, so those that concern the user travel
// as data.
import { type Diagnostic, ScenarioError } from '../../scenario/file/diagnostic.ts';
import type { BenchTask, FuzzBench, ReplayResult } from '../../scenario/search/fuzz-bench.ts';
import type { UnitResult } from '../../scenario/search/fuzz-result.ts';
import type { Absent, SearchFinding } from '../../scenario/search/result.ts';

export type Answer =
  | { readonly kind: 'unit'; readonly result: UnitResult }
  | { readonly kind: 'replay'; readonly result: ReplayResult }
  | { readonly kind: 'tell'; readonly result: SearchFinding }
  | { readonly kind: 'absence'; readonly result: Pick<Absent, 'token' | 'shrunk'> | undefined }
  /** The scenario is at fault: its world cannot be built. */
  | { readonly kind: 'mistake'; readonly diagnostics: readonly Diagnostic[] }
  /** A token cannot be replayed. */
  | { readonly kind: 'broken'; readonly why: string };

/** Do a task. Throws what is nobody's fault but ours. */
export function answer(bench: FuzzBench, task: BenchTask): Answer {
  try {
    switch (task.kind) {
      case 'unit':
        return { kind: 'unit', result: bench.unit(task) };
      case 'replay':
        return { kind: 'replay', result: bench.replay(task) };
      case 'tell':
        return { kind: 'tell', result: bench.tell(task) };
      case 'absence':
        return { kind: 'absence', result: bench.absence(task) };
    }
  } catch (error) {
    if (task.kind === 'replay') return { kind: 'broken', why: (error as Error).message };
    if (error instanceof ScenarioError) return { kind: 'mistake', diagnostics: error.diagnostics };
    throw error;
  }
}
