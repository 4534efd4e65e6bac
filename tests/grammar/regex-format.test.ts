import { expect, test } from "vitest";
import { GrammarCompiler } from "../../src/grammar/compiler.js";
import { has } from "../../src/grammar/masks.js";
import { Vocabulary } from "../../src/grammar/vocabulary.js";
import { byteVocabulary } from "./vocabularies.js";

const SIGNS = new Set([..."()[]{}\\|?*+^$.-,:=!<>0123456789uxcpPbB"].map((c) => c.charCodeAt(0)));

test("every text of format regex is one that RegExp takes with the flag u", () => {
  const compiler = new GrammarCompiler(new Vocabulary(byteVocabulary()));
  const grammar = compiler.compile({ kind: "json_schema", schema: { type: "string", format: "regex" } });
  let state = 3;
  const below = (limit: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >> 8) % limit;
  };
  const found = new Set<string>();
  for (let walk = 0; walk < 600; walk++) {
    const matcher = grammar.matcher();
    const bytes: number[] = [];
    for (let left = 4 + below(40); !matcher.canTerminate(); left--) {
      const mask = matcher.mask(Math.max(1, left));
      const allowed = Array.from({ length: 256 }, (_, id) => id).filter((id) => has(mask, id));
      const signs = allowed.filter((id) => SIGNS.has(id));
      const from = signs.length > 0 && below(8) > 0 ? signs : allowed;
      const byte = from[below(from.length)] as number;
      matcher.acceptToken(byte);
      bytes.push(byte);
    }
    const source = JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes))) as string;
    found.add(source);
    expect(() => new RegExp(source, "u"), source).not.toThrow();
  }
  expect(found.size).toBeGreaterThan(500);
});
