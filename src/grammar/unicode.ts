/**
 * Unicode facts, asked of the JavaScript engine itself: which code points a property escape such as `\p{L}` matches, and
 * which code points case-insensitive matching takes for one another. The engine is the definition of ECMA-262 that a
 * pattern will later be checked with, so tables of our own could only disagree with it.
 */
import { type CodePoints, fromRanges, includes, intersect, union } from "./char-class.js";

/**
 * Planes 4 to 13 hold no assigned characters; their two final code points are noncharacters. One representative of each
 * kind answers for all of them, so that a property costs about a quarter of a full scan.
 */
const EMPTY_PLANES = { first: 4, last: 13 } as const;
/** The scanned stretches outside the empty planes. */
const SCANNED: readonly (readonly [number, number])[] = [
  [0, 0xd7ff],
  [0xe000, 0x3ffff],
  [0xe0000, 0x10ffff],
];
/** Private-use planes 15 and 16 and most of plane 14 are uniform as well, but cheap enough to scan in blocks. */
const BLOCK = 4096;

const propertyCache = new Map<string, CodePoints>();
let scanText: { text: string; first: number }[] | undefined;

function scanTexts(): { text: string; first: number }[] {
  if (scanText) return scanText;
  scanText = SCANNED.map(([low, high]) => {
    const parts: string[] = [];
    for (let start = low; start <= high; start += BLOCK) {
      const end = Math.min(high, start + BLOCK - 1);
      parts.push(String.fromCodePoint(...Array.from({ length: end - start + 1 }, (_, i) => start + i)));
    }
    return { text: parts.join(""), first: low };
  });
  return scanText;
}

/**
 * The code points that `\p{name}` matches (flag `u`), for `name` such as `L`, `Script=Greek`, `White_Space`.
 * Throws the engine's own SyntaxError for a name it does not know.
 */
export function propertyCodePoints(name: string): CodePoints {
  const cached = propertyCache.get(name);
  if (cached) return cached;
  const runs = new RegExp(`\\p{${name}}+`, "gu");
  const ranges: [number, number][] = [];
  for (const { text, first } of scanTexts()) {
    // Inside one stretch all code points take one unit below U+10000 and two above, so a position is a code point.
    const wide = first >= 0x10000;
    const codePoint = (position: number): number => {
      if (wide) return first + position / 2;
      const narrow = 0x10000 - first;
      return position <= narrow ? first + position : 0x10000 + (position - narrow) / 2;
    };
    for (const match of text.matchAll(runs)) {
      ranges.push([codePoint(match.index), codePoint(match.index + match[0].length) - 1]);
    }
  }
  const one = new RegExp(`^\\p{${name}}$`, "u");
  for (let plane = EMPTY_PLANES.first; plane <= EMPTY_PLANES.last; plane++) {
    const base = plane * 0x10000;
    if (one.test(String.fromCodePoint(base))) ranges.push([base, base + 0xfffd]);
    if (one.test(String.fromCodePoint(base + 0xffff))) ranges.push([base + 0xfffe, base + 0xffff]);
  }
  const set = fromRanges(ranges);
  propertyCache.set(name, set);
  return set;
}

/** `\d`: ASCII digits, whatever the flags. */
export const DIGIT: CodePoints = fromRanges([[0x30, 0x39]]);
/** `\w` without case folding. */
export const WORD: CodePoints = fromRanges([
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
]);
/** `\s`: ECMA-262 WhiteSpace and LineTerminator. */
export const SPACE: CodePoints = fromRanges(
  [
    0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x20, 0xa0, 0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005, 0x2006, 0x2007,
    0x2008, 0x2009, 0x200a, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000, 0xfeff,
  ].map((codePoint) => [codePoint, codePoint] as const),
);
/** What `.` leaves out without flag `s`, and where `^` and `$` hold with flag `m`. */
export const LINE_TERMINATORS: CodePoints = fromRanges([
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
]);

/** Code points with case relatives, and for each the set of its relatives with itself; per kind of folding. */
interface CaseOrbits {
  all: CodePoints;
  orbit: Map<number, CodePoints>;
}

const orbitCache = new Map<"u" | "", CaseOrbits>();

/** Builds the classes of code points that flag `i` identifies: candidates from the case mappings, then asked one by one. */
function caseOrbits(unicode: boolean): CaseOrbits {
  const flags = unicode ? "u" : "";
  const cached = orbitCache.get(flags);
  if (cached) return cached;
  const candidates = union(
    propertyCodePoints("Changes_When_Casemapped"),
    propertyCodePoints("Changes_When_Casefolded"),
  );
  const groups = new Map<string, Set<number>>();
  for (let i = 0; i < candidates.length; i += 2) {
    for (let codePoint = candidates[i]; codePoint <= candidates[i + 1]; codePoint++) {
      // Without flag `u` a pattern works on UTF-16 units, and units of a surrogate pair have no case.
      if (!unicode && codePoint > 0xffff) continue;
      const text = String.fromCodePoint(codePoint);
      // Upper case of lower case brings final sigma, Kelvin sign and their like together with their relatives.
      const key = text.toUpperCase().toLowerCase().toUpperCase();
      const group = groups.get(key);
      if (group) group.add(codePoint);
      else groups.set(key, new Set([codePoint]));
    }
  }
  const orbit = new Map<number, CodePoints>();
  for (const group of groups.values()) {
    if (group.size < 2) continue;
    const members = [...group];
    for (const member of members) {
      const escaped = unicode ? `\\u{${member.toString(16)}}` : `\\u${member.toString(16).padStart(4, "0")}`;
      const test = new RegExp(`^${escaped}$`, `i${flags}`);
      const same = members.filter((other) => test.test(String.fromCodePoint(other)));
      if (same.length > 1) orbit.set(member, fromRanges(same.map((other) => [other, other])));
    }
  }
  const result = { all: fromRanges([...orbit.keys()].map((codePoint) => [codePoint, codePoint])), orbit };
  orbitCache.set(flags, result);
  return result;
}

/** The set with every case relative of its members added: what a class matches under flag `i`. */
export function closeUnderCase(set: CodePoints, unicode: boolean): CodePoints {
  if (set.length === 0) return set;
  if (set[set.length - 1] < 0x80) return closeAscii(set, unicode);
  const { all, orbit } = caseOrbits(unicode);
  const cased = intersect(set, all);
  const added: CodePoints[] = [set];
  for (let i = 0; i < cased.length; i += 2)
    for (let codePoint = cased[i]; codePoint <= cased[i + 1]; codePoint++) added.push(orbit.get(codePoint)!);
  return union(...added);
}

/** The common case without tables: beside a-z and A-Z only k and s have relatives, and those with flag `u` alone. */
function closeAscii(set: CodePoints, unicode: boolean): CodePoints {
  const shift = (low: number, by: number): CodePoints =>
    intersect(set, fromRanges([[low, low + 25]])).map((codePoint) => codePoint + by);
  const closed = union(set, shift(0x41, 0x20), shift(0x61, -0x20));
  if (!unicode) return closed;
  return union(closed, includes(closed, 0x6b) ? [0x212a, 0x212a] : [], includes(closed, 0x73) ? [0x17f, 0x17f] : []);
}
