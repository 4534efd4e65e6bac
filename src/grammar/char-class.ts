/**
 * Sets of Unicode scalar values as sorted, disjoint, inclusive ranges in one flat array: `[lo, hi, lo, hi, ...]`.
 *
 * Surrogates are never members: they can't be written in UTF-8, so no text that a model emits contains one. Every
 * function returns a normalised set (sorted, no overlaps, no neighbours that could be joined), so two sets are equal
 * exactly when their arrays are.
 */

export type CodePoints = readonly number[];

export const MAX_CODE_POINT = 0x10ffff;
export const NONE: CodePoints = [];
/** Every Unicode scalar value. */
export const ALL: CodePoints = [0, 0xd7ff, 0xe000, MAX_CODE_POINT];

/** Sorts and joins inclusive ranges, and drops surrogates. */
export function fromRanges(ranges: readonly (readonly [number, number])[]): CodePoints {
  const sorted = ranges.filter(([low, high]) => low <= high).sort((a, b) => a[0] - b[0]);
  const joined: number[] = [];
  for (const [low, high] of sorted) {
    const last = joined.length - 1;
    if (last > 0 && low <= joined[last] + 1) joined[last] = Math.max(joined[last], high);
    else joined.push(low, high);
  }
  for (let i = 0; i < joined.length; i += 2)
    if (joined[i] <= 0xdfff && joined[i + 1] >= 0xd800) return intersect(joined, ALL);
  return joined;
}

export function single(codePoint: number): CodePoints {
  return fromRanges([[codePoint, codePoint]]);
}

export function union(...sets: readonly CodePoints[]): CodePoints {
  if (sets.length === 1) return sets[0];
  const ranges: [number, number][] = [];
  for (const set of sets) for (let i = 0; i < set.length; i += 2) ranges.push([set[i], set[i + 1]]);
  return fromRanges(ranges);
}

export function intersect(a: CodePoints, b: CodePoints): CodePoints {
  const out: number[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length && j < b.length) {
    const low = Math.max(a[i], b[j]);
    const high = Math.min(a[i + 1], b[j + 1]);
    if (low <= high) out.push(low, high);
    if (a[i + 1] < b[j + 1]) i += 2;
    else j += 2;
  }
  return out;
}

/** All scalar values that are not in `set`. */
export function complement(set: CodePoints): CodePoints {
  const out: number[] = [];
  let next = 0;
  for (let i = 0; i < set.length; i += 2) {
    if (set[i] > next) out.push(next, set[i] - 1);
    next = set[i + 1] + 1;
  }
  if (next <= MAX_CODE_POINT) out.push(next, MAX_CODE_POINT);
  return intersect(out, ALL);
}

export function subtract(a: CodePoints, b: CodePoints): CodePoints {
  return intersect(a, complement(b));
}

export function includes(set: CodePoints, codePoint: number): boolean {
  let low = 0;
  let high = set.length / 2 - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    if (codePoint < set[2 * middle]) high = middle - 1;
    else if (codePoint > set[2 * middle + 1]) low = middle + 1;
    else return true;
  }
  return false;
}

/** How many scalar values the set has. */
export function size(set: CodePoints): number {
  let count = 0;
  for (let i = 0; i < set.length; i += 2) count += set[i + 1] - set[i] + 1;
  return count;
}

/**
 * The coarsest partition of all scalar values such that every given set is a union of parts: each part is one letter
 * of the alphabet on which automata over these sets work.
 */
export function partition(sets: readonly CodePoints[]): CodePoints[] {
  const cuts = new Set<number>([0, 0xe000]);
  for (const set of sets)
    for (let i = 0; i < set.length; i += 2) {
      cuts.add(set[i]);
      cuts.add(set[i + 1] + 1);
    }
  const starts = [...cuts]
    .filter((cut) => cut <= MAX_CODE_POINT && (cut < 0xd800 || cut > 0xdfff))
    .sort((a, b) => a - b);
  const parts = new Map<string, [number, number][]>();
  // One cursor per set: starts are sorted, so each set is read once from left to right.
  const cursors = new Int32Array(sets.length);
  starts.forEach((low, index) => {
    const next = index + 1 < starts.length ? starts[index + 1] - 1 : MAX_CODE_POINT;
    const high = low < 0xd800 ? Math.min(next, 0xd7ff) : next;
    let key = "";
    for (let s = 0; s < sets.length; s++) {
      const set = sets[s];
      while (cursors[s] < set.length && set[cursors[s] + 1] < low) cursors[s] += 2;
      if (cursors[s] < set.length && set[cursors[s]] <= low) key += `${s},`;
    }
    const part = parts.get(key);
    if (part) part.push([low, high]);
    else parts.set(key, [[low, high]]);
  });
  return [...parts.values()].map(fromRanges);
}
