// The model against the recorded kernels: every case agrees, or stands in the ledger with its verdict and a reason. The
// recorded data lie beside the checkout and are no part of it; without them there is nothing to compare.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { judge, type Recorded } from './compare.ts';
import { differences, failures, leftovers, readLedger, updated } from './ledger.ts';
import { kernelsOf, profileOf, readCases, replay } from './replay.ts';
import type { Emitted } from './session.ts';

const RECORDED = fileURLToPath(new URL('../../../shared/reality', import.meta.url));
const LEDGER = readLedger(fileURLToPath(new URL('ledger.json', import.meta.url)));
const present = existsSync(RECORDED);
const CASES = present ? readCases(RECORDED) : [];
const LIMIT_MS = 120_000;

describe('the model against recorded kernels', () => {
  if (!present) {
    const message = 'is not compared: there are no recorded cases in ../shared/reality beside the checkout';
    process.stderr.write(`The model ${message}\n`);
    it.skip(message, () => {});
  }
  for (const kernel of kernelsOf(CASES)) {
    it(
      `of ${kernel} (${profileOf(kernel)}) agrees in every case that the ledger does not list, and in no other`,
      () => {
        const judged = replay(
          kernel,
          CASES.filter((one) => one.kernel === kernel),
        );
        expect(differences(LEDGER, kernel, judged)).toEqual([]);
        expect(leftovers(LEDGER, kernel, judged)).toEqual([]);
      },
      LIMIT_MS,
    );
  }
});

describe('a verdict', () => {
  const recorded: Recorded = {
    case: 'type1/map/ok',
    kernel: '6.12.117-pinlab',
    args: { flags: 3 },
    ret: 0,
    errno: null,
    observed: { vmlck_kb_delta: 4, map_us: 17 },
  };
  const model: Emitted = { ...recorded, observed: { vmlck_kb_delta: 4, more: true } };

  it('is agree when every recorded field is met, timings aside', () => {
    expect(judge(recorded, model)).toMatchObject({ verdict: 'agree', reasons: [] });
  });

  it('is wrong when one differs, and names it', () => {
    const wrong = judge(recorded, { ...model, observed: {}, ret: -1, errno: 'EFAULT' });
    expect(wrong).toMatchObject({ verdict: 'wrong', inErrno: true });
    expect(judge(recorded, { ...model, observed: {} })).toMatchObject({ verdict: 'wrong', inErrno: false });
    expect(wrong.reasons.map((reason) => reason.split(':')[0])).toEqual(['ret', 'errno', 'vmlck_kb_delta']);
  });

  it('is unsupported when the program says that the case cannot be compared', () => {
    expect(judge(recorded, { ...model, unsupported: 'luck' })).toMatchObject({ verdict: 'unsupported' });
    expect(judge(recorded, { verdict: 'unsupported', reason: 'no program' }).reasons).toEqual(['no program']);
  });
});

describe('the ledger', () => {
  const ledger = {
    families: [{ family: 'iommufd', verdict: 'unsupported', reason: 'later' }],
    cases: [{ case: 'pins/a', kernels: ['k'], verdict: 'wrong', reason: 'known' }],
  } as const;
  const judged = (key: string, verdict: 'agree' | 'wrong' | 'unsupported') => ({
    key,
    family: '',
    verdict,
    inErrno: false,
    reasons: ['because'],
  });

  it('is content when what it lists still differs and all else agrees', () => {
    const verdicts = [judged('pins/a', 'wrong'), judged('pins/b', 'agree'), judged('iommufd/x', 'unsupported')];
    expect(differences(ledger, 'k', verdicts)).toEqual([]);
    expect(leftovers(ledger, 'k', verdicts)).toEqual([]);
  });

  it('complains of a case that stops agreeing', () => {
    expect(differences(ledger, 'k', [judged('pins/b', 'wrong')])).toEqual(['pins/b is wrong: because']);
    expect(differences(ledger, 'other', [judged('pins/a', 'wrong')])).toHaveLength(1);
  });

  it('complains of a listed case that agrees, alone or in a family', () => {
    const verdicts = [judged('pins/a', 'agree'), judged('iommufd/x', 'agree')];
    expect(differences(ledger, 'k', verdicts)).toEqual([
      'pins/a agrees now: strike it from the ledger',
      'iommufd/x agrees now: strike it from the ledger',
    ]);
  });

  it('lets a run over other cases fail for those alone that are wrong and not listed so', () => {
    const verdicts = [
      judged('pins/a', 'wrong'),
      judged('pins/b', 'unsupported'),
      judged('iommufd/x', 'agree'),
      judged('iommufd/y', 'wrong'),
    ];
    expect(failures(ledger, 'k', verdicts, false)).toEqual([
      'iommufd/y is wrong, the ledger says unsupported: because',
    ]);
    expect(failures(ledger, 'other', verdicts, false)).toHaveLength(2);
    expect(failures(ledger, 'k', verdicts, true)).toHaveLength(3);
  });

  it('is updated: what agrees goes, what differs comes with how, known reasons stay', () => {
    const verdicts = [judged('pins/a', 'wrong'), judged('pins/b', 'wrong'), judged('iommufd/x', 'unsupported')];
    const now = updated(ledger, [
      { kernel: 'k', judged: verdicts },
      { kernel: 'l', judged: [judged('pins/b', 'wrong')] },
    ]);
    expect(now.cases).toEqual([
      { case: 'pins/a', kernels: ['k'], verdict: 'wrong', reason: 'known' },
      { case: 'pins/b', kernels: ['k', 'l'], verdict: 'wrong', reason: 'because' },
    ]);
    expect(updated(ledger, [{ kernel: 'k', judged: [judged('pins/a', 'agree')] }]).cases).toEqual([]);
    expect(updated(ledger, [])).toEqual(ledger);
    expect(updated(ledger, [{ kernel: 'k', judged: [judged('iommufd/x', 'agree')] }]).families).toEqual([]);
  });

  it('complains of another verdict than the listed one, and of cases that nobody recorded', () => {
    expect(differences(ledger, 'k', [judged('pins/a', 'unsupported')])).toHaveLength(1);
    expect(leftovers(ledger, 'k', [])).toEqual(['pins/a is listed, but was not recorded on k']);
  });
});
