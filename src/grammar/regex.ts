/**
 * Regular expressions (ECMA-262) as constraints.
 *
 * A pattern describes a set of texts: those that contain a match (`anchored: false`, as JSON Schema's `pattern`) or those
 * that are a match (`anchored: true`, as the `regex` of a request). Assertions speak of the text around a match; most
 * stand where they split a text in two, and become `and` and `not` of the two sides. All others go through one automaton
 * (`lookaround.ts`). Both are exact.
 */
import {
  ANY_TEXT,
  charClass,
  choice,
  complement,
  EMPTY,
  type Expression,
  intersect,
  NEVER,
  repeat,
  sequence,
  text,
} from "./ir.js";
import { assertionAutomaton } from "./lookaround.js";
import { parseRegex, type RegexNode } from "./regex-tree.js";
import { automatonExpression } from "./text-automaton.js";

export interface RegexOptions {
  /** True: the whole text is a match. False: a match is somewhere in the text. Default true. */
  anchored?: boolean;
}

/** Alternatives with assertions are multiplied out into at most this many; beyond, the automaton takes over. */
const MAX_ALTERNATIVES = 64;

/**
 * The texts that match `source`. Without `flags` the pattern is read with flag `u`, or in the loose syntax of Annex B if
 * it is valid only there; characters are whole code points either way. Flags: i, m, s, u, v.
 * Throws INVALID_REQUEST with the position for syntax errors, back-references and limits.
 */
export function regexToExpression(source: string, flags?: string, options: RegexOptions = {}): Expression {
  const anchored = options.anchored ?? true;
  const tree = parseRegex(source, flags);
  if (!hasAssertion(tree)) {
    const plain = plainExpression(tree);
    return anchored ? plain : sequence(ANY_TEXT, plain, ANY_TEXT);
  }
  const split = splitLanguage(tree, {
    left: anchored ? EMPTY : ANY_TEXT,
    right: anchored ? EMPTY : ANY_TEXT,
    startsText: true,
    endsText: true,
  });
  return split ?? automatonExpression(assertionAutomaton(tree, anchored, source));
}

const assertive = new WeakMap<RegexNode, boolean>();

function hasAssertion(node: RegexNode): boolean {
  const known = assertive.get(node);
  if (known !== undefined) return known;
  let found: boolean;
  if (node.kind === "sequence" || node.kind === "choice") found = node.items.some(hasAssertion);
  else if (node.kind === "repeat") found = hasAssertion(node.item);
  else found = node.kind !== "chars";
  assertive.set(node, found);
  return found;
}

/** A tree without assertions, one to one. */
function plainExpression(node: RegexNode): Expression {
  switch (node.kind) {
    case "chars":
      return node.set.length === 2 && node.set[0] === node.set[1]
        ? text(String.fromCodePoint(node.set[0]))
        : charClass(node.set);
    case "sequence":
      return joinTexts(node.items.map(plainExpression));
    case "choice":
      return choice(...node.items.map(plainExpression));
    case "repeat":
      return repeat(plainExpression(node.item), node.min, node.max);
    default:
      throw new Error(`assertion ${node.kind} in a tree without assertions`);
  }
}

/** Neighbouring texts become one: `a`, `b`, `c` is the text `abc`. */
function joinTexts(items: readonly Expression[]): Expression {
  const joined: Expression[] = [];
  for (const item of items.flatMap((part) => (part.kind === "sequence" ? part.items : [part]))) {
    const last = joined.at(-1);
    if (item.kind === "text" && last?.kind === "text") joined[joined.length - 1] = text(last.text + item.text);
    else joined.push(item);
  }
  return sequence(...joined);
}

/** What may stand around a part of a pattern. */
interface Around {
  /** All texts that may come before: {@link ANY_TEXT} or {@link EMPTY}. */
  left: Expression;
  right: Expression;
  /** `left` begins where the text begins, so that `^` and look-behind can be decided with it. */
  startsText: boolean;
  /** `right` ends where the text ends. */
  endsText: boolean;
}

/** `left node right` with the assertions of `node` applied, or null if they don't split the text in two. */
function splitLanguage(node: RegexNode, around: Around): Expression | null {
  const alternatives = multiplyOut(node);
  if (!alternatives) return null;
  const languages: Expression[] = [];
  for (const items of alternatives) {
    const language = splitSequence(items, around);
    if (!language) return null;
    languages.push(language);
  }
  return choice(...languages);
}

/** The alternatives of a tree as sequences in which assertions are top-level items; null if there are too many. */
function multiplyOut(node: RegexNode): RegexNode[][] | null {
  if (!hasAssertion(node)) return [[node]];
  switch (node.kind) {
    case "choice": {
      const all: RegexNode[][] = [];
      for (const item of node.items) {
        const alternatives = multiplyOut(item);
        if (!alternatives || all.length + alternatives.length > MAX_ALTERNATIVES) return null;
        all.push(...alternatives);
      }
      return all;
    }
    case "sequence": {
      let all: RegexNode[][] = [[]];
      for (const item of node.items) {
        const alternatives = multiplyOut(item);
        if (!alternatives || all.length * alternatives.length > MAX_ALTERNATIVES) return null;
        all = all.flatMap((before) => alternatives.map((after) => [...before, ...after]));
      }
      return all;
    }
    case "repeat": {
      if (node.max === 0) return [[]];
      if (node.max > 1) return null;
      const once = multiplyOut(node.item);
      return once && (node.min === 0 ? [[], ...once] : once);
    }
    default:
      return [[node]];
  }
}

function splitSequence(items: readonly RegexNode[], around: Around): Expression | null {
  // Line edges and word edges look both ways.
  if (items.some((item) => item.kind === "word" || (item.kind === "edge" && item.lines))) return null;
  // Left to right: as long as nothing looks ahead, everything read so far is one expression that look-behind can cut.
  let head = around.left;
  /** What was read since the last assertion. */
  const plain: Expression[] = [];
  let index = 0;
  for (; index < items.length; index++) {
    const item = items[index];
    if (item.kind === "edge" && item.at === "start") {
      if (!around.startsText) return null;
      head = onlyEmpty(sequence(head, ...plain.splice(0)));
    } else if (item.kind === "look" && item.behind) {
      if (!around.startsText) return null;
      const body = splitLanguage(item.item, { left: ANY_TEXT, right: EMPTY, startsText: true, endsText: false });
      if (!body) return null;
      head = intersect(joinTexts([head, ...plain.splice(0)]), item.negate ? complement(body) : body);
    } else if (hasAssertion(item)) {
      // Look-ahead and `$`; but look-behind at the same position still belongs to the head.
      const later = items.findIndex((other, at) => at > index && isBehind(other));
      if (later < 0) break;
      if (items.slice(index, later).every(hasAssertion)) {
        const swapped = [
          ...items.slice(0, index),
          items[later],
          ...items.slice(index, later),
          ...items.slice(later + 1),
        ];
        return splitSequence(swapped, around);
      }
      return null;
    } else plain.push(plainExpression(item));
  }
  head = joinTexts([head, ...plain]);
  const atStart = around.startsText && head.kind === "text" && head.text === "";
  let tail = around.right;
  for (let last = items.length - 1; last >= index; last--) {
    const item = items[last];
    if (!hasAssertion(item)) tail = joinTexts([plainExpression(item), tail]);
    else if (item.kind === "edge" && item.at === "end") {
      if (!around.endsText) return null;
      tail = onlyEmpty(tail);
    } else if (item.kind === "look" && !item.behind) {
      if (!around.endsText) return null;
      const body = splitLanguage(item.item, {
        left: EMPTY,
        right: ANY_TEXT,
        startsText: atStart && items.slice(index, last).every(hasAssertion),
        endsText: true,
      });
      if (!body) return null;
      tail = intersect(tail, item.negate ? complement(body) : body);
    } else return null;
  }
  return joinTexts([head, tail]);
}

function isBehind(item: RegexNode): boolean {
  return (item.kind === "look" && item.behind) || (item.kind === "edge" && item.at === "start");
}

/** The empty text if the expression has it, else nothing. */
function onlyEmpty(expression: Expression): Expression {
  return matchesEmpty(expression) ? EMPTY : NEVER;
}

function matchesEmpty(expression: Expression): boolean {
  switch (expression.kind) {
    case "text":
      return expression.text === "";
    case "sequence":
    case "and":
      return expression.items.every(matchesEmpty);
    case "choice":
      return expression.items.some(matchesEmpty);
    case "repeat":
      return expression.min === 0 || matchesEmpty(expression.item);
    case "not":
      return !matchesEmpty(expression.item);
    case "automaton":
      return expression.automaton.accepting[expression.state];
    default:
      return false;
  }
}
