import { describe, expect, it } from "vitest";
import { SglangError } from "../../src/core/errors.js";
import { parseGbnf } from "../../src/grammar/gbnf.js";
import { grammarMatches } from "./expression-matcher.js";

const CHESS = `
# A game of chess, as in llama.cpp
root   ::= (
    # it must start with the characters "1. " followed by a sequence
    "1. " move " " move "\\n"
    ([1-9] [0-9]? ". " move " " move "\\n")+
)
move   ::= (pawn | nonpawn | castle) [+#]?
nonpawn ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
pawn   ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
castle ::= "O-O" "-O"?
`;

describe("GBNF matches what its rules say", () => {
  it.each<[grammar: string, yes: readonly string[], no: readonly string[]]>([
    ['root ::= .{2} "x"', ["abx", "😀\nx"], ["ax", "abcx"]],
    ['root ::= "\\x41B" [\\x30-\\x39]', ["AB0"], ["\u041b0"]],
    ['root ::= a-1 a-1\na-1 ::= "x" |\n  "y"', ["xy", "yy"], ["x"]],
    ['1st ::= "a"\nroot ::= 1st', ["a"], ["b"]],
    [
      'root ::= expr\nexpr ::= term ([-+*/] term)*\nterm ::= num | "(" expr ")"\nnum ::= [0-9]+',
      ["1+2*(3-4)"],
      ["1+", "()"],
    ],
    ['root ::= [^\\n]+ "\\n"', ['hello "x"\n'], ["\n", "a\nb\n"]],
    [CHESS, ["1. e4 e5\n2. Nf3 Nc6\n", "1. exd8=Q+ O-O\n12. O-O-O Qh4#\n"], ["1. e4 e5\n", "1. e9 e5\n2. Nf3 Nc6\n"]],
  ])("%s", (grammar, yes, no) => {
    const definition = parseGbnf(grammar);
    expect(yes.filter((text) => !grammarMatches(definition, text))).toEqual([]);
    expect(no.filter((text) => grammarMatches(definition, text))).toEqual([]);
  });
});

describe("GBNF errors name what can't be enforced", () => {
  it.each([
    [
      "root ::= <[1000]>",
      /gbnf, line 1, column 10: a token reference can't be enforced; write the text of the token as a string/,
    ],
    ["root ::= !<think>", /a token reference can't be enforced/],
    ["root ::= 'a'", /"'" is not part of an expression/],
    ["", /there is no rule root/],
  ])("%j", (grammar, message) => {
    expect(() => parseGbnf(grammar)).toThrow(SglangError);
    expect(() => parseGbnf(grammar)).toThrow(message);
  });
});
