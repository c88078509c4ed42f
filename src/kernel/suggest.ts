// "Did you mean": the names nearest to a misspelt one, by edit distance with a bonus for a shared ending or beginning.

/** Up to `limit` of `names`, nearest first (ties in the order given); empty when nothing is near. */
export function suggest(word: string, names: Iterable<string>, limit = 3): readonly string[] {
  const scored: { name: string; distance: number }[] = [];
  const reach = Math.min(6, Math.max(2, Math.ceil(word.length * 0.4)));
  for (const name of names) {
    const distance = contains(name, word) ? 1 : editDistance(word, name);
    if (distance <= reach) scored.push({ name, distance });
  }
  scored.sort((a, b) => a.distance - b.distance);
  return scored.slice(0, limit).map((entry) => entry.name);
}

function contains(name: string, word: string): boolean {
  return word.length >= 4 && name.includes(word);
}

/** Levenshtein distance with two rows. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(change, previous[j]! + 1, row[j - 1]! + 1));
    }
    previous = row;
  }
  return previous[b.length]!;
}
