// accounting-drift: what is charged differs from what is held. An account below zero is seen at once; charges of owners
// that are gone, and charges on an account that no longer answers for their owner, are seen at the end.
import { type Checker, reportFinding } from './checker.ts';
import type { PinLedger } from './pin-ledger.ts';

export function accountingDrift(ledger: PinLedger): Checker {
  return {
    name: 'accounting-drift',
    kind: 'end',
    attach(context) {
      ledger.onNegative = (account, total, owner) => {
        reportFinding(context, {
          kind: 'accounting-drift',
          message: `${account} falls to ${total} pages when ${owner} gives back what was never charged there`,
          objects: [account, owner],
          details: { account, 'drift-bytes': total * 4096, owner },
          objectClass: 'negative',
        });
      };
    },
    atEnd(context) {
      for (const { line, home, gone } of ledger.strayCharges()) {
        const pages = `${Math.abs(line.pages)} page${Math.abs(line.pages) === 1 ? '' : 's'}`;
        reportFinding(context, {
          kind: 'accounting-drift',
          message: gone
            ? `${line.owner} is gone, and ${pages} ${Math.abs(line.pages) === 1 ? 'stays' : 'stay'} ${line.pages > 0 ? 'charged to' : 'missing from'} ${line.account}`
            : `${pages} of ${line.owner} are charged to ${line.account}, though ${home} answers for them now`,
          objects: [line.account, line.owner],
          details: { account: line.account, owner: line.owner, 'drift-bytes': line.pages * 4096 },
          objectClass: gone ? 'left over' : 'wrong account',
          labels: [line.owner],
        });
      }
    },
  };
}
