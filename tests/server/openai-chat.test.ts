import { describe, expect, it } from "vitest";
import type { FakeAnswer } from "./fake-engine.js";
import { harness } from "./harness.js";

const URL = "/v1/chat/completions";
const USER = { role: "user", content: "Hi" };
const CHAT = { model: "any/name", messages: [USER] };
const TOOLS = [{ type: "function", function: { name: "add", description: "Adds.", parameters: { type: "object" } } }];
const CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>';

interface Choice {
  index: number;
  delta: { role?: string; content?: string; tool_calls?: unknown[] };
  logprobs: { content: { token: string }[] } | null;
  finish_reason: string | null;
  matched_stop: unknown;
}
interface Chunk {
  id: string;
  object: string;
  model: string;
  choices: Choice[];
  usage: Record<string, unknown> | null;
}

describe("chat request", () => {
  const CONVERSIONS: readonly (readonly [what: string, body: object, expected: object])[] = [
    ["messages", {}, { prompt: { messages: [USER] }, samplingParams: { maxNewTokens: null }, stream: false }],
    ["max_tokens", { max_tokens: 5 }, { samplingParams: { maxNewTokens: 5 } }],
    [
      "max_completion_tokens over max_tokens",
      { max_tokens: 5, max_completion_tokens: 7 },
      { samplingParams: { maxNewTokens: 7 } },
    ],
    [
      "max_tokens beside a null max_completion_tokens",
      { max_tokens: 5, max_completion_tokens: null },
      { samplingParams: { maxNewTokens: 5 } },
    ],
    [
      "OpenAI's sampling fields",
      {
        temperature: 0,
        top_p: 0.5,
        frequency_penalty: 1,
        presence_penalty: 1,
        seed: 3,
        stop: ["a", "b"],
        n: 2,
        logit_bias: { 5: -1 },
      },
      {
        samplingParams: {
          temperature: 0,
          topP: 0.5,
          frequencyPenalty: 1,
          presencePenalty: 1,
          seed: 3,
          stop: ["a", "b"],
          n: 2,
          logitBias: { 5: -1 },
        },
      },
    ],
    [
      "SGLang's sampling fields",
      {
        top_k: 3,
        min_p: 0.1,
        min_tokens: 2,
        repetition_penalty: 1.2,
        stop_token_ids: [9],
        stop_regex: "x+",
        no_stop_trim: true,
        ignore_eos: true,
        skip_special_tokens: false,
        stop: "s",
      },
      {
        samplingParams: {
          topK: 3,
          minP: 0.1,
          minNewTokens: 2,
          repetitionPenalty: 1.2,
          stopTokenIds: [9],
          stopRegex: ["x+"],
          noStopTrim: true,
          ignoreEos: true,
          skipSpecialTokens: false,
          stop: ["s"],
        },
      },
    ],
    ["logprobs", { logprobs: true, top_logprobs: 2 }, { logprobs: { startLen: -1, topNum: 2 } }],
    ["logprobs null", { logprobs: null, top_logprobs: null }, { logprobs: undefined }],
    [
      "template variables",
      { chat_template_kwargs: { enable_thinking: false } },
      { prompt: { chatTemplateKwargs: { enable_thinking: false } } },
    ],
    ["tools", { tools: TOOLS }, { prompt: { tools: TOOLS }, samplingParams: { skipSpecialTokens: false } }],
    ["token ids instead of messages", { messages: [], input_ids: [4, 5] }, { prompt: { inputIds: [4, 5] } }],
    ["a rid and a cache salt", { rid: "r", cache_salt: "s" }, { rid: "r", extraKey: '["s",null]' }],
    [
      "response_format text",
      { response_format: { type: "text" }, user: "me", store: false, parallel_tool_calls: true },
      {},
    ],
    [
      "a continued answer",
      { messages: [USER, { role: "assistant", content: "Well" }], continue_final_message: true },
      { prompt: { continueFinalMessage: true, messages: [USER, { role: "assistant", content: "Well" }] } },
    ],
  ];

  it.each(CONVERSIONS)("takes %s", async (_, extra, expected) => {
    const { engine, post } = await harness();
    const reply = await post(URL, { ...CHAT, ...extra });
    expect(reply.status, reply.text).toBe(200);
    expect(engine.requests).toMatchObject([expected]);
  });

  it("tells the model of no tools when tool_choice is none", async () => {
    const { engine, post } = await harness({ answer: () => ({ pieces: [CALL] }) });
    const reply = await post(URL, { ...CHAT, tools: TOOLS, tool_choice: "none" });
    expect(engine.requests[0].prompt).not.toHaveProperty("tools");
    expect(reply.body).toMatchObject({
      choices: [{ message: { content: CALL, tool_calls: null }, finish_reason: "stop" }],
    });
  });

  const MESSAGES: readonly (readonly [what: string, given: object, expected: object])[] = [
    ["roles in any case", { role: "USER", content: "a" }, { role: "user", content: "a" }],
    ["developer as system", { role: "developer", content: "a" }, { role: "system", content: "a" }],
    [
      "text parts",
      {
        role: "user",
        content: [
          { type: "text", text: "a" },
          { type: "text", text: "b" },
        ],
      },
      { role: "user", content: "a b" },
    ],
    [
      "tool calls of an earlier reply, as clients send them back",
      {
        role: "assistant",
        content: null,
        refusal: null,
        annotations: [],
        audio: null,
        function_call: null,
        reasoning_content: null,
        tool_calls: [{ id: "c1", index: 0, type: "function", function: { name: "add", arguments: '{"a": 1}' } }],
      },
      {
        role: "assistant",
        content: "",
        tool_calls: [{ id: "c1", type: "function", function: { name: "add", arguments: { a: 1 } } }],
      },
    ],
    [
      "a tool's result",
      { role: "tool", tool_call_id: "c1", content: "2" },
      { role: "tool", tool_call_id: "c1", content: "2" },
    ],
  ];

  it.each(MESSAGES)("hands on %s", async (_, given, expected) => {
    const { engine, post } = await harness();
    expect((await post(URL, { messages: [given] })).status).toBe(200);
    expect(engine.requests[0].prompt).toEqual({ messages: [expected] });
  });

  const REFUSALS: readonly (readonly [what: string, extra: object, param: string, says: RegExp])[] = [
    ["no messages", { messages: null }, "messages", /required/],
    ["empty messages", { messages: [] }, "messages", /must not be an empty list/],
    ["a message that is a text", { messages: ["hi"] }, "messages[0]", /must be a JSON object, got "hi"/],
    [
      "an unknown role",
      { messages: [{ role: "robot", content: "a" }] },
      "messages[0].role",
      /one of system, developer.*"robot"/,
    ],
    ["no role", { messages: [{ content: "a" }] }, "messages[0].role", /required/],
    ["no content", { messages: [USER, { role: "user" }] }, "messages[1].content", /required/],
    [
      "an unknown message field",
      { messages: [{ ...USER, contents: "" }] },
      "messages[0].contents",
      /Did you mean content\?/,
    ],
    [
      "an image",
      { messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "x" } }] }] },
      "messages[0].content[0].type",
      /"image_url"/,
    ],
    [
      "broken arguments of a call",
      { messages: [{ role: "assistant", tool_calls: [{ function: { name: "f", arguments: "{" } }] }] },
      "messages[0].tool_calls[0].function.arguments",
      /JSON text/,
    ],
    ["an unknown field", { max_token: 1 }, "max_token", /Did you mean max_tokens\?/],
    ["SGLang's native name", { max_new_tokens: 1 }, "max_new_tokens", /Did you mean max_tokens\?/],
    [
      "an unknown stream option",
      { stream: true, stream_options: { usage: true } },
      "stream_options.usage",
      /not a known field/,
    ],
    ["stream options without a stream", { stream_options: { include_usage: true } }, "stream_options", /needs stream/],
    ["an adapter", { lora_path: "x" }, "lora_path", /LoRA/],
    ["an adapter in the model name", { model: "org/fake-1b:adapter" }, "model", /LoRA/],
    ["an unknown tool choice", { tools: TOOLS, tool_choice: "always" }, "tool_choice", /"none", "auto", "required" or/],
    ["a tool without a name", { tools: [{ type: "function", function: {} }] }, "tools[0].function.name", /required/],
    [
      "a tool that is no function",
      { tools: [{ type: "web_search", function: { name: "f" } }] },
      "tools[0].type",
      /"function"/,
    ],
    ["top_logprobs alone", { top_logprobs: 1 }, "top_logprobs", /needs logprobs/],
    ["too many top_logprobs", { logprobs: true, top_logprobs: 21 }, "top_logprobs", /from 0 to 20/],
    ["a temperature below 0", { temperature: -1 }, "temperature", />= 0, got .?-1/],
    ["max_tokens below 0", { max_tokens: -1 }, "max_tokens", /^max_tokens must be/],
    [
      "max_completion_tokens below 0",
      { max_completion_tokens: -1 },
      "max_completion_tokens",
      /^max_completion_tokens must be/,
    ],
    [
      "min_tokens above max_tokens",
      { max_tokens: 1, min_tokens: 2 },
      "min_tokens",
      /min_tokens must be an integer from 0 to max_tokens/,
    ],
    ["a fractional seed", { seed: 1.5 }, "seed", /seed must be an integer/],
    ["continuing the user", { continue_final_message: true }, "continue_final_message", /of the assistant/],
    ["a field of a far future", { modalities: ["audio"] }, "modalities", /only text/],
    [
      "template variables without a bottom",
      { chat_template_kwargs: deep(100) },
      "chat_template_kwargs",
      /nested at most 64 deep/,
    ],
  ];

  it.each(REFUSALS)("refuses %s by name", async (_, extra, param, says) => {
    const { engine, post } = await harness();
    const reply = await post(URL, { ...CHAT, ...extra });
    expect(reply.status).toBe(400);
    const body = reply.body as { message: string; param: string; error: { message: string; param: string } };
    expect(body.message).toMatch(says);
    expect(body.param).toBe(param);
    expect(body.error).toMatchObject({ message: body.message, param });
    expect(engine.requests).toHaveLength(0);
  });

  it("refuses tools for a family whose calls it cannot read, unless told how", async () => {
    const model = { modelType: "llama", architecture: "LlamaForCausalLM" };
    const { post } = await harness({ model });
    expect(await post(URL, { ...CHAT, tools: TOOLS })).toMatchObject({ status: 400, body: { param: "tools" } });
    const told = await harness({ model, answer: () => ({ pieces: [CALL] }) }, { toolCallParser: "hermes" });
    expect((await told.post(URL, { ...CHAT, tools: TOOLS })).body).toMatchObject({
      choices: [{ finish_reason: "tool_calls" }],
    });
  });
});

function deep(levels: number): object {
  let value: object = {};
  for (let i = 0; i < levels; i++) value = { value };
  return value;
}

describe("chat reply", () => {
  it("has OpenAI's shape with SGLang's additions", async () => {
    const { post } = await harness();
    const { body } = await post(URL, { ...CHAT, rid: "r" });
    expect(body).toEqual({
      id: "r",
      object: "chat.completion",
      created: expect.any(Number),
      model: "any/name",
      choices: [
        {
          index: 0,
          message: { role: "assistant", content: "Hello, world", reasoning_content: null, tool_calls: null },
          logprobs: null,
          finish_reason: "stop",
          matched_stop: 0,
        },
      ],
      usage: {
        prompt_tokens: 19,
        completion_tokens: 12,
        total_tokens: 31,
        reasoning_tokens: 0,
        prompt_tokens_details: null,
      },
    });
  });

  it("counts the prompt once for n answers and reports cached tokens when told", async () => {
    const { post } = await harness({}, { enableCacheReport: true });
    const { body } = await post(URL, { ...CHAT, n: 3 });
    expect(body).toMatchObject({
      choices: [{ index: 0 }, { index: 1 }, { index: 2 }],
      usage: { prompt_tokens: 19, completion_tokens: 36, prompt_tokens_details: { cached_tokens: 1 } },
    });
  });

  it("reports cached tokens by where they were to a body that asks", async () => {
    const { post } = await harness();
    const { body } = await post(URL, { ...CHAT, n: 2, return_cached_tokens_details: true });
    expect(body).toMatchObject({
      usage: {
        prompt_tokens_details: { cached_tokens: 1, cached_tokens_details: { device: 1, host: 0, storage: 0 } },
      },
    });
  });

  it("lists logprobs with bytes and the likeliest tokens", async () => {
    const { post } = await harness({ answer: () => ({ pieces: ["A"] }) });
    const { body } = await post(URL, { ...CHAT, logprobs: true, top_logprobs: 1 });
    expect(body).toMatchObject({
      choices: [
        {
          logprobs: {
            content: [
              { token: "A", bytes: [65], logprob: -0.65, top_logprobs: [{ token: "A", bytes: [65], logprob: -0.1 }] },
            ],
          },
        },
      ],
    });
  });

  it.each([
    ["stop", { type: "stop", matched: "END" }, "stop", "END"],
    ["length", { type: "length", length: 3 }, "length", null],
    ["abort", { type: "abort", message: "m" }, "abort", null],
  ] as const)("reports the finish reason %s", async (_, finish, reason, matched) => {
    const { post } = await harness({ answer: () => ({ pieces: ["x"], finish }) });
    expect((await post(URL, CHAT)).body).toMatchObject({ choices: [{ finish_reason: reason, matched_stop: matched }] });
  });

  it("turns tool calls into tool_calls, and content into null when there is nothing else", async () => {
    const { post } = await harness({ answer: () => ({ pieces: [`${CALL}\n${CALL}`] }) });
    const { body } = await post(URL, { ...CHAT, tools: TOOLS });
    const call = (index: number) => ({
      id: expect.stringMatching(/^call_[0-9a-f]{24}$/),
      index,
      type: "function",
      function: { name: "add", arguments: '{"a": 1}' },
    });
    expect(body).toMatchObject({
      choices: [{ message: { content: null, tool_calls: [call(0), call(1)] }, finish_reason: "tool_calls" }],
    });
  });

  it("keeps the finish reason length although a call was found", async () => {
    const { post } = await harness({
      answer: () => ({ pieces: [`${CALL}and`], finish: { type: "length", length: 9 } }),
    });
    expect((await post(URL, { ...CHAT, tools: TOOLS })).body).toMatchObject({
      choices: [{ message: { content: "and" }, finish_reason: "length" }],
    });
  });
});

describe("chat stream", () => {
  const stream = async (extra: object, answer?: FakeAnswer) => {
    const { events } = await harness(answer ? { answer: () => answer } : {});
    const all = await events(URL, { ...CHAT, stream: true, ...extra });
    expect(all.at(-1)).toBe("[DONE]");
    return all.slice(0, -1) as Chunk[];
  };

  it("sends the role, then deltas, then the finish reason", async () => {
    const chunks = await stream({ rid: "r" });
    expect(chunks.map(({ choices }) => choices[0].delta)).toEqual([
      { role: "assistant", content: "" },
      { content: "Hello" },
      { content: ", " },
      { content: "world" },
      {},
    ]);
    expect(chunks.map(({ choices }) => choices[0].finish_reason)).toEqual([null, null, null, null, "stop"]);
    expect(chunks.at(-1)?.choices[0].matched_stop).toBe(0);
    expect(
      chunks.every(({ id, object, usage }) => id === "r" && object === "chat.completion.chunk" && usage === null),
    ).toBe(true);
  });

  it("ends with usage and no choices for include_usage", async () => {
    const chunks = await stream({ stream_options: { include_usage: true } });
    expect(chunks.at(-1)).toMatchObject({
      choices: [],
      usage: { prompt_tokens: 19, completion_tokens: 12, total_tokens: 31 },
    });
    expect(chunks.slice(0, -1).every(({ usage }) => usage === null)).toBe(true);
  });

  it("carries usage on every chunk for continuous_usage_stats", async () => {
    const chunks = await stream({ stream_options: { continuous_usage_stats: true } });
    expect(chunks.map(({ usage }) => usage?.completion_tokens)).toEqual([5, 5, 7, 12, 12]);
  });

  it("keeps n answers apart", async () => {
    const { events } = await harness({ answer: (_, i) => ({ pieces: [`${i}`, "!"] }) });
    const chunks = (await events(URL, { ...CHAT, stream: true, n: 2 })).slice(0, -1) as Chunk[];
    for (const index of [0, 1]) {
      const own = chunks.filter(({ choices }) => choices[0].index === index);
      expect(own[0].choices[0].delta.role).toBe("assistant");
      expect(own.map(({ choices }) => choices[0].delta.content ?? "").join("")).toBe(`${index}!`);
      expect(own.at(-1)?.choices[0].finish_reason).toBe("stop");
    }
  });

  it("sends each logprob once, with the text it belongs to", async () => {
    const chunks = await stream({ logprobs: true });
    const tokens = chunks.map(({ choices }) => choices[0].logprobs?.content.map(({ token }) => token).join("") ?? null);
    expect(tokens).toEqual([null, "Hello", ", ", "world", null]);
  });

  it("sends a whole call in one delta, with all logprobs, whatever the chunks were", async () => {
    const chunks = await stream({ tools: TOOLS, logprobs: true }, { pieces: [...`Well.\n${CALL}`] });
    expect(chunks.map(({ choices }) => choices[0].delta.content ?? "").join("")).toBe("Well.");
    const calls = chunks.flatMap(({ choices }) => choices[0].delta.tool_calls ?? []);
    expect(calls).toMatchObject([{ index: 0, type: "function", function: { name: "add", arguments: '{"a": 1}' } }]);
    expect(chunks.at(-1)?.choices[0].finish_reason).toBe("tool_calls");
    const said = chunks.flatMap(({ choices }) => choices[0].logprobs?.content ?? []).map(({ token }) => token);
    expect(said.join("")).toBe(`Well.\n${CALL}`);
  });

  it("ends with an error event when the engine aborts with a status", async () => {
    const finish = { type: "abort", message: "Too long.", statusCode: 400 } as const;
    const { events } = await harness({ answer: () => ({ pieces: ["a", "b"], finish }) });
    const all = await events(URL, { ...CHAT, stream: true });
    expect(all.slice(-2)).toMatchObject([{ error: { message: "Too long.", code: "INVALID_REQUEST" } }, "[DONE]"]);
  });

  it("answers under SageMaker's name too", async () => {
    const { post } = await harness();
    expect((await post("/invocations", CHAT)).body).toMatchObject({ object: "chat.completion" });
  });
});
