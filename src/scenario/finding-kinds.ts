// The kinds of findings in words: what each says, and what to look at. `pinsim explain` and the schema show them.

export interface FindingKind {
  readonly name: string;
  readonly summary: string;
  readonly explanation: string;
}

export const FINDING_KINDS: readonly FindingKind[] = [
  {
    name: 'pin-failure',
    summary: 'A request to pin or map memory was refused.',
    explanation:
      'Somebody asked for a long-term pin or a DMA mapping and got an errno. The finding names who asked, for which ' +
      'range, how far it got, the check that refused with its numbers, and what would have passed (for RLIMIT_MEMLOCK: ' +
      'the limit that would have sufficed; bytes charged are told apart from unique pages, since some users of pins ' +
      'charge a page once per mapping).',
  },
  {
    name: 'stale-mapping',
    summary: 'A translation still leads to a frame that was freed or changed owner.',
    explanation:
      'An IO page table, a stage-2 table, a TLB or a cached kernel mapping reaches a frame of an earlier generation. ' +
      '"used" means that somebody accessed memory through it; "latent" that nobody has yet. The finding names who ' +
      'freed the frame and when, the entry through which it was reached (IOVA or gfn, and its table), and who made it.',
  },
  {
    name: 'incoherent-mapping',
    summary: 'Two views that should show the same memory reach different frames.',
    explanation:
      'The VMM believes that an IOVA, a guest physical address and one of its own addresses are the same byte, and ' +
      'they are not: a pin kept the old page for one of them while another got a new one (MADV_DONTNEED, COW after a ' +
      'fork or a read-only pin, hole punch, migration).',
  },
  {
    name: 'use-after-free',
    summary: 'Memory or a kernel object was accessed after it was freed.',
    explanation:
      'Every frame and every freed kernel object carries a generation; an access with an older one is a use after ' +
      'free. The finding shows the free, the reuse if any, and the access, in order.',
  },
  {
    name: 'refcount-leak',
    summary: 'At the end somebody still holds a reference that nobody will drop.',
    explanation:
      'After the last actor has ended and deferred frees have run, a folio or an object still has references without ' +
      'an owner: the memory can never be freed or migrated. Pages that a driver holds for a process (gup.pin, gup.get) ' +
      'are in use while the process lives; they are leaked when it has exited, or when they were taken more often under ' +
      'one name than given back. What the close of a descriptor gives back (VFIO, io_uring) is no leak.',
  },
  {
    name: 'refcount-underflow',
    summary: 'More references were dropped than taken.',
    explanation: 'A reference count or a pin count went below zero, or below what its owners hold.',
  },
  {
    name: 'refcount-overflow',
    summary: 'A reference or pin count left the range that it can represent.',
    explanation:
      'Small folios count a pin as 1024 references (GUP_PIN_COUNTING_BIAS), so counts overflow long before memory ends.',
  },
  {
    name: 'accounting-drift',
    summary: 'What is charged differs from what is held.',
    explanation:
      'locked_vm, pinned_vm or user->locked_vm disagrees with the pins that its owner has: a later request fails for ' +
      'no reason, or passes beyond the limit.',
  },
  {
    name: 'dirty-loss',
    summary: 'A write is missing from the dirty information.',
    explanation:
      'Memory was written, and neither the page, the dirty bitmap nor the log says so: writeback or migration of the ' +
      'guest will lose the write.',
  },
  {
    name: 'data-corruption',
    summary: 'Somebody read what nobody should have seen there.',
    explanation:
      'Content tokens follow every write. A read returned an older write than the last one, zeroes where data was, or ' +
      'data of somebody else; or a write was lost on its way to disk or swap.',
  },
  {
    name: 'isolation-breach',
    summary: 'An actor reached memory that it has no right to.',
    explanation:
      'A device, guest or process read or wrote a frame whose owner never gave it to them, or wrote through a mapping ' +
      'that should have been read-only.',
  },
  {
    name: 'deadlock',
    summary: 'Actors wait for each other.',
    explanation: 'Nobody can go on. The finding prints the cycle of waiters: who waits for what, and who holds it.',
  },
  {
    name: 'livelock',
    summary: 'Everybody runs and nothing gets done.',
    explanation: 'The state repeats although every actor that could step did: a fair cycle.',
  },
  {
    name: 'oom-kill',
    summary: 'Memory ran out, and the OOM killer killed a process.',
    explanation:
      'An allocation reclaimed until nothing more could be, and the process with the most memory, in use or in swap, got ' +
      'SIGKILL for it; oom_score_adj shifts that. The finding names the victim, with what it had, and who asked. What is ' +
      'pinned stays until the descriptors of the victim are closed, so that more than one may die.',
  },
  {
    name: 'unexpected-outcome',
    summary: 'An operation of the script ended in a way that the scenario does not allow.',
    explanation:
      'An inline expectation (`expect`, `returns`, `shows`) does not hold in some interleaving. `pinsim run` lists such ' +
      'expectations as failed; a search reports them as findings, with the schedule that breaks them.',
  },
  {
    name: 'model-bug',
    summary: 'The simulator contradicts itself.',
    explanation: 'An assertion of the model failed. This is a defect of pinsim: please report it with the replay line.',
  },
];

export const FINDING_NAMES: readonly string[] = FINDING_KINDS.map((kind) => kind.name);
