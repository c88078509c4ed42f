// Operations on memory at large, as users write them: compaction, memory blocks.
import { describe, expect, it } from 'vitest';
import { failures } from './failures.ts';

describe('compact_memory', () => {
  it('is counted in vmstat', () => {
    const text = `
title: one page and room above it
kernel: v6.12
host: {memory: {normal: 16MiB}, thp: never}
processes: {vmm: {}}
actors:
  vmm:
    - mmap: {name: ram, size: 4KiB}
    - touch: {memory: ram}
    - lru_add_drain: {}
    - compact_memory: {}
    - vmstat: {}
      shows: {pgmigrate_success: 1, pgmigrate_fail: 0, compact_success: 1}
`;
    expect(failures(text)).toEqual([]);
  });
});
