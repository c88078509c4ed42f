// What runs have covered, as sets of 32-bit features: steps by label, and pairs of dependent steps of different actors
// (the second used what the first had left). Only guidance and figures come from it, never a verdict.
import { hashText, mix } from '../engine/hash.ts';
import type { Process } from '../engine/process.ts';
import { ADD, DID_WRITE, READ, type Step } from '../engine/step.ts';

const LABEL = 0x6c61626c;
const PAIR = 0x70616972;

/** Who last wrote and read an object in the present run: hash of the label, and slot. */
interface Touch {
  run: number;
  writer: number;
  writerSlot: number;
  reader: number;
  readerSlot: number;
}

/** A feature from what kind of thing it is and two hashes. */
export function featureOf(kind: number, first: number, second = 0): number {
  return mix(mix(kind, first), second);
}

export class StepCoverage {
  private readonly features = new Set<number>();
  private readonly hashes = new Map<Step, number>();
  private readonly touches = new Map<number, Touch>();
  private run = 0;

  /** A new execution: nobody has touched anything. */
  newExecution(): void {
    this.run++;
  }

  /** `process` has acted. */
  stepActed(process: Process): void {
    const { acted } = process;
    const label = this.labelHash(acted.step);
    for (let i = 0; i < acted.count; i++) {
      const kind = acted.kind[i]!;
      if (kind === ADD) continue;
      // A range counts as its first object: enough to tell that two steps met.
      const touch = this.touch(acted.lo[i]!);
      const wrote = kind !== READ && (acted.did[i] === 0 || (acted.did[i]! & DID_WRITE) !== 0);
      if (touch.writerSlot >= 0 && touch.writerSlot !== process.slot) this.pair(touch.writer, label);
      if (!wrote) {
        touch.reader = label;
        touch.readerSlot = process.slot;
        continue;
      }
      if (touch.readerSlot >= 0 && touch.readerSlot !== process.slot) this.pair(touch.reader, label);
      touch.writer = label;
      touch.writerSlot = process.slot;
      touch.readerSlot = -1;
    }
  }

  private pair(before: number, after: number): void {
    this.features.add(featureOf(PAIR, before, after));
  }

  private labelHash(step: Step): number {
    let hash = this.hashes.get(step);
    if (hash === undefined) {
      hash = hashText(step.label);
      this.hashes.set(step, hash);
      this.features.add(featureOf(LABEL, hash));
    }
    return hash;
  }

  private touch(id: number): Touch {
    let touch = this.touches.get(id);
    if (touch === undefined) {
      touch = { run: this.run, writer: 0, writerSlot: -1, reader: 0, readerSlot: -1 };
      this.touches.set(id, touch);
    } else if (touch.run !== this.run) {
      touch.run = this.run;
      touch.writerSlot = -1;
      touch.readerSlot = -1;
    }
    return touch;
  }

  /** What was seen since the last call: features, ascending, and the labels acted. */
  take(): { readonly features: Uint32Array; readonly labels: readonly string[] } {
    const features = Uint32Array.from(this.features).sort();
    const labels = [...this.hashes.keys()].map(({ label }) => label);
    this.features.clear();
    this.hashes.clear();
    return { features, labels };
  }
}
