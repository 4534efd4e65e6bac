/** "Did you mean": the known name closest to a mistyped one. */

/** Names longer than this are not compared. */
const MAX_LENGTH = 64;

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      row.push(Math.min(previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1), previous[j] + 1, row[j - 1] + 1));
    }
    previous = row;
  }
  return previous[b.length];
}

/** ` Did you mean "x"?` for a known name within a third of `name`'s length in edits, else "". */
export function didYouMean(name: string, known: Iterable<string>): string {
  let best = "";
  let bestDistance = Math.max(1, Math.floor(name.length / 3)) + 1;
  for (const candidate of known) {
    if (candidate.length > MAX_LENGTH || name.length > MAX_LENGTH) continue;
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best === "" ? "" : ` Did you mean "${best}"?`;
}
