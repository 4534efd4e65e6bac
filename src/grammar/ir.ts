/**
 * The one intermediate form every front end (regex, EBNF, GBNF, Lark, JSON Schema, choices, structural tags) targets.
 *
 * An {@link Expression} describes a set of texts; a {@link GrammarDefinition} is a root expression plus named rules.
 * Expressions are immutable plain objects; build them with the constructors below, which flatten and simplify.
 * Text is thought of as code points. The automaton works on UTF-8 bytes; `encode.ts` lowers code points to bytes.
 *
 * Two worlds meet here:
 * - *regular* expressions (no `ref`, no `embed`): any Boolean combination is allowed (`and`, `not`), evaluated with lazy
 *   derivatives. A maximal regular subtree becomes one lexeme, that is one lazily built deterministic automaton.
 * - *context-free* expressions: `ref` to named rules, recursion included. `and`/`not` over them is refused.
 *
 * Counted repetition never copies: `repeat(x, 0, 65535)` costs one node.
 */

/** Inclusive ranges of code points, flat: `[lo0, hi0, lo1, hi1, ...]`, sorted, disjoint and not adjacent. */
export type CodePointRanges = readonly number[];

/** What a lexeme or rule matches. Discriminated by `kind`. */
export type Expression =
  /** Nothing matches, not even the empty text. */
  | { readonly kind: "never" }
  /** Exactly this text (well-formed Unicode). The empty text is `text: ""`. */
  | { readonly kind: "text"; readonly text: string }
  /** Exactly these bytes; for grammars that speak of bytes that are no text. */
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  /** One code point out of a set. Surrogates (U+D800-DFFF) never match, they have no UTF-8 form. */
  | { readonly kind: "class"; readonly ranges: CodePointRanges }
  | { readonly kind: "sequence"; readonly items: readonly Expression[] }
  | { readonly kind: "choice"; readonly items: readonly Expression[] }
  /** Between `min` and `max` times, inclusive; `max` may be Infinity. */
  | { readonly kind: "repeat"; readonly item: Expression; readonly min: number; readonly max: number }
  /** A named rule of the definition. May be recursive; left recursion is refused unless it can be rewritten. */
  | { readonly kind: "ref"; readonly name: string }
  /** Texts in all of the items. Regular items only. */
  | { readonly kind: "and"; readonly items: readonly Expression[] }
  /** Well-formed texts not in the item. Regular item only. */
  | { readonly kind: "not"; readonly item: Expression }
  /**
   * Texts that lead a deterministic automaton from `state` to an accepting state. Regular: `and`, `not` and lexemes take
   * it. For languages whose expression would be huge (multiples of a number, assertions under repetition). An engine
   * needs no table for it: {@link unfold} rewrites one step into classes and states, and nodes are interned per state.
   */
  | { readonly kind: "automaton"; readonly automaton: TextAutomaton; readonly state: number }
  /**
   * A whole number in decimal, without sign and leading zeros, whose remainder is accepted. Regular. It has a state for
   * each remainder; they are made as they come up. `name` tells apart what is accepted.
   */
  | {
      readonly kind: "remainder";
      readonly divisor: number;
      readonly name: string;
      readonly accepts: (remainder: number) => boolean;
    }
  /** Another grammar at this place: its root and its own rules (names do not clash with ours). */
  | { readonly kind: "embed"; readonly grammar: GrammarSource };

/** A deterministic automaton over code points. A code point without an edge is refused. Every state can accept. */
export interface TextAutomaton {
  readonly accepting: readonly boolean[];
  /** Per state: disjoint classes and the states they lead to. */
  readonly edges: readonly (readonly { readonly ranges: CodePointRanges; readonly to: number }[])[];
}

/** A grammar made of named rules. */
export interface GrammarDefinition {
  readonly root: Expression;
  /** Every name a `ref` in `root` or a rule mentions. */
  readonly rules: ReadonlyMap<string, Expression>;
}

/** Anything that can be embedded: rules, or a grammar that writes itself into a program (JSON Schema does). */
export type GrammarSource = GrammarDefinition | ProgramWriter;

/** A front end that builds program nodes itself because its rules are made on demand. See `program.ts`. */
export interface ProgramWriter {
  /** @param program the {@link import("./program.js").Program} to write into. @returns the node of the root. */
  write(program: import("./program.js").Program): number;
}

export const MAX_CODE_POINT = 0x10ffff;

/** The expression that matches nothing. */
export const NEVER: Expression = { kind: "never" };
/** The expression that matches the empty text only. */
export const EMPTY: Expression = { kind: "text", text: "" };
/** One arbitrary code point (surrogates excluded). */
export const ANY_CHARACTER: Expression = { kind: "class", ranges: [0, 0xd7ff, 0xe000, MAX_CODE_POINT] };
/** Any text, the empty one included. */
export const ANY_TEXT: Expression = { kind: "repeat", item: ANY_CHARACTER, min: 0, max: Number.POSITIVE_INFINITY };

export function text(value: string): Expression {
  return value === "" ? EMPTY : { kind: "text", text: value };
}

/** One code point in `ranges` (flat inclusive pairs, any order, overlaps allowed). */
export function charClass(ranges: CodePointRanges): Expression {
  const normal = normalizeRanges(ranges);
  return normal.length === 0 ? NEVER : { kind: "class", ranges: normal };
}

/** One code point that is *not* in `ranges`. */
export function notCharClass(ranges: CodePointRanges): Expression {
  return charClass(complementRanges(normalizeRanges(ranges)));
}

export function sequence(...items: readonly Expression[]): Expression {
  const flat: Expression[] = [];
  for (const item of items) {
    if (item.kind === "never") return NEVER;
    if (item.kind === "sequence") flat.push(...item.items);
    else if (!(item.kind === "text" && item.text === "")) flat.push(item);
  }
  if (flat.length === 0) return EMPTY;
  return flat.length === 1 ? (flat[0] as Expression) : { kind: "sequence", items: flat };
}

export function choice(...items: readonly Expression[]): Expression {
  const flat: Expression[] = [];
  for (const item of items) {
    if (item.kind === "choice") flat.push(...item.items);
    else if (item.kind !== "never") flat.push(item);
  }
  if (flat.length === 0) return NEVER;
  return flat.length === 1 ? (flat[0] as Expression) : { kind: "choice", items: flat };
}

/** @param max may be Infinity. `min > max` matches nothing. */
export function repeat(item: Expression, min: number, max: number): Expression {
  // Counting down from more than this changes nothing; no text is that long.
  if (min > max || min > Number.MAX_SAFE_INTEGER) return NEVER;
  if (max > Number.MAX_SAFE_INTEGER && max !== Number.POSITIVE_INFINITY)
    return repeat(item, min, Number.POSITIVE_INFINITY);
  if (max === 0) return EMPTY;
  if (min === 1 && max === 1) return item;
  if (item.kind === "never") return min === 0 ? EMPTY : NEVER;
  return { kind: "repeat", item, min, max };
}

export function optional(item: Expression): Expression {
  return repeat(item, 0, 1);
}

export function ref(name: string): Expression {
  return { kind: "ref", name };
}

/** Texts in every item; regular items only. No items: any text. */
export function intersect(...items: readonly Expression[]): Expression {
  if (items.length === 0) return ANY_TEXT;
  if (items.some((item) => item.kind === "never")) return NEVER;
  return items.length === 1 ? (items[0] as Expression) : { kind: "and", items };
}

/** Well-formed texts that the item does not match; regular item only. */
export function complement(item: Expression): Expression {
  return item.kind === "not" ? item.item : { kind: "not", item };
}

/** Texts in `of` that are not in `without`; regular items only. */
export function difference(of: Expression, without: Expression): Expression {
  return intersect(of, complement(without));
}

/** Texts that contain a match of `item` somewhere: what an unanchored regular expression means. */
export function containing(item: Expression): Expression {
  return sequence(ANY_TEXT, item, ANY_TEXT);
}

/** Texts that end with `stop` and hold no other occurrence of any of `stops` that ends earlier. */
export function upTo(stop: string, stops: readonly string[]): Expression {
  const anyStop = choice(...stops.map(text));
  const tooFar = sequence(ANY_TEXT, anyStop, ANY_CHARACTER, ANY_TEXT);
  return intersect(sequence(ANY_TEXT, text(stop)), complement(tooFar));
}

const automatonNodes = new WeakMap<TextAutomaton, { states: Expression[]; unfolded: Expression[] }>();

function nodesOf(automaton: TextAutomaton): { states: Expression[]; unfolded: Expression[] } {
  let nodes = automatonNodes.get(automaton);
  if (!nodes) {
    nodes = {
      states: automaton.accepting.map((_, state) => ({ kind: "automaton", automaton, state })),
      unfolded: [],
    };
    automatonNodes.set(automaton, nodes);
  }
  return nodes;
}

/** The node of one state; the same object for the same automaton and state. */
export function automatonState(automaton: TextAutomaton, state = 0): Expression {
  return nodesOf(automaton).states[state] as Expression;
}

/**
 * One step of an automaton as an expression: `class1 state1 | class2 state2 | ...`, and the empty text if the state
 * accepts. Its derivative by a code point is the node of the next state. The same object for the same state.
 */
export function unfold(automaton: TextAutomaton, state: number): Expression {
  const { states, unfolded } = nodesOf(automaton);
  const known = unfolded[state];
  if (known) return known;
  const steps = (automaton.edges[state] ?? []).map(({ ranges, to }) =>
    sequence(charClass(ranges), states[to] as Expression),
  );
  const node = automaton.accepting[state] ? choice(...steps, EMPTY) : choice(...steps);
  unfolded[state] = node;
  return node;
}

export function embed(grammar: GrammarSource): Expression {
  return { kind: "embed", grammar };
}

/** Sorted, merged, clipped to the Unicode range. */
export function normalizeRanges(ranges: CodePointRanges): number[] {
  const pairs: [number, number][] = [];
  for (let i = 0; i + 1 < ranges.length; i += 2) {
    const lo = Math.max(0, ranges[i] as number);
    const hi = Math.min(MAX_CODE_POINT, ranges[i + 1] as number);
    if (lo <= hi) pairs.push([lo, hi]);
  }
  pairs.sort((a, b) => a[0] - b[0]);
  const merged: number[] = [];
  for (const [lo, hi] of pairs) {
    const last = merged.length - 1;
    if (last > 0 && lo <= (merged[last] as number) + 1) merged[last] = Math.max(merged[last] as number, hi);
    else merged.push(lo, hi);
  }
  return merged;
}

/** Code points outside `ranges`, which must be normal. */
export function complementRanges(ranges: CodePointRanges): number[] {
  const out: number[] = [];
  let next = 0;
  for (let i = 0; i < ranges.length; i += 2) {
    if ((ranges[i] as number) > next) out.push(next, (ranges[i] as number) - 1);
    next = (ranges[i + 1] as number) + 1;
  }
  if (next <= MAX_CODE_POINT) out.push(next, MAX_CODE_POINT);
  return out;
}

/** Code points in both; both must be normal. */
export function intersectRanges(a: CodePointRanges, b: CodePointRanges): number[] {
  const out: number[] = [];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const lo = Math.max(a[i] as number, b[j] as number);
    const hi = Math.min(a[i + 1] as number, b[j + 1] as number);
    if (lo <= hi) out.push(lo, hi);
    if ((a[i + 1] as number) < (b[j + 1] as number)) i += 2;
    else j += 2;
  }
  return out;
}
