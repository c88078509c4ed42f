// The table of a counterexample: a column per actor, time downwards, switches marked, within the width of the terminal.
import { describe, expect, it } from 'vitest';
import { NO_PAINT } from '../../src/report/paint.ts';
import { fixInWords, renderNearest, renderStory, shrinkInWords } from '../../src/report/story.ts';
import type { Fix, Story } from '../../src/scenario/search/result.ts';

const story: Story = {
  actors: ['driver', 'parent'],
  rows: [
    {
      step: 10,
      actor: 'parent',
      label: 'copy_present_pte:test',
      operation: 'fork',
      line: 30,
      changed: ['refcount of pfn 5: 2 -> 3'],
      notes: ['sees refcount of pfn 5, which step 16 changes'],
    },
    {
      step: 16,
      actor: 'driver',
      label: 'try_grab_folio_fast:pin',
      operation: 'gup.pin',
      line: 25,
      changed: ['refcount of pfn 5: 3 -> 1027'],
      notes: ['after parent has looked (step 10)'],
    },
    { step: 20, actor: 'parent', label: 'wrprotect', operation: 'fork', line: 30, changed: [], notes: [] },
  ],
  switches: [{ after: 10, actor: 'parent', before: 'folio_try_dup_anon_rmap_pte', to: 'driver' }],
  steps: 75,
  shownAt: 20,
};

const text = (lines: readonly string[]): string => `${lines.join('\n')}\n`;

describe('the table of a counterexample', () => {
  it('has a column per actor, and marks switches', () => {
    expect(text(renderStory(story, NO_PAINT, 72))).toBe(`\
step  driver                            parent
  10                                    copy_present_pte:test
                                          in fork, line 30
                                          refcount of pfn 5: 2 -> 3
                                          sees refcount of pfn 5, which
                                          step 16 changes
------ parent is stopped before folio_try_dup_anon_rmap_pte, driver goes
       on --------------------------------------------------------------
  16  try_grab_folio_fast:pin
        in gup.pin, line 25
        refcount of pfn 5: 3 -> 1027
        after parent has looked (step
        10)
  20                                    wrprotect
      shown at step 20; 72 steps of 75 left out (replay --trace)
`);
  });

  it('becomes a list where columns would be too narrow', () => {
    const narrow = renderStory(story, NO_PAINT, 46);
    expect(narrow[0]).toBe('step  actor   what it does');
    expect(narrow).toContain('  16  driver  try_grab_folio_fast:pin');
    expect(narrow).toContain('                sees refcount of pfn 5, which');
  });

  it('keeps to its width, labels and names of any length included', () => {
    const long = 'very_long_function_name_of_a_driver:and_what_it_does_there_in_so_many_words';
    const rows = story.rows.map((row) => ({ ...row, label: long, changed: [`${long}_${long}: 1 -> 2`] }));
    for (const width of [60, 72, 100, 160])
      for (const line of renderStory({ ...story, rows }, NO_PAINT, width))
        expect(line.length, line).toBeLessThanOrEqual(width);
  });

  it('paints only on request, and measures without colours', () => {
    const mark = (tag: string) => (part: string) => `<${tag}>${part}</${tag}>`;
    const paint = { good: mark('g'), bad: mark('b'), warn: mark('w'), strong: mark('s'), faint: mark('f') };
    const painted = text(renderStory(story, paint, 72));
    expect(painted.replace(/<\/?[gbwsf]>/g, '')).toBe(text(renderStory(story, NO_PAINT, 72)));
  });
});

describe('the nearest interleaving that passes', () => {
  const passing: Story = { ...story, rows: [story.rows[0]!, story.rows[2]!], switches: [] };
  const nearest = { change: 'parent is not stopped', token: 't', differsAt: 11, failing: story, passing };

  it('stands beside the failing one, with the first difference marked in both', () => {
    const lines = renderNearest(nearest, NO_PAINT, 110);
    expect(lines[0]).toContain('the nearest interleaving that passes: parent is not stopped; they differ from step 11');
    const marked = lines.filter((line) => line.includes('>> '));
    expect(marked).toHaveLength(2);
    expect(marked[0]!.indexOf('>> driver: try_grab_folio_fast:pin')).toBeLessThan(55);
    for (const line of lines) expect(line.length, line).toBeLessThanOrEqual(110);
  });

  it('stands below it where there is no room', () => {
    const lines = renderNearest(nearest, NO_PAINT, 70);
    expect(lines.indexOf('fails:')).toBeLessThan(lines.indexOf('passes:'));
  });
});

describe('in words', () => {
  it('a fix says what it does at which step, and how far it was searched', () => {
    const fix: Fix = {
      behaviour: 'a.b',
      summary: 'It looks.',
      step: 16,
      row: story.rows[1]!,
      instead: { actor: 'driver', label: 'gup_put_folio' },
      searched: 'all 59 interleavings',
    };
    expect(fixInWords(fix)).toBe(
      'instead of step 16 (driver: try_grab_folio_fast:pin) driver does gup_put_folio; without the finding in all 59 interleavings',
    );
    expect(fixInWords({ ...fix, step: 14 })).toContain('from step 14 on, before row 16 (driver: try_grab');
  });

  it('shrinking says what went, and whether more could', () => {
    const before = { actors: 3, scriptSteps: 9, steps: 90, preemptions: 4 };
    const after = { actors: 2, scriptSteps: 3, steps: 40, preemptions: 1 };
    const report = { before, after, executions: 120, minimal: true, omitted: ['guest', 'vmm:madvise#2'] };
    expect(shrinkInWords(report)).toBe(
      'from 3 actors, 9 script steps, 4 preemptions, 90 steps to 2 actors, 3 script steps, 1 preemption, 40 steps; no more can go; left out: guest, vmm:madvise#2',
    );
    expect(shrinkInWords({ ...report, minimal: false })).toContain('; the budget ended (--shrink gives more)');
    expect(shrinkInWords({ ...report, after: before, omitted: [] })).toMatch(/^nothing could go: 3 actors/);
  });
});
