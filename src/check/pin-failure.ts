// pin-failure: somebody asked for a pin or a DMA mapping and was refused. The chain of checks comes from the refusal.
import { errnoNumber } from '../mm/errno.ts';
import { PIN_REFUSED } from '../mm/ledger.ts';
import { type Checker, reportFinding } from './checker.ts';

export const pinFailure: Checker = {
  name: 'pin-failure',
  kind: 'step',
  attach(context) {
    context.sim.on(PIN_REFUSED, (refused) => {
      const range = `0x${(refused.vpn * 4096).toString(16)}..0x${((refused.vpn + refused.pages) * 4096).toString(16)}`;
      reportFinding(context, {
        kind: 'pin-failure',
        message: `${refused.who} of ${range} fails with ${refused.errno} (-${errnoNumber(refused.errno)})`,
        reasons: refused.reasons,
        objects: [refused.who],
        about: refused.about ?? [],
        details: { errno: refused.errno, 'size-bytes': refused.pages * 4096, ...refused.details },
        remedy: refused.remedy,
        objectClass: `${refused.errno} ${refused.reasons[refused.reasons.length - 1] ?? ''}`,
        labels: [refused.who],
      });
    });
  },
};
