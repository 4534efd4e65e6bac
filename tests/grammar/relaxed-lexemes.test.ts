import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Encoder } from "../../src/grammar/encode.js";
import { Lexemes, NEVER } from "../../src/grammar/lexeme.js";
import { regexToExpression } from "../../src/grammar/regex.js";
import { LEAST_REACH, RelaxedLexemes } from "../../src/grammar/relaxed-lexemes.js";

const lexemes = new Lexemes();
const encoder = new Encoder(lexemes);
const relaxed = new RelaxedLexemes(lexemes, 40);
const pattern = (source: string): number => encoder.lexeme(regexToExpression(source), "json");

/** Bounded alone, in a sequence, in a choice, and in intersections whose sides complete each other or do not. */
const BOUNDED = [
  pattern("[^b]{0,12}c"),
  pattern("([^b]{2,9}|[^c]{10,30}-)d?"),
  pattern("a([^ ]{1,3} ){3,20}"),
  lexemes.and([pattern("[^b]{0,14}"), pattern("(a|[^b]c)*")]),
  lexemes.and([pattern("[^b]{0,12}"), pattern("a*|a{3}[^a]*ccc")]),
  lexemes.and([pattern("[^b]{0,12}"), pattern("([^b]{5})*")]),
  lexemes.and([pattern("[^b]{3,10}"), pattern("[^b]*c{20}|[^b]*")]),
];

const read = (lexeme: number, text: string): number => {
  let at = lexeme;
  for (let i = 0; i < text.length && at !== NEVER; i++) at = lexemes.next(at, text.charCodeAt(i));
  return at;
};

describe("a lexeme without its upper bounds", () => {
  test("treats all texts within its reach as the lexeme does, and takes all that the lexeme takes", () => {
    let changed = 0;
    for (const lexeme of BOUNDED) {
      const { lexeme: open, reach } = relaxed.of(lexeme);
      if (open !== lexeme) {
        changed++;
        expect(reach).toBeGreaterThanOrEqual(LEAST_REACH);
      }
      const texts = fc.array(fc.constantFrom("a", "b", "c", "-", " "), { maxLength: 40 }).map((list) => list.join(""));
      fc.assert(
        fc.property(texts, (text) => {
          const bounded = read(lexeme, text);
          const free = read(open, text);
          if (text.length <= reach) {
            expect(free === NEVER).toBe(bounded === NEVER);
            if (free !== NEVER) expect(lexemes.nullable(free)).toBe(lexemes.nullable(bounded));
          }
          if (bounded !== NEVER) {
            expect(free).not.toBe(NEVER);
            if (lexemes.nullable(bounded)) expect(lexemes.nullable(free)).toBe(true);
          }
        }),
        { numRuns: 400 },
      );
    }
    expect(changed).toBeGreaterThanOrEqual(4);
  });

  test("is the lexeme itself where bounds are met at once", () => {
    const short = pattern("[^b]{0,3}c");
    expect(relaxed.of(short).lexeme).toBe(short);
  });
});

describe("a lexeme with exceptions", () => {
  test("goes on as the one without them after every byte that begins none of them", () => {
    const key = lexemes.and([pattern("[^b]*"), lexemes.not(pattern("name|nine|"))]);
    const lexeme = lexemes.cat(key, pattern("b"));
    const found = lexemes.exceptions(lexeme);
    if (found === undefined) throw new Error("no exceptions found");
    for (let byte = 0; byte < 256; byte++) {
      if (((found.bits[byte >> 5] as number) & (1 << (byte & 31))) !== 0) continue;
      expect(lexemes.next(lexeme, byte)).toBe(lexemes.next(found.without, byte));
    }
    expect(lexemes.next(lexeme, 0x6e)).not.toBe(lexemes.next(found.without, 0x6e));
    expect(lexemes.next(lexeme, 0x62)).toBe(NEVER);
  });
});
