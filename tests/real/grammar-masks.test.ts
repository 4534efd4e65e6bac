import { test } from "vitest";
import { GrammarCompiler } from "../../src/grammar/compiler.js";
import { Vocabulary } from "../../src/grammar/vocabulary.js";
import { loadTokenizer } from "../../src/tokenizer/index.js";
import { openCheckpoint, resolveModel } from "../../src/weights/index.js";
import { expectExactMasks } from "../grammar/exact-masks.js";
import { SCHEMAS } from "../grammar/schemas.js";

const MORE = [
  { type: "string", maxLength: 20, pattern: "^[a-z]+( [a-z]+)*$" },
  { type: "string", minLength: 3, maxLength: 40, format: "email" },
  { type: "object", properties: { name: true, nine: true }, additionalProperties: { type: "integer" } },
];

test("a mask of a real vocabulary has exactly the tokens whose bytes can be read", async () => {
  const opened = await openCheckpoint((await resolveModel("smollm2-135m")).path);
  if (opened.tokenizer === null) throw new Error("the model has no tokenizer");
  const vocabulary = new Vocabulary(loadTokenizer(opened.tokenizer));
  await opened.close?.();
  const compiler = new GrammarCompiler(vocabulary);
  const schemas = [...SCHEMAS.map(({ schema }) => schema), ...MORE];
  for (const [index, schema] of schemas.entries()) {
    const propertyOrder = index % 2 === 0 ? "any" : "declared";
    expectExactMasks(compiler, { kind: "json_schema", schema, propertyOrder }, 4, index);
  }
});
