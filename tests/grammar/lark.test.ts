import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SglangError } from "../../src/core/errors.js";
import { parseLark } from "../../src/grammar/lark.js";
import { LARK_COMMON } from "../../src/grammar/lark-common.js";
import { grammarMatches } from "./expression-matcher.js";

const JSON_GRAMMAR = `
?start: value
?value: object
      | array
      | string
      | SIGNED_NUMBER      -> number
      | "true"             -> true
      | "false"            -> false
      | "null"             -> null
array  : "[" [value ("," value)*] "]"
object : "{" [pair ("," pair)*] "}"
pair   : string ":" value
string : ESCAPED_STRING
%import common.ESCAPED_STRING
%import common.SIGNED_NUMBER
%import common.WS
%ignore WS
`;

const CALCULATOR = `
// with priorities and an alias for a terminal
start: sum
sum: product (("+" | "-") product)*
product.2: atom (("*" | "/") atom)*
atom: NUM | "-" atom | "(" sum ")"
%import common.NUMBER -> NUM
%import common (WS_INLINE, CNAME)
%ignore WS_INLINE
`;

describe("Lark grammars match what their rules say", () => {
  it.each<[grammar: string, yes: readonly string[], no: readonly string[]]>([
    ['start: "a" "b"?', ["a", "ab"], ["b", "a b"]],
    ['start: "a"~2 ("b" | "c")~1..2', ["aab", "aacb"], ["ab", "aabcb"]],
    ['start: A B\nA: /[0-9]+/\nB.2: "x" | "y" A', ["1x", "12y3"], ["x", "1y"]],
    ['start: KEYWORD\nKEYWORD: "select"i', ["select", "SeLeCt"], ["selec"]],
    ["start: /a.c/is /\\d{2}/", ["A\nc12", "abc00"], ["ac12"]],
    ['start: "a".."f" "\\u00e9" "\\x41"', ["aéA", "féA"], ["géA"]],
    ['start: [a] "c"\na: "x"\n | "y" // or y\n', ["xc", "yc", "c"], ["xyc"]],
    ['!start: "(" start ")" | ', ["", "(())"], ["("]],
    ['start: _list\n_list: _ITEM ("," _ITEM)*\n_ITEM: /[a-z]+/', ["a,b"], ["a,"]],
    [JSON_GRAMMAR, ['{"a": [1, -2.5e3 , "x\\"y"]}', " null ", "[]"], ["[1,]", "{a:1}", "tru e"]],
    [CALCULATOR, ["1+2*(3 - -4)", " 1.5 / 2 "], ["1+", "1 2", "1\n+2"]],
  ])("%s", (grammar, yes, no) => {
    const definition = parseLark(grammar);
    expect(yes.filter((text) => !grammarMatches(definition, text))).toEqual([]);
    expect(no.filter((text) => grammarMatches(definition, text))).toEqual([]);
  });

  it("every common terminal is a regular expression that matches its example", () => {
    const examples: Record<string, string> = {
      DIGIT: "7",
      HEXDIGIT: "f",
      INT: "42",
      SIGNED_INT: "-42",
      DECIMAL: ".5",
      FLOAT: "1e5",
      SIGNED_FLOAT: "+1.",
      NUMBER: "3.14",
      SIGNED_NUMBER: "-3",
      ESCAPED_STRING: '"a\\"b"',
      LCASE_LETTER: "x",
      UCASE_LETTER: "X",
      LETTER: "q",
      WORD: "word",
      CNAME: "_a1",
      WS_INLINE: " \t",
      WS: "\r\n",
      CR: "\r",
      LF: "\n",
      NEWLINE: "\r\n\n",
      SH_COMMENT: "# x",
      CPP_COMMENT: "// x",
      C_COMMENT: "/* a **/",
      SQL_COMMENT: "-- x",
    };
    expect(Object.keys(examples).sort()).toEqual(Object.keys(LARK_COMMON).sort());
    for (const [name, example] of Object.entries(examples)) {
      const definition = parseLark(`start: ${name}\n%import common.${name}`);
      expect(grammarMatches(definition, example), name).toBe(true);
      expect(grammarMatches(definition, `${example}§`), name).toBe(name.endsWith("COMMENT") && name !== "C_COMMENT");
    }
  });
});

describe("Lark errors name line, column and the way out", () => {
  it.each([
    ["", /there is no rule start/],
    ["start: item", /line 1, column 8: rule item is not defined/],
    ["start: ITEM", /terminal ITEM is not defined; add `ITEM: \.\.\.` or %import common\.ITEM/],
    ['start: A\nA: "x" A', /line 2, column 1: terminal A refers to itself; make it a rule/],
    ['start: A\nA: "x" start', /line 2, column 8: the terminal uses the rule start/],
    ['start: "a"\nstart: "b"', /start is defined twice/],
    ['start: "a" )', /"\)" after the definition of start/],
    ['start: ("a"', /where the group should end/],
    ['start: "a', /the string does not end/],
    ["start: /a", /the regular expression does not end/],
    ["start: /a/x", /the flags "x" are not supported/],
    ["start: /(a)\\1/", /back-reference/],
    ['start: "a"~3..2', /out of range/],
    ['start: "ab".."c"', /a range needs two characters/],
    ['start: sep{"a", ","}', /templates are not supported/],
    ["%declare A\nstart: A", /line 1, column 1: %declare is not supported/],
    ["%import .other.X\nstart: X", /not from the common terminals/],
    ["%import common.NOPE\nstart: NOPE", /common\.NOPE is unknown; use one of DIGIT/],
    ['start: "\\q"', /the escape \\q is unknown/],
  ])("%j", (grammar, message) => {
    expect(() => parseLark(grammar)).toThrow(SglangError);
    expect(() => parseLark(grammar)).toThrow(message);
  });

  it("any text either parses or is refused with INVALID_REQUEST", () => {
    const piece = fc.constantFrom(
      "start: ",
      "A: ",
      "x: ",
      '"a"',
      "/b/",
      "(",
      ")",
      "[",
      "]",
      "|",
      "*",
      "~2",
      "..",
      "\\",
      '"',
      "/",
      "\n",
      "%ignore ",
      "%import common.WS",
      "A",
      "x",
      "->",
      "😀",
      "{",
      "i",
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        try {
          parseLark(pieces.join(""));
        } catch (error) {
          expect(error).toBeInstanceOf(SglangError);
          expect((error as SglangError).code).toBe("INVALID_REQUEST");
        }
      }),
      { numRuns: 1000, seed: 7 },
    );
  });
});
