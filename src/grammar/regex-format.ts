/**
 * `format: regex`: regular expressions of ECMA-262 as readers take them, with the `u` flag.
 *
 * Their syntax nests, so as a regular language it is cut off at a depth; and what would need counting or a memory is left
 * out: back-references, named groups, ranges between characters of different kinds. Narrower, never wider.
 */
import { charClass, choice, EMPTY, type Expression, notCharClass, optional, repeat, sequence, text } from "./ir.js";

/** Groups within groups. */
const MAX_DEPTH = 4;
const ENDLESS = Number.POSITIVE_INFINITY;

const any = (item: Expression): Expression => repeat(item, 0, ENDLESS);
const oneOf = (characters: string): Expression =>
  charClass([...characters].flatMap((c) => [c.codePointAt(0), c.codePointAt(0)] as number[]));
const noneOf = (characters: string): Expression =>
  notCharClass([...characters].flatMap((c) => [c.codePointAt(0), c.codePointAt(0)] as number[]));
const span = (lo: string, hi: string): Expression =>
  charClass([lo.codePointAt(0) as number, hi.codePointAt(0) as number]);

const DIGIT = span("0", "9");
const HEX = choice(DIGIT, span("a", "f"), span("A", "F"));
const SYNTAX = "^$\\.*+?()[]{}|/";
const CATEGORIES =
  "C Cc Cf Cn Co Cs L LC Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs";

/** After a backslash, in a class as well as outside: one character or a kind of characters. */
const ESCAPE = choice(
  oneOf("dDsSwWfnrtv"),
  oneOf(SYNTAX),
  sequence(text("c"), choice(span("a", "z"), span("A", "Z"))),
  sequence(text("x"), repeat(HEX, 2, 2)),
  sequence(text("u"), repeat(HEX, 4, 4)),
  sequence(
    text("u{"),
    repeat(text("0"), 0, 4),
    choice(repeat(HEX, 1, 5), sequence(text("10"), repeat(HEX, 4, 4))),
    text("}"),
  ),
  sequence(oneOf("pP"), text("{"), choice(...CATEGORIES.split(" ").map(text), text("ASCII"), text("Any")), text("}")),
);

const escaped = (...more: readonly Expression[]): Expression => sequence(text("\\"), choice(ESCAPE, ...more));

/** `[ ... ]`: hyphens stand in ranges of digits or letters, or at an end. */
function characterClass(): Expression {
  const ranges: Expression[] = [];
  for (const [lo, hi] of ["09", "az", "AZ"] as const) {
    const last = hi.charCodeAt(0);
    for (let c = lo.charCodeAt(0); c <= last; c++)
      ranges.push(sequence(text(`${String.fromCharCode(c)}-`), charClass([c, last])));
  }
  const item = choice(...ranges, noneOf("\\]-^"), escaped(text("b"), text("-")));
  const hyphen = optional(text("-"));
  // A caret that comes first negates; the next one is a character.
  return sequence(text("["), optional(text("^")), hyphen, any(choice(item, text("^"))), hyphen, text("]"));
}

/** `{2}`, `{2,}`, `{2,5}`: of one or two digits, the second not below the first. */
function counted(): Expression {
  const upTo: Expression[] = [];
  const number = choice(DIGIT, sequence(span("1", "9"), DIGIT));
  for (let n = 0; n <= 9; n++) {
    const digit = String(n);
    const fromDigit = span(digit, "9");
    upTo.push(sequence(text(`${digit},`), choice(fromDigit, sequence(span("1", "9"), repeat(DIGIT, 1, 2)))));
    if (n === 0) continue;
    for (let m = 0; m <= 9; m++) {
      const same = sequence(text(digit), span(String(m), "9"));
      const more = n < 9 ? sequence(span(String(n + 1), "9"), DIGIT) : sequence(span("1", "9"), DIGIT, DIGIT);
      const three = sequence(span("1", "9"), DIGIT, DIGIT);
      upTo.push(sequence(text(`${digit}${m},`), choice(same, more, three)));
    }
  }
  const least = sequence(choice(number, sequence(span("1", "9"), DIGIT, DIGIT)), optional(text(",")));
  return sequence(text("{"), choice(least, ...upTo), text("}"));
}

/** All such texts. */
export function regexFormat(): Expression {
  const quantifier = sequence(choice(oneOf("*+?"), counted()), optional(text("?")));
  const simple = choice(noneOf(SYNTAX.replace("/", "")), text("."), escaped(), characterClass());
  const edge = choice(oneOf("^$"), text("\\b"), text("\\B"));
  let inner: Expression = EMPTY;
  for (let depth = 0; depth <= MAX_DEPTH; depth++) {
    const groups = depth === 0 ? [] : [sequence(text("("), optional(text("?:")), inner, text(")"))];
    const looks =
      depth === 0 ? [] : [sequence(text("(?"), choice(...["=", "!", "<=", "<!"].map(text)), inner, text(")"))];
    const term = choice(edge, ...looks, sequence(choice(simple, ...groups), optional(quantifier)));
    const alternative = any(term);
    inner = sequence(alternative, any(sequence(text("|"), alternative)));
  }
  return inner;
}
