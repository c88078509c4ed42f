// Every name of a scenario, what it names, and every use of one: checked when the whole file has been read.
import { type Diagnostic, didYouMean, nameList } from './diagnostic.ts';
import { Declared, type NameKind, type Ref } from './reference.ts';
import type { Path, Source } from './source.ts';

/** Where a person adds one more of a kind. */
const SECTIONS: Readonly<Record<string, string>> = {
  memory: 'memory',
  process: 'processes',
  vm: 'vms',
  device: 'devices',
  actor: 'actors',
};

export class NameTable {
  private readonly source: Source;
  private readonly declared = new Map<NameKind, Set<string>>();
  private readonly fixed = new Map<NameKind, Set<string>>();
  private readonly uses: { readonly ref: Ref; readonly path: Path }[] = [];
  private readonly made: { readonly made: Declared; readonly path: Path }[] = [];
  private readonly stepUses: { readonly actor: string; readonly step: string; readonly path: Path }[] = [];

  constructor(source: Source) {
    this.source = source;
  }

  /** A name declared in a section of the file. */
  declare(kind: NameKind, name: string): void {
    setOf(this.declared, kind).add(name);
    setOf(this.fixed, kind).add(name);
  }

  /** A reference found in arguments, or a name that an operation makes. */
  note(found: Ref | Declared, path: Path): void {
    if (!(found instanceof Declared)) {
      this.uses.push({ ref: found, path });
      return;
    }
    this.made.push({ made: found, path });
    for (const kind of found.kinds) setOf(this.declared, kind).add(found.name);
  }

  /** Somebody waits for a named step of an actor. */
  noteStepUse(actor: string, step: string, path: Path): void {
    this.stepUses.push({ actor, step, path });
  }

  /** Everything that names nothing, and everything made under a name that is taken. */
  check(stepNames: (actor: string) => readonly string[]): readonly Diagnostic[] {
    const diagnostics: Diagnostic[] = [];
    for (const { ref, path } of this.uses) {
      const known = ref.kinds.flatMap((kind) => [...setOf(this.declared, kind)]);
      if (!known.includes(ref.name)) diagnostics.push(this.unknown(ref, known, path));
    }
    for (const { made, path } of this.made) {
      const taken = made.kinds.find((kind) => setOf(this.fixed, kind).has(made.name));
      if (taken === undefined) continue;
      diagnostics.push(
        this.source.diagnostic(path, { message: `the name \`${made.name}\` is taken by another ${taken}` }),
      );
    }
    for (const { actor, step, path } of this.stepUses) {
      const known = stepNames(actor);
      if (known.includes(step) || !setOf(this.declared, 'actor').has(actor)) continue;
      const message = `\`${actor}\` has no step named \`${step}\``;
      const hint = didYouMean(step, known) ?? `name a step of \`${actor}\` with \`as: ${step}\``;
      diagnostics.push(this.source.diagnostic([...path, 'step'], { message, expected: nameList(known), hint }));
    }
    return diagnostics;
  }

  private unknown(ref: Ref, known: readonly string[], path: Path): Diagnostic {
    const kinds = ref.kinds.join(' or ');
    const section = SECTIONS[ref.kinds[0] ?? ''];
    const hint = didYouMean(ref.name, known) ?? (section === undefined ? undefined : `add it under \`${section}:\``);
    return this.source.diagnostic(path, { message: `no ${kinds} \`${ref.name}\``, expected: nameList(known), hint });
  }
}

function setOf(map: Map<NameKind, Set<string>>, kind: NameKind): Set<string> {
  let set = map.get(kind);
  if (set === undefined) {
    set = new Set();
    map.set(kind, set);
  }
  return set;
}
