/** Every spelling of a constraint, on every route, as the engine gets it. */
import { describe, expect, it } from "vitest";
import type { Constraint } from "../../src/core/protocol.js";
import { GrammarCompiler, Vocabulary } from "../../src/grammar/index.js";
import { fakeTokenizer } from "./fake-engine.js";
import { harness } from "./harness.js";

const SCHEMA = { type: "object", properties: { b: { type: "string" }, a: { type: "integer" } }, required: ["a"] };
const TAG = { type: "structural_tag", format: { type: "const_string", value: "x" } };
const CHAT = { model: "default", messages: [{ role: "user", content: "Hi" }] };
const TOOLS = [
  {
    type: "function",
    function: { name: "add", parameters: { type: "object", properties: { a: { type: "integer" } }, required: ["a"] } },
  },
  { type: "function", function: { name: "now" } },
];

describe("/generate takes", () => {
  const FIELDS: readonly (readonly [field: string, value: unknown, constraint: Constraint])[] = [
    ["json_schema", JSON.stringify(SCHEMA), { type: "jsonSchema", schema: JSON.stringify(SCHEMA) }],
    ["json_schema", SCHEMA, { type: "jsonSchema", schema: SCHEMA }],
    ["regex", "a+", { type: "regex", pattern: "a+" }],
    ["ebnf", 'root ::= "a"', { type: "ebnf", grammar: 'root ::= "a"' }],
    ["structural_tag", JSON.stringify(TAG), { type: "structuralTag", tag: JSON.stringify(TAG) }],
  ];

  it.each(FIELDS)("%s %j", async (field, value, constraint) => {
    const { engine, post } = await harness();
    const reply = await post("/generate", { text: "a", sampling_params: { [field]: value, max_new_tokens: 4 } });
    expect(reply.status).toBe(200);
    expect(engine.requests[0]).toMatchObject({ constraint, samplingParams: { maxNewTokens: 4 } });
  });

  it("one constraint per item of a batch, and close_on_budget beside it", async () => {
    const { engine, post } = await harness();
    const sampling_params = [{ regex: "a", close_on_budget: true }, { temperature: 0 }];
    await post("/generate", { text: ["a", "b"], sampling_params });
    expect(engine.requests[0]).toMatchObject({ constraint: { type: "regex", pattern: "a" }, closeOnBudget: true });
    expect(engine.requests[1]).not.toHaveProperty("constraint");
    expect(engine.requests[1]).not.toHaveProperty("closeOnBudget");
  });

  it("no two at once", async () => {
    const { engine, post } = await harness();
    const reply = await post("/generate", { text: "a", sampling_params: { regex: "a", ebnf: "b" } });
    expect(reply).toMatchObject({ status: 400, body: { error: { param: "sampling_params.ebnf" } } });
    expect(reply.text).toContain("sampling_params.regex and sampling_params.ebnf were both given");
    expect(engine.requests).toHaveLength(0);
  });
});

const OPENAI: readonly (readonly [what: string, body: object, constraint: Constraint | undefined])[] = [
  ["response_format text", { response_format: { type: "text" } }, undefined],
  ["response_format json_object", { response_format: { type: "json_object" } }, { type: "jsonObject" }],
  [
    "response_format json_schema",
    { response_format: { type: "json_schema", json_schema: { name: "x", strict: true, schema: SCHEMA } } },
    { type: "jsonSchema", schema: SCHEMA },
  ],
  ["response_format structural_tag", { response_format: TAG }, { type: "structuralTag", tag: TAG }],
  ["SGLang's regex", { regex: "a" }, { type: "regex", pattern: "a" }],
  ["SGLang's ebnf", { ebnf: "root ::= [a]" }, { type: "ebnf", grammar: "root ::= [a]" }],
  ["SGLang's json_schema", { json_schema: "{}" }, { type: "jsonSchema", schema: "{}" }],
  ["vLLM's guided_json", { guided_json: SCHEMA }, { type: "jsonSchema", schema: SCHEMA }],
  ["vLLM's guided_regex", { guided_regex: "a" }, { type: "regex", pattern: "a" }],
  ["vLLM's guided_choice", { guided_choice: ["a", "b"] }, { type: "choices", choices: ["a", "b"] }],
  ["vLLM's guided_grammar", { guided_grammar: "root ::= [a]" }, { type: "ebnf", grammar: "root ::= [a]" }],
  ["vLLM's guided_grammar in Lark", { guided_grammar: 'start: "a"' }, { type: "lark", grammar: 'start: "a"' }],
  ["structured_outputs.json", { structured_outputs: { json: SCHEMA } }, { type: "jsonSchema", schema: SCHEMA }],
  ["structured_outputs.choice", { structured_outputs: { choice: ["a"] } }, { type: "choices", choices: ["a"] }],
  ["structured_outputs.json_object", { structured_outputs: { json_object: true } }, { type: "jsonObject" }],
];

describe.each([
  ["/v1/chat/completions", CHAT],
  ["/v1/completions", { model: "default", prompt: "Hi" }],
])("%s takes", (url, base) => {
  it.each(OPENAI)("%s", async (_, body, constraint) => {
    const { engine, post } = await harness();
    expect((await post(url, { ...base, ...body })).status).toBe(200);
    expect(engine.requests[0].constraint).toEqual(constraint);
  });

  it.each([
    ["an unknown response_format", { response_format: { type: "xml" } }, "response_format.type"],
    [
      "a schema without a schema",
      { response_format: { type: "json_schema", json_schema: {} } },
      "response_format.json_schema.schema",
    ],
    [
      "an unknown member of response_format",
      { response_format: { type: "json_object", schema: {} } },
      "response_format.schema",
    ],
    ["an unknown member of structured_outputs", { structured_outputs: { xml: 1 } }, "structured_outputs.xml"],
    ["two in structured_outputs", { structured_outputs: { regex: "a", choice: ["a"] } }, "structured_outputs.choice"],
    ["two constraints", { guided_regex: "a", response_format: { type: "json_object" } }, "guided_regex"],
    ["another grammar engine", { guided_decoding_backend: "outlines" }, "guided_decoding_backend"],
  ])("not %s", async (_, body, param) => {
    const { engine, post } = await harness();
    expect(await post(url, { ...base, ...body })).toMatchObject({ status: 400, body: { error: { param } } });
    expect(engine.requests).toHaveLength(0);
  });
});

describe("tool calls that must be", () => {
  const compiler = new GrammarCompiler(
    new Vocabulary({
      vocabSize: 257,
      eosTokenIds: [256],
      tokenBytes: fakeTokenizer.tokenBytes,
      isSpecial: () => false,
    }),
  );
  const call = (name: string, args: unknown) =>
    `<tool_call>\n{"name": "${name}", "arguments": ${JSON.stringify(args)}}\n</tool_call>`;

  /** Which texts the constraint of a request lets through as a whole. */
  async function allowed(body: object, texts: readonly string[]): Promise<boolean[]> {
    const { engine, post } = await harness({ model: { modelType: "qwen2" } });
    const reply = await post("/v1/chat/completions", { ...CHAT, tools: TOOLS, ...body });
    expect(reply.status).toBe(200);
    const { constraint, prompt } = engine.requests[0];
    expect("tools" in prompt && prompt.tools).toHaveLength(2);
    if (constraint?.type !== "structuralTag") return texts.map(() => constraint === undefined);
    const grammar = compiler.compile({ kind: "structural_tag", tag: constraint.tag });
    return texts.map((text) => {
      const matcher = grammar.matcher();
      return matcher.acceptText(text) && matcher.canTerminate();
    });
  }

  const TEXTS = [
    "Hello.",
    call("add", { a: 1 }),
    call("add", { a: "one" }),
    call("now", { any: [1] }),
    `${call("add", { a: 1 })}\n${call("now", {})}`,
    `Let me see. ${call("now", {})}`,
  ];

  it.each([
    ["nothing with auto", {}, [true, true, true, true, true, true]],
    ["required", { tool_choice: "required" }, [false, true, false, true, true, false]],
    [
      "one function by name",
      { tool_choice: { type: "function", function: { name: "now" } } },
      [false, false, false, true, false, false],
    ],
    ["one at most", { parallel_tool_calls: false }, [true, true, true, true, false, true]],
    [
      "required and one",
      { tool_choice: "required", parallel_tool_calls: false },
      [false, true, false, true, false, false],
    ],
    [
      "strict tools",
      { tools: [{ type: "function", function: { ...TOOLS[0].function, strict: true } }, TOOLS[1]] },
      [true, true, false, true, true, true],
    ],
  ])("%s", async (_, body, expected) => {
    expect(await allowed(body, TEXTS)).toEqual(expected);
  });

  it.each([
    [
      "a function nobody offered",
      { tool_choice: { type: "function", function: { name: "sub" } } },
      "tool_choice.function.name",
    ],
    ["required without tools", { tools: [], tool_choice: "required" }, "tool_choice"],
    ["beside a schema", { tool_choice: "required", response_format: { type: "json_object" } }, "tool_choice"],
  ])("not %s", async (_, body, param) => {
    const { post } = await harness({ model: { modelType: "qwen2" } });
    const reply = await post("/v1/chat/completions", { ...CHAT, tools: TOOLS, ...body });
    expect(reply).toMatchObject({ status: 400, body: { error: { param } } });
  });
});
