import fc from "fast-check";
import { expect, it } from "vitest";
import { generateSchema } from "../../src/server/generate-request.js";
import { chatSchema, completionSchema } from "../../src/server/openai-schema.js";
import { samplingParamsSchema } from "../../src/server/sampling.js";
import { harness } from "./harness.js";

const scalar = fc.oneof(
  fc.constantFrom(
    null,
    true,
    false,
    0,
    1,
    -1,
    2,
    1e308,
    0.5,
    "",
    "a",
    "none",
    "auto",
    "user",
    "function",
    "text",
    [],
    {},
    [[]],
    [1, 2],
    [[1], [2]],
    ["a", "b"],
  ),
  fc.string({ maxLength: 5 }),
  fc.integer(),
);
const keys = [
  ...Object.keys(generateSchema.shape),
  ...Object.keys(chatSchema.shape),
  ...Object.keys(completionSchema.shape),
  ...Object.keys(samplingParamsSchema.shape),
  ...[
    "role",
    "content",
    "type",
    "function",
    "name",
    "arguments",
    "tool_calls",
    "query",
    "items",
    "label_token_ids",
    "tokens",
    "input",
    "constructor",
    "toString",
  ],
];
const json: fc.Arbitrary<unknown> = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    scalar,
    fc.array(tie("value"), { maxLength: 3 }),
    fc.dictionary(fc.constantFrom(...keys), tie("value"), { maxKeys: 4 }),
  ),
})).value;

const BASES: readonly (readonly [url: string, base: object])[] = [
  ["/generate", { text: "a" }],
  ["/v1/chat/completions", { messages: [{ role: "user", content: "a" }] }],
  ["/v1/completions", { prompt: "a" }],
  ["/v1/embeddings", { input: "a" }],
  ["/encode", { text: "a" }],
  ["/v1/score", { query: "a", items: ["b"], label_token_ids: [1] }],
  ["/tokenize", { prompt: "a" }],
  ["/detokenize", { tokens: [1] }],
  ["/abort_request", { rid: "a" }],
];

it.each(BASES)("%s answers any JSON body with 200 or 400, and a 400 says why", async (url, base) => {
  const { post, engine } = await harness();
  const body = fc.oneof(
    json,
    fc.dictionary(fc.constantFrom(...keys), json, { maxKeys: 3 }).map((extra) => ({ ...base, ...extra })),
  );
  await fc.assert(
    fc.asyncProperty(body, async (given) => {
      const reply = await post(url, JSON.stringify(given));
      expect([200, 400], `${reply.text} for ${JSON.stringify(given)}`).toContain(reply.status);
      if (reply.status === 400)
        expect((reply.body as { error: { message: string } }).error.message).toMatch(/\w.*[.?]$/s);
    }),
    { numRuns: 200 },
  );
  expect(engine.running).toBe(0);
});
