/** Vocabularies for tests: bytes alone, and invented ones with the awkward tokens real ones have. */
import type { TokenSource } from "../../src/grammar/vocabulary.js";

const utf8 = new TextEncoder();

export function tokenSource(tokens: readonly Uint8Array[], eosTokenIds: readonly number[]): TokenSource {
  const special = new Set(eosTokenIds);
  return {
    vocabSize: tokens.length,
    eosTokenIds,
    tokenBytes: (id) => tokens[id] as Uint8Array,
    isSpecial: (id) => special.has(id),
  };
}

/** Token n is byte n; 256 ends the text. */
export function byteVocabulary(): TokenSource {
  return tokenSource([...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)), new Uint8Array(0)], [256]);
}

const PIECES = [
  '{"',
  '":',
  '": ',
  '",',
  '", "',
  '"}',
  "},",
  "[{",
  "}]",
  "[]",
  "{}",
  '""',
  "\n",
  "\n  ",
  "  ",
  "true",
  "false",
  "null",
  "tr",
  "ue",
  "10",
  "100",
  "0.5",
  "-1",
  "e5",
  "name",
  "age",
  "type",
  "item",
  "the ",
  " and",
  "hello",
  "ä",
  "日本",
  "🙂",
  '\\"',
  "\\n",
  "\\u00",
  'a"',
  'b":{',
  "id",
  "kind",
  "circle",
  "square",
  "value",
  "2024-",
  "-01-",
  "T10:",
  "abc",
  "xyz",
];

/** Bytes, words, pieces of JSON, halves of characters, two ids for one text, padding, and two end tokens. */
export function mixedVocabulary(): TokenSource {
  const tokens = [
    ...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)),
    ...PIECES.map((piece) => utf8.encode(piece)),
    utf8.encode("name"),
    utf8.encode("日").subarray(0, 2),
    utf8.encode("🙂").subarray(0, 3),
    Uint8Array.of(0x82, 0x22),
    new Uint8Array(0),
    new Uint8Array(0),
    new Uint8Array(0),
  ];
  return tokenSource(tokens, [tokens.length - 2, tokens.length - 1]);
}

/** Runs of up to 40 letters: longer than the slices a vocabulary keeps. */
export function longTokenVocabulary(): TokenSource {
  const runs = Array.from({ length: 40 }, (_, n) => utf8.encode("a".repeat(n + 1)));
  const bytes = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));
  return tokenSource([...runs, ...bytes, utf8.encode('aa"'), utf8.encode('a","'), new Uint8Array(0)], [298]);
}
