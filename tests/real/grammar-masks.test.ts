import { expect, test } from "vitest";
import { DEAD } from "../../src/grammar/automaton.js";
import { GrammarCompiler } from "../../src/grammar/compiler.js";
import { has } from "../../src/grammar/masks.js";
import { Vocabulary } from "../../src/grammar/vocabulary.js";
import { loadTokenizer } from "../../src/tokenizer/index.js";
import { openCheckpoint, resolveModel } from "../../src/weights/index.js";
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
    const grammar = compiler.compile({
      kind: "json_schema",
      schema,
      propertyOrder: index % 2 === 0 ? "any" : "declared",
    });
    let at = grammar.automaton.start;
    for (let step = 0; step < 4; step++) {
      const mask = grammar.masks.compute(at);
      const live: number[] = [];
      for (let id = 0; id < vocabulary.vocabSize; id++) {
        const ordinary = vocabulary.ordinary[id] === 1;
        const to = ordinary ? grammar.automaton.read(at, vocabulary.bytesOf(id)) : DEAD;
        const ends = vocabulary.eosTokenIds.includes(id) && grammar.automaton.accepts(at);
        if (has(mask, id) !== (to !== DEAD || ends)) expect.fail(`${JSON.stringify(schema)} step ${step} token ${id}`);
        if (to !== DEAD) live.push(to);
      }
      if (live.length === 0) break;
      at = live[(index * 31 + step * 17) % live.length] as number;
    }
  }
});
