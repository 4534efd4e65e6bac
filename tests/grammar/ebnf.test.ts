import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SglangError } from "../../src/core/errors.js";
import { parseEbnf } from "../../src/grammar/ebnf.js";
import { grammarMatches } from "./expression-matcher.js";

const JSON_GRAMMAR = `
# JSON as XGrammar's documentation writes it
root ::= basic_array | basic_object
basic_any ::= basic_number | basic_string | basic_boolean | basic_null | basic_array | basic_object
basic_integer ::= ("0" | "-"? [1-9] [0-9]*) ".0"?
basic_number ::= ("0" | "-"? [1-9] [0-9]*) ("." [0-9]+)? ([eE] [+-]? [0-9]+)?
basic_string ::= (([\\"] basic_string_1 [\\"]))
basic_string_1 ::= "" | [^"\\\\\\r\\n] basic_string_1 | "\\\\" escape basic_string_1
escape ::= ["\\\\/bfnrt] | "u" [A-Fa-f0-9] [A-Fa-f0-9] [A-Fa-f0-9] [A-Fa-f0-9]
basic_boolean ::= "true" | "false"
basic_null ::= "null"
basic_array ::= "[" ("" | ws basic_any (ws "," ws basic_any)*) ws "]"
basic_object ::= "{" ("" | ws basic_string ws ":" ws basic_any ( ws "," ws basic_string ws ":" ws basic_any)*) ws "}"
ws ::= [ \\n\\t]*
`;

describe("EBNF matches what its rules say", () => {
  it.each<[grammar: string, yes: readonly string[], no: readonly string[]]>([
    ['root ::= "a"', ["a"], ["", "aa", "b"]],
    ['root ::= "a" | "b" "c" | ""', ["a", "bc", ""], ["b", "abc"]],
    ['root ::= ("a" | "b")* "c"', ["c", "abac"], ["ab"]],
    ['root ::= "a"{2,3} "b"{2} "c"{1,}', ["aabbc", "aaabbcc"], ["abbc", "aabc", "aabb"]],
    ['root ::= "a"{,2}', ["", "a", "aa"], ["aaa"]],
    ["root ::= [a-c-] [^a-c]? [\\]\\\\]", ["a]", "-x\\", "b\u{1F600}]"], ["d]", "ab]", "a"]],
    ['root ::= "\\n\\t\\"\\\\\\x41\\u00e9\\U0001F600"', ['\n\t"\\Aé😀'], ["n"]],
    ["root ::= [\\u4e00-\\u9fff]+", ["中文"], ["a"]],
    ['root ::= item ("," item)*\nitem ::= [0-9]+\n# the end', ["1", "1,22,3"], [",", "1,"]],
    ['root ::=\n  "a"\n  | "b"\nother ::= root', ["a", "b"], ["ab"]],
    ['root ::= "(" root ")" | ""', ["", "(())"], ["(", "())"]],
    ['a.b-c_1 ::= "x" root ::= a.b-c_1 "y"', ["xy"], ["x"]],
    ['root ::= "a"**?', ["", "aaa"], ["b"]],
    [
      JSON_GRAMMAR,
      ["[]", '{"a": [1, -2.5e+3, "x\\u00e9", null]}', "[ true ,{} ]"],
      ["1", "[01]", '{"a" 1}', '["\\x"]', "[1,]"],
    ],
  ])("%s", (grammar, yes, no) => {
    const definition = parseEbnf(grammar);
    expect(yes.filter((text) => !grammarMatches(definition, text))).toEqual([]);
    expect(no.filter((text) => grammarMatches(definition, text))).toEqual([]);
  });

  it("begins at another rule when asked", () => {
    const definition = parseEbnf('main ::= "m"\nroot ::= "r"', "main");
    expect(grammarMatches(definition, "m")).toBe(true);
    expect(grammarMatches(definition, "r")).toBe(false);
  });
});

describe("EBNF errors name line, column and the way out", () => {
  it.each([
    ["", /line 1, column 1: there is no rule root; add `root ::= \.\.\.`/],
    ['start ::= "a"', /there is no rule root/],
    ['root ::= "a', /line 1, column 10: the string does not end; close it with "/],
    ['root ::= "a"\nb ::= [a-', /line 2, column 7: the character class does not end/],
    ["root ::= item", /line 1, column 10: rule item is not defined; add `item ::= \.\.\.`/],
    ['root ::= "a"\nroot ::= "b"', /line 2, column 1: rule root is defined twice; join the two with \|/],
    ['root ::= ("a"', /the end of the grammar where the group should end/],
    ['root ::= "a")', /line 1, column 13: "\)" where a rule should begin/],
    ['root ::= "a"{3,2}', /\{3,2\} has its bounds swapped/],
    ['root ::= "a"{x}', /the repetition is malformed/],
    ['root ::= "a"{99999999}', /too large; count to 1000000/],
    ["root ::= [z-a]", /the range z-a is reversed/],
    ['root ::= "\\q"', /the escape \\q is unknown/],
    ['root ::= "\\u12"', /\\u needs 4 hexadecimal digits/],
    ['root ::= "\\uD800"', /U\+D800 is not a character/],
    ['root ::= "\\x41B"', /\\x41B is ambiguous; write \\u0041 before the digit B/],
    ['root ::= "a" (= "b")', /a look-ahead assertion \(= \.\.\.\) can't be enforced/],
    ['root ::= TagDispatch(("a", b))', /a macro about tokens can't be enforced/],
    ['root = "a"', /"=" after the rule name root; write "::=" there/],
    ["root ::= .", /"\." is not part of an expression/],
    [`root ::= ${"(".repeat(500)}`, /nested more than 200 deep/],
  ])("%j", (grammar, message) => {
    expect(() => parseEbnf(grammar)).toThrow(SglangError);
    expect(() => parseEbnf(grammar)).toThrow(message);
  });

  it("any text either parses or is refused with INVALID_REQUEST", () => {
    const piece = fc.constantFrom(
      "root ::= ",
      "x ::= ",
      '"a"',
      "[a-z]",
      "(",
      ")",
      "|",
      "*",
      "{1,2}",
      "\\",
      '"',
      "[",
      "]",
      "^",
      "-",
      "\n",
      "#",
      "x",
      "\ud800",
      "😀",
      "(=",
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        try {
          parseEbnf(pieces.join(""));
        } catch (error) {
          expect(error).toBeInstanceOf(SglangError);
          expect((error as SglangError).code).toBe("INVALID_REQUEST");
        }
      }),
      { numRuns: 1000, seed: 7 },
    );
  });
});
