// Reports as a person reads them, to the letter.
import { describe, expect, it } from 'vitest';
import { renderScenario, renderTally, renderTraceLine } from '../../src/report/text.ts';
import { formatCount, formatTime, wrap } from '../../src/report/value.ts';
import { tallyOf } from '../../src/scenario/result.ts';
import { caseResult, pinFailure, scenarioResult, where } from './sample.ts';

describe('a report', () => {
  it('is one line per case when all is as expected', () => {
    const result = scenarioResult(caseResult(), caseResult({ name: 'v6.12.117', findings: [] }));
    expect(renderScenario(result)).toBe(
      [
        'q35.yaml  q35 guest and a limit of 97 %',
        '  v5.15      as expected  pin-failure  45.7ms, 1,234,567 steps',
        '  v6.12.117  as expected  no findings  45.7ms, 1,234,567 steps',
        '',
      ].join('\n'),
    );
  });

  it('explains a finding: what, why, the steps, what would have been enough, how to see it again', () => {
    const result = scenarioResult(
      caseResult({
        status: 'not-as-expected',
        findings: [
          {
            finding: pinFailure,
            expected: 'no',
            replay: 'pinsim run q35.yaml --kernel v5.15 --seed 1',
            preventedBy: [{ behaviour: 'type1.x', summary: 'charges a page once.' }],
          },
        ],
      }),
    );
    expect(renderScenario(result, { width: 84 })).toBe(
      `q35.yaml  q35 guest and a limit of 97 %
  v5.15  NOT AS EXPECTED  pin-failure  45.7ms, 1,234,567 steps

    pin-failure
      qemu could not map 2 GiB at IOVA 0x100000000: -ENOMEM after 95 % of it.

      why       vfio_pin_pages_remote() refused the next page
                because locked_vm 1023822 + 1 exceeds RLIMIT_MEMLOCK 1023822 pages

      facts     errno ENOMEM, iova 0x100000000, short-by 101392384

      #    time  actor  step                         what happened
      1  1.20us  qemu   vfio_dma_do_map:enter
      2  45.7ms  qemu   vfio_pin_pages_remote:limit  refused page 498512 of 524288

      to pass   a limit of 4295098368 bytes
      prevented by type1.x: charges a page once.
      replay    pinsim run q35.yaml --kernel v5.15 --seed 1

`,
    );
  });

  it('explains expected findings when asked to', () => {
    expect(renderScenario(scenarioResult(caseResult()), { verbose: true })).toContain('pin-failure (expected: always)');
    expect(renderScenario(scenarioResult(caseResult()))).not.toContain('because');
  });

  it('points at expectations that failed, findings that are missing and labels that nobody reached', () => {
    const text = renderScenario(
      scenarioResult(
        caseResult({
          status: 'not-as-expected',
          findings: [],
          failed: [
            { where: { ...where, line: 11 }, actor: 'qemu', operation: 'vfio.map', message: 'expected ok, got ENOMEM' },
          ],
          missingFindings: [{ what: 'pin-failure (errno: ENOMEM)', where }],
          missingLabels: [{ what: 'gup_fast:recheck-pte', where }],
        }),
      ),
    );
    expect(text.split('\n').slice(2, 6)).toEqual([
      '    q35.yaml:11:3: failed: qemu, vfio.map: expected ok, got ENOMEM',
      '    q35.yaml:14:3: missing: expected the finding pin-failure (errno: ENOMEM)',
      '    q35.yaml:14:3: missing: nobody reached gup_fast:recheck-pte',
      '    in this order of the steps; `pinsim explore` tells whether any order reaches it',
    ]);
  });

  it('says which limit a run reached', () => {
    const text = renderScenario(
      scenarioResult(caseResult({ status: 'incomplete', limit: '1,000,000 steps', findings: [] })),
    );
    expect(text).toContain('INCOMPLETE');
    expect(text).toContain('    stopped early: 1,000,000 steps\n');
  });

  it('counts equal findings', () => {
    const [one] = caseResult().findings;
    expect(renderScenario(scenarioResult(caseResult({ findings: [one!, one!, one!] })))).toContain(
      '  pin-failure x3  ',
    );
  });

  it('keeps the last steps of a long story', () => {
    const steps = Array.from({ length: 50 }, (_, i) => ({ actor: 'a', label: `step-${i + 1}`, timeNs: 0 }));
    const finding = { ...pinFailure, steps };
    const text = renderScenario(
      scenarioResult(caseResult({ findings: [{ finding, expected: 'no', replay: 'r', preventedBy: [] }] })),
    );
    expect(text).toContain('(10 earlier steps left out; --format json has all)');
    expect(text).not.toContain('step-10 ');
    expect(text).toMatch(/ 11 +a +step-11\n/);
    expect(text).toMatch(/ 50 +a +step-50\n/);
  });

  it('uses colours only through the paint it is given', () => {
    const mark = (name: string) => (text: string) => `<${name}>${text}</${name}>`;
    const paint = { good: mark('good'), bad: mark('bad'), warn: mark('warn'), strong: mark('b'), faint: mark('i') };
    expect(renderScenario(scenarioResult(caseResult({ findings: [] })), { paint })).toBe(
      '<b>q35.yaml</b>  q35 guest and a limit of 97 %\n' +
        '  v5.15  <good>as expected</good>  no findings  <i>45.7ms, 1,234,567 steps</i>\n',
    );
  });
});

describe('a tally', () => {
  it('names only what happened', () => {
    const results = [scenarioResult(caseResult()), scenarioResult(caseResult({ status: 'not-as-expected' }))];
    expect(renderTally(tallyOf(results))).toBe('2 scenarios, 2 cases: 1 as expected, 1 not as expected\n');
    expect(renderTally(tallyOf([scenarioResult(caseResult())]))).toBe('1 scenario, 1 case: 1 as expected\n');
    expect(renderTally(tallyOf([scenarioResult(caseResult({ status: 'incomplete' }))]))).toBe(
      '1 scenario, 1 case: 0 as expected, 1 incomplete\n',
    );
  });
});

describe('a trace line', () => {
  it('has time, actor, label and what changed', () => {
    expect(renderTraceLine({ timeNs: 1200, actor: 'vmm', label: 'f:x', changed: 'a=1' })).toBe(
      '   1.20us  vmm         f:x  a=1\n',
    );
  });
});

describe('values', () => {
  it.each([
    [0, '0ns'],
    [999, '999ns'],
    [1000, '1.00us'],
    [12345, '12.3us'],
    [123456, '123us'],
    [1e9, '1.00s'],
    [123456e6, '123s'],
  ])('%i ns is %s', (ns, text) => {
    expect(formatTime(ns)).toBe(text);
  });

  it('group thousands', () => {
    expect([0, 999, 1000, 1234567].map(formatCount)).toEqual(['0', '999', '1,000', '1,234,567']);
  });

  it('wrap at spaces and keep long words', () => {
    expect(wrap('aa bb cc', 5)).toEqual(['aa bb', 'cc']);
    expect(wrap('aaaaaaaaaa b', 5)).toEqual(['aaaaaaaaaa', 'b']);
  });
});
