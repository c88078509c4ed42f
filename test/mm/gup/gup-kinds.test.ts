// What pin_user_pages_remote says of every kind of memory, for short and long pins, reading and writing.
import { describe, expect, it } from 'vitest';
import { call, type Steps } from '../../../src/engine/process.ts';
import { type GupResult, pinUserPages, pinUserPagesRemote } from '../../../src/mm/gup/gup.ts';
import { pinUserPagesFast } from '../../../src/mm/gup/gup-fast.ts';
import { unpinUserPages } from '../../../src/mm/gup/unpin.ts';
import { PG_ANON } from '../../../src/mm/page-flags.ts';
import { type Kind, makeKind } from '../../support/kinds.ts';
import { type Lab, RECORDED } from '../../support/lab.ts';

type How = 'short R' | 'short W' | 'LT R' | 'LT W';
const HOWS: readonly How[] = ['short R', 'short W', 'LT R', 'LT W'];

const ok = [8, 8, 8, 8] as const;
const huge = [512, 512, 512, 512] as const;
const EFAULT = ['EFAULT', 'EFAULT', 'EFAULT', 'EFAULT'] as const;
const READ_ONLY = [8, 'EFAULT', 8, 'EFAULT'] as const;

/** 6.12.117, then 6.1.192 where it differs: pages pinned, or the errno. */
const TABLE: readonly (readonly [Kind, readonly (number | string)[], (readonly (number | string)[])?])[] = [
  ['anon_rw_untouched', ok],
  ['anon_rw_touched', ok],
  ['anon_rw_zeropage', ok],
  ['anon_ro_untouched', READ_ONLY],
  ['anon_ro_after_write', READ_ONLY],
  ['anon_wo', ['EFAULT', 8, 'EFAULT', 8]],
  ['anon_thp', huge],
  ['anon_thp_untouched', huge],
  ['hugetlb_2m', huge],
  ['memfd_hugetlb', huge],
  ['anon_mlocked', ok],
  ['swapped_out', ok],
  ['shared_anon', ok],
  ['sysv_shm', ok],
  ['dev_zero_private', ok],
  ['memfd_shared_rw', ok],
  ['memfd_shared_ro', READ_ONLY],
  ['memfd_write_sealed_ro', READ_ONLY],
  ['memfd_private_rw', ok],
  ['memfd_private_ro', READ_ONLY],
  ['ext4_shared_rw', [8, 8, 8, 'EFAULT'], ok],
  ['ext4_shared_ro', READ_ONLY],
  ['ext4_private_rw', ok],
  ['ext4_private_ro', READ_ONLY],
  ['ext4_shared_rw_past_eof', [1, 1, 1, 'EFAULT'], [1, 1, 1, 1]],
  ['fsdax_shared_rw', [8, 8, 'EOPNOTSUPP', 'EOPNOTSUPP']],
  ['fsdax_private_rw_touched', [8, 8, 'EOPNOTSUPP', 'EOPNOTSUPP']],
  ['memfd_secret', EFAULT],
  ['prot_none', EFAULT],
  ['prot_none_after_touch', EFAULT],
  ['hole', EFAULT],
  ['half_ro', [8, 4, 8, 4]],
  ['pfnmap_bar', EFAULT],
  ['uffd_missing', EFAULT],
  ['uffd_wp', ok],
  ['anon_after_fork_cow', ok],
];

function* remote(lab: Lab, how: How): Steps<GupResult> {
  yield* call(lab.mm.mmapLock.read());
  const request = { owner: 'test', write: how.endsWith('W'), longterm: how.startsWith('LT') };
  const result = yield* call(pinUserPagesRemote(lab.core, lab.mm, lab.vpn, lab.pages, request));
  yield lab.mm.mmapLock.up();
  return result;
}

describe.each(RECORDED)('a remote pin on %s', (kernel) => {
  for (const [kind, modern, old] of TABLE) {
    const expected = kernel === 'v6.1.192' ? (old ?? modern) : modern;
    for (const [i, how] of HOWS.entries()) {
      it(`${how} of ${kind}: ${expected[i]}`, () => {
        const lab = makeKind(kind, { kernel });
        const result = lab.do(() => remote(lab, how));
        expect(result.errno ?? result.pinned).toBe(expected[i]);
        if (result.pinned < lab.pages) expect(result.reason?.remedy).toMatch(/\w/);
        // What an unpin gives back is what was taken.
        const { vmstat } = lab.core;
        lab.do(() => unpinUserPages(lab.core, result.runs, { owner: 'test' }));
        expect(vmstat.peek('nr_foll_pin_released')).toBe(vmstat.peek('nr_foll_pin_acquired'));
      });
    }
  }
});

describe('a read-only long-term pin of memory that a write would copy', () => {
  it.each(['anon_rw_zeropage', 'anon_rw_untouched', 'memfd_private_rw', 'ext4_private_rw'] as const)(
    'of %s keeps seeing what the CPU writes later on 6.12, and does not on 6.1',
    (kind) => {
      for (const [kernel, reliable] of [
        ['v6.12.117', true],
        ['v6.1.192', false],
      ] as const) {
        const lab = makeKind(kind, { kernel });
        expect(lab.pin(false)).toBe('ok');
        expect(lab.core.folios.has(lab.f0, PG_ANON)).toBe(reliable);
        lab.write('new');
        expect(lab.deviceRead() === 'new').toBe(reliable);
      }
    },
  );

  it('takes the zero page uncounted on 6.1', () => {
    const lab = makeKind('anon_rw_zeropage', { kernel: 'v6.1.192' });
    expect(lab.pin(false)).toBe('ok');
    expect(lab.pinned).toEqual(Array.from({ length: 8 }, () => ({ pfn: lab.core.zeroPfn, pages: 1 })));
    expect(lab.refcount()).toBe(1);
    expect(lab.core.vmstat.peek('nr_foll_pin_acquired')).toBe(0);
  });

  it('failed on the zero page in 6.1.130, whose backport took "not counted" for "failed"', () => {
    const lab = makeKind('anon_rw_zeropage', { kernel: 'v6.1.130' });
    expect(lab.pin(false)).toBe('ENOMEM');
  });

  it('counted 1024 references for every pin of the zero page before 6.1.130', () => {
    const lab = makeKind('anon_rw_zeropage', { kernel: 'v6.1' });
    expect(lab.pin(false)).toBe('ok');
    expect(lab.refcount()).toBe(1 + 8 * 1024);
  });
});

describe('GUP-fast, which knows no mappings', () => {
  it('accepts copied pages of a private DAX mapping that GUP-slow refuses', () => {
    const lab = makeKind('fsdax_private_rw_touched');
    const request = { owner: 'test', write: true, longterm: true };
    expect(lab.do(() => pinUserPagesFast(lab.core, lab.vpn, 8, request)).pinned).toBe(8);
  });

  it('lets the handler of userfaultfd answer in its fallback since 6.3, and cannot wait before', () => {
    for (const [kernel, expected] of [
      ['v6.12.117', 8],
      ['v6.1.192', 'EFAULT'],
    ] as const) {
      const lab = makeKind('uffd_missing', { kernel });
      const request = { owner: 'test', write: true, longterm: true };
      const result = lab.do(() => pinUserPagesFast(lab.core, lab.vpn, 8, request));
      expect(result.errno ?? result.pinned).toBe(expected);
    }
  });

  it('takes a pin of a secret page for a moment and gives it back', () => {
    const lab = makeKind('memfd_secret');
    const before = lab.refcount(lab.pfn());
    const request = { owner: 'test', write: true, longterm: true };
    expect(lab.do(() => pinUserPagesFast(lab.core, lab.vpn, 8, request)).errno).toBe('EFAULT');
    expect(lab.core.vmstat.peek('nr_foll_pin_acquired')).toBe(1);
    expect(lab.refcount(lab.pfn())).toBe(before);
  });

  it('pinned a secret page that still waited in a per-CPU batch before 6.1.85', () => {
    const lab = makeKind('memfd_secret', { kernel: 'v6.1.84' });
    const result = lab.do(() => pinUserPagesFast(lab.core, lab.vpn, 1, { owner: 'test', write: true }));
    expect(result.pinned).toBe(1);
  });
});

describe('the reason of a refusal', () => {
  it('leads from the call down to the check, and says what would pass', () => {
    const lab = makeKind('ext4_shared_rw');
    const result = lab.do(() => remote(lab, 'LT W'));
    expect(result.reason?.reasons).toEqual([
      expect.stringMatching(
        /^pin_user_pages_remote\(0x[0-9a-f]+, 8 pages, FOLL_PIN\|FOLL_WRITE\|FOLL_LONGTERM\) of vmm$/,
      ),
      expect.stringMatching(/^__get_user_pages: page 0 of 8, at 0x[0-9a-f]+$/),
      expect.stringContaining('writable_file_mapping_allowed: FOLL_WRITE|FOLL_LONGTERM'),
    ]);
    expect(result.reason?.remedy).toContain('a read-only pin');
  });

  it('keeps the errno that the kernel loses when some pages were pinned', () => {
    const lab = makeKind('half_ro');
    const result = lab.do(() => remote(lab, 'LT W'));
    expect(result.errno).toBeUndefined();
    expect(result.reason?.errno).toBe('EFAULT');
    expect(result.reason?.details['failed-page']).toBe(4);
  });

  it('of an absent page under FOLL_NOFAULT is that it is absent', () => {
    const lab = makeKind('anon_rw_untouched');
    const result = lab.do(function* () {
      yield* call(lab.mm.mmapLock.read());
      const pinned = yield* call(pinUserPages(lab.core, lab.vpn, 1, { owner: 'test', write: true, nofault: true }));
      yield lab.mm.mmapLock.up();
      return pinned;
    });
    expect(result).toMatchObject({ errno: 'EFAULT' });
    expect(result.reason?.reasons.at(-1)).toContain('FOLL_NOFAULT');
  });
});
