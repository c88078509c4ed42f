// Which store owns which object ids, so that an id can be named in a report. Ids are allotted in rising order, so a
// rewind cuts the list short.

/** Anything that owns object ids and can name them. */
export interface Named {
  readonly name: string;
  nameOf(row: number): string;
}

/** Runs of ids and their owners, in the order they were allotted. */
export class IdOwners {
  private readonly bases: number[] = [];
  private readonly owners: Named[] = [];

  get length(): number {
    return this.bases.length;
  }

  /** Keep the first `length` runs. */
  truncate(length: number): void {
    if (this.bases.length === length) return;
    this.bases.length = length;
    this.owners.length = length;
  }

  add(base: number, owner: Named): void {
    this.bases.push(base);
    this.owners.push(owner);
  }

  describe(id: number): string {
    let low = 0;
    let high = this.bases.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.bases[middle]! <= id) low = middle;
      else high = middle - 1;
    }
    const owner = this.owners[low];
    return owner === undefined ? `object ${id}` : owner.nameOf(id - this.bases[low]!);
  }
}
