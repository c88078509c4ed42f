// oom-kill: memory ran out and somebody was killed for it, who need not be the one that asked. What a kernel log says.
import { OOM_KILL } from '../mm/alloc/oom-kill.ts';
import { type Checker, reportFinding } from './checker.ts';

export const oomKill: Checker = {
  name: 'oom-kill',
  kind: 'step',
  attach(context) {
    context.sim.on(OOM_KILL, ({ asker, victim, residentPages, swapPages, points }) => {
      const name = victim?.name ?? 'nobody';
      reportFinding(context, {
        kind: 'oom-kill',
        message:
          victim === null
            ? `${asker} finds no memory, and there is nobody to kill for it`
            : `out of memory: ${name} is killed, because ${asker} finds none`,
        reasons: [
          `${asker} has reclaimed until nothing more could be`,
          ...(victim === null ? [] : [`oom_badness of ${name} is the highest: ${points} pages`]),
        ],
        objects: [name],
        details: {
          victim: name,
          asker,
          'resident-bytes': residentPages * 4096,
          'swap-bytes': swapPages * 4096,
        },
        remedy: 'more memory or swap, or less that is pinned, locked or in use',
        objectClass: name,
      });
    });
  },
};
