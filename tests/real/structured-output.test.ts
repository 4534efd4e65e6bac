/**
 * Structured output on real weights, end to end: the official OpenAI client over HTTP, and the language in this process.
 * What a schema says is checked by ajv. `close_on_budget` makes every answer complete, however talkative the model is.
 */
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { setLogLevel } from "../../src/core/logger.js";
import { endpointBackend } from "../../src/lang/backends/endpoint.js";
import { engineBackend } from "../../src/lang/backends/engine.js";
import { gen, program, tool } from "../../src/lang/index.js";
import { Engine } from "../../src/runtime/engine.js";
import { type RunningServer, startServer } from "../../src/server/server.js";
import { silent } from "../server/harness.js";

const ajv = new Ajv2020({ strict: false });
(addFormats as unknown as (ajv: Ajv2020) => void)(ajv);

const open = (properties: Record<string, unknown>, required = Object.keys(properties)) => ({
  type: "object",
  properties,
  required,
  additionalProperties: false,
});

const SCHEMAS: readonly (readonly [name: string, question: string, schema: Record<string, unknown>])[] = [
  [
    "flat",
    "Describe a person.",
    open({ name: { type: "string", maxLength: 20 }, age: { type: "integer", minimum: 0, maximum: 120 } }),
  ],
  [
    "nested",
    "Describe a house.",
    open({
      address: open({ street: { type: "string", maxLength: 20 }, number: { type: "integer" } }),
      rooms: { type: "integer", exclusiveMinimum: 0 },
    }),
  ],
  [
    "list",
    "Name three colours.",
    open({ colours: { type: "array", items: { type: "string", pattern: "^[a-z]{3,8}$" }, minItems: 3, maxItems: 3 } }),
  ],
  ["enums", "Is the sky blue?", open({ answer: { enum: ["yes", "no"] }, certainty: { enum: [1, 2, 3, null] } })],
  ["numbers", "How warm is it?", open({ celsius: { type: "number", minimum: -20, maximum: 45, multipleOf: 0.5 } })],
  [
    "unions",
    "Give a point or a name.",
    {
      anyOf: [
        open({ x: { type: "integer" }, y: { type: "integer" } }),
        open({ name: { type: "string", maxLength: 10 } }),
      ],
    },
  ],
  [
    "optional properties",
    "Describe a book.",
    open(
      {
        title: { type: "string", maxLength: 24 },
        year: { type: "integer" },
        isbn: { type: "string", pattern: "^\\d{10}$" },
      },
      ["title"],
    ),
  ],
  [
    "references",
    "Describe a tree.",
    {
      $ref: "#/$defs/node",
      $defs: {
        node: open({
          value: { type: "integer" },
          children: { type: "array", items: { $ref: "#/$defs/node" }, maxItems: 2 },
        }),
      },
    },
  ],
  [
    "formats",
    "When is the meeting?",
    open({ date: { type: "string", format: "date" }, at: { type: "string", format: "ipv4" } }),
  ],
  [
    "tuples",
    "Give a coordinate.",
    {
      type: "array",
      prefixItems: [{ type: "number" }, { type: "number" }, { enum: ["N", "S"] }],
      items: false,
      minItems: 3,
    },
  ],
  [
    "conditions",
    "Describe an animal.",
    {
      ...open({ kind: { enum: ["cat", "fish"] }, legs: { type: "integer" } }),
      if: { properties: { kind: { const: "fish" } } },
      // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
      then: { properties: { legs: { const: 0 } } },
      else: { properties: { legs: { const: 4 } } },
    },
  ],
  [
    "maps",
    "Give scores by name.",
    {
      type: "object",
      patternProperties: { "^[a-z]{1,6}$": { type: "integer", minimum: 0, maximum: 9 } },
      additionalProperties: false,
      minProperties: 1,
      maxProperties: 4,
    },
  ],
  [
    "intersections",
    "Describe a car.",
    {
      allOf: [
        { type: "object", properties: { wheels: { type: "integer", minimum: 3 } }, required: ["wheels"] },
        { properties: { wheels: { maximum: 6 }, brand: { type: "string", maxLength: 12 } }, required: ["brand"] },
      ],
      unevaluatedProperties: false,
    },
  ],
];

describe.each([["smollm2-135m"], ["qwen2.5-coder-0.5b"]])("%s", (model) => {
  let engine: Engine;
  let server: RunningServer;
  let client: OpenAI;
  /** A server that was told how its model thinks, over the same engine. */
  let thinking: RunningServer;
  beforeAll(async () => {
    setLogLevel("warn");
    engine = await Engine.load(model, { offline: true });
    const config = { port: 0, skipServerWarmup: true, toolCallParser: "qwen25" as const };
    const { tokenizer } = engine;
    server = await startServer({ engine, tokenizer, config, logger: silent });
    const told = { ...config, reasoningParser: "qwen3" };
    thinking = await startServer({ engine, tokenizer, config: told, logger: silent });
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
  });
  afterAll(async () => {
    await server?.close();
    await thinking?.close();
    await engine?.close();
    setLogLevel("info");
  });

  const ask = (question: string, schema: Record<string, unknown>, more: object = {}) => ({
    model: "default",
    messages: [{ role: "user" as const, content: question }],
    response_format: { type: "json_schema" as const, json_schema: { name: "answer", strict: true, schema } },
    max_tokens: 96,
    temperature: 0,
    close_on_budget: true,
    ...more,
  });
  const fits = (schema: Record<string, unknown>, text: string | null) => {
    const validate = ajv.compile(schema);
    expect(validate(JSON.parse(text ?? "")), `${text} ${JSON.stringify(validate.errors)}`).toBe(true);
  };

  it.each(SCHEMAS)("%s: the answer fits, whole and streamed alike", async (_, question, schema) => {
    const whole = await client.chat.completions.create(ask(question, schema));
    const text = whole.choices[0].message.content;
    fits(schema, text);
    const stream = await client.chat.completions.create({ ...ask(question, schema), stream: true });
    let streamed = "";
    for await (const chunk of stream) streamed += chunk.choices[0]?.delta.content ?? "";
    expect(streamed).toBe(text);
  });

  const [, question, schema] = SCHEMAS[0];

  it("holds with penalties, several answers, and logprobs that spell the text", async () => {
    const reply = await client.chat.completions.create(
      ask(question, schema, {
        n: 2,
        temperature: 1.2,
        seed: 5,
        frequency_penalty: 0.7,
        presence_penalty: 0.3,
        logprobs: true,
        top_logprobs: 2,
      }),
    );
    expect(reply.choices).toHaveLength(2);
    for (const { message, logprobs } of reply.choices) {
      fits(schema, message.content);
      const bytes = (logprobs?.content ?? []).flatMap((token) => token.bytes ?? []);
      expect(
        Buffer.from(bytes)
          .toString("utf8")
          .startsWith(message.content ?? ""),
      ).toBe(true);
    }
  });

  it("a stop text ends it early, with what came before", async () => {
    const reply = await client.chat.completions.create(ask(question, schema, { stop: '"age"' }));
    const [{ message, finish_reason }] = reply.choices;
    expect(finish_reason).toBe("stop");
    expect(message.content).toMatch(/^\s*\{\s*"name"/);
    expect(message.content).not.toContain('"age"');
  });

  const PARAMETERS = open({ city: { type: "string", maxLength: 20 }, unit: { enum: ["celsius", "fahrenheit"] } });
  const tools = [
    {
      type: "function" as const,
      function: { name: "get_weather", description: "The weather.", parameters: PARAMETERS },
    },
  ];

  it.each([["a plain server"], ["a server with a reasoning parser"]])(
    "tool_choice required gives a call whose arguments fit: %s",
    async (name) => {
      const thinks = name !== "a plain server";
      const one = thinks ? new OpenAI({ baseURL: `${thinking.url}/v1`, apiKey: "none", maxRetries: 0 }) : client;
      const reply = await one.chat.completions.create({
        model: "default",
        messages: [{ role: "user", content: "What is the weather in Paris?" }],
        tools,
        tool_choice: "required",
        parallel_tool_calls: false,
        temperature: 0,
        max_tokens: 120,
        ...(thinks && { reasoning_effort: "low" as const }),
        // @ts-expect-error a field of this server
        close_on_budget: true,
      });
      const [{ message, finish_reason }] = reply.choices;
      expect(finish_reason).toBe("tool_calls");
      const [call] = message.tool_calls ?? [];
      expect(call).toMatchObject({ type: "function", function: { name: "get_weather" } });
      if (call.type === "function") fits(PARAMETERS, call.function.arguments);
    },
  );

  it("a zod schema types and checks what gen answers, in this process and over HTTP", async () => {
    const City = z.object({
      name: z.string().max(20),
      capital: z.boolean(),
      population: z.int().min(0).max(40_000_000),
    });
    const ask = program(async (s) => {
      s.user("Tell me of Paris.");
      return s.assistant(gen({ schema: City, maxTokens: 200 }));
    });
    const [inside, outside] = await Promise.all(
      [engineBackend(engine), endpointBackend(server.url)].map((backend) => ask.run({ backend, temperature: 0 })),
    );
    expect(City.parse(inside.value)).toEqual(inside.value);
    expect(outside.value).toEqual(inside.value);
  });

  it("the language demands a call and gets one", async () => {
    const ask = program(async (s) => {
      s.user("What is the weather in Paris?");
      const get_weather = tool({ description: "The weather.", parameters: z.object({ city: z.string().max(20) }) });
      const call = s.assistant(gen({ tools: { get_weather }, toolChoice: { name: "get_weather" }, maxTokens: 200 }));
      return (await call.meta()).toolCalls;
    });
    const { value } = await ask.run({ backend: engineBackend(engine), temperature: 0 });
    expect(value).toHaveLength(1);
    expect(JSON.parse(value[0].function.arguments as string)).toEqual({ city: expect.any(String) });
  });
});
