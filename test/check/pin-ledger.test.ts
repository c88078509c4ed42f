// The books of who holds which pages: what a folio was when it was pinned decides, not what its frames are by now.
import { expect, it } from 'vitest';
import { PinLedger } from '../../src/check/pin-ledger.ts';
import { PIN_DROPPED, PIN_TAKEN } from '../../src/mm/ledger.ts';
import { makeWorld } from '../support/world.ts';

const HEAD = 1024;
const RUNS = [{ pfn: HEAD, pages: 512 }];

it('pins of a huge page are off the books with the put that frees it', () => {
  const { sim, core } = makeWorld();
  const ledger = new PinLedger(sim, core);
  const pins = () => [HEAD, HEAD + 1, HEAD + 511].map((pfn) => ledger.livePins(pfn));
  core.folios.order.set(HEAD, 9);
  sim.emit(PIN_TAKEN, { runs: RUNS, owner: 'x', mm: 'app', vpn: 0, longterm: false, write: true });
  expect(pins()).toEqual([512, 0, 0]);
  expect(ledger.unpinnedUntil(HEAD - 8, HEAD + 511)).toBe(HEAD);
  // unpin_user_pages tells when its last put has freed the folio, and somebody may have the frames already.
  core.folios.order.set(HEAD, 0);
  sim.emit(PIN_TAKEN, {
    runs: [{ pfn: HEAD + 1, pages: 1 }],
    owner: 'y',
    mm: 'app',
    vpn: 0,
    longterm: false,
    write: true,
  });
  sim.emit(PIN_DROPPED, { runs: RUNS, owner: 'x', dirty: false });
  expect(pins()).toEqual([0, 1, 0]);
});
