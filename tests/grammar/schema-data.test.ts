import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { SglangError } from "../../src/core/errors.js";
import { GrammarCompiler } from "../../src/grammar/compiler.js";
import { parseJsonText } from "../../src/grammar/json-text.js";
import { Vocabulary } from "../../src/grammar/vocabulary.js";
import { byteVocabulary } from "./vocabularies.js";

/** Lines of {id, schema, tests: [{valid, data}]}, gzipped. */
const file = process.env.SGLANG_SCHEMA_DATA;

test.skipIf(file === undefined)(
  "no invalid instance of real schemas is accepted (a sample)",
  () => {
    const compiler = new GrammarCompiler(new Vocabulary(byteVocabulary()));
    const lines = gunzipSync(readFileSync(file as string))
      .toString()
      .split("\n")
      .filter((line) => line !== "");
    const wrong: string[] = [];
    for (let i = 0; i < lines.length; i += 10) {
      const line = lines[i] as string;
      const row = JSON.parse(line) as { id: string; tests: { valid: boolean; data: unknown }[] };
      const schema = parseJsonText(line);
      if (!(schema instanceof Map)) throw new Error(`line ${i} is no object`);
      try {
        const grammar = compiler.compile({ kind: "json_schema", schema: schema.get("schema") });
        for (const { valid, data } of row.tests) {
          const matcher = grammar.matcher();
          if (!valid && matcher.acceptText(JSON.stringify(data)) && matcher.canTerminate()) wrong.push(row.id);
        }
      } catch (error) {
        if (!SglangError.isInstance(error)) throw error;
      }
    }
    expect(wrong).toEqual([]);
  },
  60_000,
);
