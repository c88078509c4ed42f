// A thread of the pool: loads the model once and does what it is sent. Started by its URL, so the build makes it a file
// of its own.
import { workerData } from 'node:worker_threads';
import { OPERATIONS } from '../../scenario/operations/index.ts';
import { type BenchSettings, type BenchTask, FuzzBench } from '../../scenario/search/fuzz-bench.ts';
import { answer } from './answer.ts';

const bench = new FuzzBench(workerData as BenchSettings, OPERATIONS);

export default (task: BenchTask) => answer(bench, task);
