/** What the tests of the front ends ask of an expression: does it match this text? Answered by the engine's own automata. */
import { Encoder } from "../../src/grammar/encode.js";
import type { Expression } from "../../src/grammar/ir.js";
import { Lexemes, NEVER } from "../../src/grammar/lexeme.js";

const lexemes = new Lexemes();
const encoder = new Encoder(lexemes);
const utf8 = new TextEncoder();

/** Whether the regular `expression` matches exactly these bytes. */
export function matchesBytes(expression: Expression, bytes: Uint8Array): boolean {
  let lexeme = encoder.lexeme(expression, "utf8");
  for (const byte of bytes) lexeme = lexemes.next(lexeme, byte);
  return lexeme !== NEVER && lexemes.nullable(lexeme);
}

export function matches(expression: Expression, text: string): boolean {
  return matchesBytes(expression, utf8.encode(text));
}
