/**
 * ECMA-262 regular expressions as a small tree over sets of code points. The parser is regexpp's; this file resolves
 * everything that depends on flags (case folding, `.`, `\b`, class algebra of flag `v`), so that whoever reads the tree
 * needs no flags at all, and refuses by name and position what is not regular or can't be decided here.
 */
import { type AST, RegExpParser, RegExpSyntaxError } from "@eslint-community/regexpp";
import { SglangError } from "../core/errors.js";
import {
  ALL,
  type CodePoints,
  complement,
  fromRanges,
  intersect,
  NONE,
  single,
  subtract,
  union,
} from "./char-class.js";
import { closeUnderCase, DIGIT, LINE_TERMINATORS, propertyCodePoints, SPACE, WORD } from "./unicode.js";

export type RegexNode =
  | { kind: "chars"; set: CodePoints }
  | { kind: "sequence"; items: readonly RegexNode[] }
  | { kind: "choice"; items: readonly RegexNode[] }
  | { kind: "repeat"; item: RegexNode; min: number; max: number }
  /** `(?=a)`, `(?!a)`, `(?<=a)`, `(?<!a)`. */
  | { kind: "look"; behind: boolean; negate: boolean; item: RegexNode; position: number }
  /** `^` and `$`; `lines` with flag `m`. */
  | { kind: "edge"; at: "start" | "end"; lines: boolean }
  /** `\b` and `\B` between `set` and the rest. */
  | { kind: "word"; negate: boolean; set: CodePoints };

export const EMPTY: RegexNode = { kind: "sequence", items: [] };

/** A pattern is text of a request: longer ones are refused before any work is done. */
const MAX_PATTERN_LENGTH = 1 << 16;
/** Groups inside groups; the parser and the walks over the tree are recursive. */
const MAX_DEPTH = 200;

interface Context {
  source: string;
  unicode: boolean;
  sets: boolean;
  ignoreCase: boolean;
  dotAll: boolean;
  multiline: boolean;
}

/** An error about `source` at `position` (UTF-16 units from its start). */
export function regexError(source: string, position: number, what: string, instead: string): SglangError {
  const shown = source.length > 120 ? `${source.slice(0, 117)}...` : source;
  return new SglangError("INVALID_REQUEST", `regex /${shown}/ at position ${position}: ${what}; ${instead}.`, {
    field: "regex",
    expected: instead,
    found: source.slice(position, position + 20),
  });
}

/**
 * Parses `source`. Without `flags` the pattern is read with flag `u`, as JSON Schema asks; a pattern that is only valid
 * without it (`\-`, `[\w-.]`) is read in the syntax of Annex B, still over whole code points.
 * Throws INVALID_REQUEST with the position for a syntax error, a back-reference or a limit.
 */
export function parseRegex(source: string, flags?: string): RegexNode {
  if (source.length > MAX_PATTERN_LENGTH)
    throw regexError(
      source,
      MAX_PATTERN_LENGTH,
      `the pattern has ${source.length} characters`,
      `use at most ${MAX_PATTERN_LENGTH}`,
    );
  checkDepth(source);
  const given = flags ?? "u";
  for (const flag of given)
    if (!"imsuv".includes(flag))
      throw regexError(
        source,
        0,
        `flag "${flag}" has no meaning for a constraint`,
        "use only the flags i, m, s, u and v",
      );
  const context: Context = {
    source,
    unicode: given.includes("u") || given.includes("v"),
    sets: given.includes("v"),
    ignoreCase: given.includes("i"),
    dotAll: given.includes("s"),
    multiline: given.includes("m"),
  };
  try {
    return disjunction(parse(context).alternatives, context);
  } catch (error) {
    if (!(error instanceof RegExpSyntaxError)) throw error;
    if (flags === undefined) {
      const loose = { ...context, unicode: false };
      let pattern: AST.Pattern | undefined;
      try {
        pattern = parse(loose);
      } catch (second) {
        if (!(second instanceof RegExpSyntaxError)) throw second;
      }
      if (pattern) return disjunction(pattern.alternatives, loose);
    }
    const message = error.message.replace(/^Invalid regular expression: \/.*\/[a-z]*: /s, "");
    throw regexError(source, error.index, message, hint(source, error.index));
  }
}

function parse(context: Context): AST.Pattern {
  const parser = new RegExpParser({ ecmaVersion: 2025 });
  return parser.parsePattern(context.source, 0, context.source.length, {
    unicode: context.unicode && !context.sets,
    unicodeSets: context.sets,
  });
}

/** What people coming from other dialects most likely meant. */
function hint(source: string, position: number): string {
  const near = source.slice(Math.max(0, position - 3), position + 4);
  if (near.includes("(?P")) return "write (?<name>...) instead of Python's (?P<name>...)";
  if (/\(\?[a-z]+\)/.test(source)) return "write (?i:...) around the part instead of a bare (?i)";
  if (/\\[AZz]/.test(near)) return "write ^ and $ instead of \\A, \\Z and \\z";
  if (/[*+?}]\+/.test(near)) return "possessive quantifiers do not exist in ECMA-262; leave out the second +";
  return "write it in ECMA-262 syntax";
}

function checkDepth(source: string): void {
  let depth = 0;
  for (let i = 0; i < source.length; i++) {
    const char = source[i];
    if (char === "\\") i++;
    else if (char === "(" || char === "[") depth++;
    else if ((char === ")" || char === "]") && depth > 0) depth--;
    if (depth > MAX_DEPTH)
      throw regexError(source, i, `groups are nested more than ${MAX_DEPTH} deep`, "flatten the pattern");
  }
}

function disjunction(alternatives: readonly AST.Alternative[], context: Context): RegexNode {
  return choiceOf(alternatives.map((alternative) => sequence(alternative, context)));
}

export function choiceOf(items: readonly RegexNode[]): RegexNode {
  return items.length === 1 ? items[0] : { kind: "choice", items };
}

export function sequenceOf(items: readonly RegexNode[]): RegexNode {
  return items.length === 1 ? items[0] : { kind: "sequence", items };
}

function sequence(alternative: AST.Alternative, context: Context): RegexNode {
  const items: RegexNode[] = [];
  const { elements } = alternative;
  for (let i = 0; i < elements.length; i++) {
    const here = elements[i];
    const next = elements[i + 1];
    // Without flag u the parser hands out the two halves of a pair one by one.
    if (isHalf(here, 0xd800) && next !== undefined && isHalf(next, 0xdc00)) {
      const codePoint = 0x10000 + ((here.value - 0xd800) << 10) + (next.value - 0xdc00);
      items.push(chars(single(codePoint), context));
      i++;
      continue;
    }
    items.push(element(here, context));
  }
  return sequenceOf(items);
}

function isHalf(node: AST.Element, base: number): node is AST.Character {
  return node.type === "Character" && node.value >= base && node.value < base + 0x400;
}

function element(node: AST.Element, context: Context): RegexNode {
  switch (node.type) {
    case "Character":
      if (!context.unicode && node.value >= 0xd800 && node.value <= 0xdfff) throw loneHalf(node, context);
      return chars(single(node.value), context);
    case "CharacterSet":
      return characterSet(node, context);
    case "CharacterClass":
    case "ExpressionCharacterClass":
      return characterClass(node, context);
    case "Group":
      return disjunction(node.alternatives, withModifiers(node, context));
    case "CapturingGroup":
      return disjunction(node.alternatives, context);
    case "Quantifier":
      // Lazy and greedy match the same texts; they differ in captures only.
      return { kind: "repeat", item: element(node.element, context), min: node.min, max: node.max };
    case "Backreference":
      throw regexError(
        context.source,
        node.start,
        `the back-reference ${node.raw} is not regular and can't be enforced`,
        "write the alternatives out, or use a grammar",
      );
    case "Assertion":
      if (node.kind === "lookahead" || node.kind === "lookbehind")
        return {
          kind: "look",
          behind: node.kind === "lookbehind",
          negate: node.negate,
          item: disjunction(node.alternatives, context),
          position: node.start,
        };
      if (node.kind === "word") return { kind: "word", negate: node.negate, set: wordSet(context) };
      return { kind: "edge", at: node.kind, lines: context.multiline };
  }
}

function withModifiers(group: AST.Group, context: Context): Context {
  if (!group.modifiers) return context;
  const { add, remove } = group.modifiers;
  const flag = (name: "ignoreCase" | "dotAll" | "multiline"): boolean =>
    (context[name] || add[name]) && !(remove?.[name] ?? false);
  return { ...context, ignoreCase: flag("ignoreCase"), dotAll: flag("dotAll"), multiline: flag("multiline") };
}

function loneHalf(node: AST.Node, context: Context): SglangError {
  return regexError(
    context.source,
    node.start,
    "half of a surrogate pair never occurs in UTF-8 text",
    "write the whole character with flag u",
  );
}

function chars(set: CodePoints, context: Context): RegexNode {
  return { kind: "chars", set: fold(set, context) };
}

function fold(set: CodePoints, context: Context): CodePoints {
  return context.ignoreCase ? closeUnderCase(set, context.unicode) : set;
}

/** `\w`: with flags i and u the relatives of its letters (long s and the Kelvin sign) belong to it. */
function wordSet(context: Context): CodePoints {
  return context.ignoreCase && context.unicode ? closeUnderCase(WORD, true) : WORD;
}

function characterSet(node: AST.CharacterSet, context: Context): RegexNode {
  if (node.kind === "any") return { kind: "chars", set: context.dotAll ? ALL : complement(LINE_TERMINATORS) };
  return { kind: "chars", set: fold(escapeSet(node, context), context) };
}

function escapeSet(node: AST.EscapeCharacterSet | AST.UnicodePropertyCharacterSet, context: Context): CodePoints {
  if (node.kind !== "property") {
    const set = node.kind === "digit" ? DIGIT : node.kind === "space" ? SPACE : wordSet(context);
    return node.negate ? complement(set) : set;
  }
  if (node.strings)
    throw regexError(
      context.source,
      node.start,
      `${node.raw} is a property of strings, whose members the engine does not list`,
      "use a property of characters such as \\p{Emoji} or \\p{Extended_Pictographic}",
    );
  const name = node.value === null ? node.key : `${node.key}=${node.value}`;
  let set: CodePoints;
  try {
    set = propertyCodePoints(name);
  } catch (error) {
    throw regexError(
      context.source,
      node.start,
      `this engine does not know ${node.raw}`,
      `${(error as Error).message}`,
    );
  }
  // Flag v folds first and complements then; flag u the other way round (ECMA-262, CharacterClassEscape).
  if (context.sets) set = fold(set, context);
  return node.negate ? complement(set) : set;
}

/** A class may hold whole strings with flag `v`; `strings` are those of other than one code point. */
interface ClassValue {
  set: CodePoints;
  strings: Map<string, readonly number[]>;
}

function characterClass(node: AST.CharacterClass | AST.ExpressionCharacterClass, context: Context): RegexNode {
  const value = classValue(node, context);
  // Longest first in the engine; the language is the same in any order.
  const items: RegexNode[] = [...value.strings.values()].map((codePoints) =>
    sequenceOf(codePoints.map((codePoint) => chars(single(codePoint), context))),
  );
  if (value.set.length > 0 || items.length === 0) items.push({ kind: "chars", set: value.set });
  return choiceOf(items);
}

function classValue(node: AST.CharacterClass | AST.ExpressionCharacterClass, context: Context): ClassValue {
  let value: ClassValue;
  if (node.type === "ExpressionCharacterClass") value = expressionValue(node.expression, context);
  else {
    const operands = node.elements.map((item) => operandValue(item, context));
    value = {
      set: union(NONE, ...operands.map(({ set }) => set)),
      strings: new Map(operands.flatMap(({ strings }) => [...strings])),
    };
  }
  const set = fold(value.set, context);
  return node.negate ? { set: complement(set), strings: new Map() } : { set, strings: value.strings };
}

function operandValue(
  node: AST.CharacterClassElement | AST.ClassSetOperand | AST.ClassIntersection | AST.ClassSubtraction,
  context: Context,
): ClassValue {
  const strings = new Map<string, readonly number[]>();
  switch (node.type) {
    case "Character":
      if (!context.unicode && node.value >= 0xd800 && node.value <= 0xdfff) throw loneHalf(node, context);
      return { set: foldOperand(single(node.value), context), strings };
    case "CharacterClassRange": {
      const low = node.min.value;
      const high = node.max.value;
      const inside = (value: number): boolean => value > 0xd800 && value < 0xdfff;
      if (!context.unicode && (inside(low) || inside(high))) throw loneHalf(node, context);
      return { set: foldOperand(fromRanges([[low, high]]), context), strings };
    }
    case "CharacterSet":
      return { set: foldOperand(escapeSet(node, context), context), strings };
    case "CharacterClass":
    case "ExpressionCharacterClass":
      return classValue(node, context);
    case "ClassIntersection":
    case "ClassSubtraction":
      return expressionValue(node, context);
    case "ClassStringDisjunction": {
      const singles: CodePoints[] = [];
      for (const { elements } of node.alternatives) {
        const codePoints = elements.map(({ value }) => value);
        if (codePoints.length === 1) singles.push(foldOperand(single(codePoints[0]), context));
        else strings.set(stringKey(codePoints, context), codePoints);
      }
      return { set: union(NONE, ...singles), strings };
    }
  }
}

/** With flag `v` operands are folded before set operations; with `u` the whole class is folded once. */
function foldOperand(set: CodePoints, context: Context): CodePoints {
  return context.sets ? fold(set, context) : set;
}

/** Strings are compared after folding, so that `\q{ab}` and `\q{AB}` are one under flag `i`. */
function stringKey(codePoints: readonly number[], context: Context): string {
  if (!context.ignoreCase) return codePoints.join(",");
  return codePoints.map((codePoint) => closeUnderCase(single(codePoint), true)[0]).join(",");
}

function expressionValue(node: AST.ClassIntersection | AST.ClassSubtraction, context: Context): ClassValue {
  const left = operandValue(node.left, context);
  const right = operandValue(node.right, context);
  const both = node.type === "ClassIntersection";
  return {
    set: both ? intersect(left.set, right.set) : subtract(left.set, right.set),
    strings: new Map([...left.strings].filter(([key]) => right.strings.has(key) === both)),
  };
}
