/**
 * The exact bodies that backends over HTTP send, and the paths and headers they go with. Long because the same prompts go
 * to every protocol, and what differs between them is best read side by side.
 */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { aiSdkBackend } from "../../src/lang/backends/ai-sdk.js";
import { anthropicBackend } from "../../src/lang/backends/anthropic.js";
import type {
  Backend,
  BackendConstraint,
  BackendGenerateRequest,
  BackendPrompt,
} from "../../src/lang/backends/backend.js";
import { endpointBackend } from "../../src/lang/backends/endpoint.js";
import { openaiBackend } from "../../src/lang/backends/openai.js";
import { collect, one, requestOf } from "../contracts/backend.js";
import { aiSdkModel } from "./ai-sdk-model.js";
import { Loopback } from "./loopback.js";
import { sglangServer, vllmServer } from "./servers.js";
import { anthropicReply, chatReply, completionReply } from "./wire-fakes.js";

let server: Loopback;
beforeEach(async () => {
  server = await new Loopback().listen();
});
afterEach(() => server.close());

const script = one(["ok"]);
const text = (content: string) => [{ type: "text" as const, text: content }];
const raw: BackendPrompt = { type: "text", parts: text("Once") };
const PNG = Uint8Array.of(137, 80, 78, 71);
const image = { type: "image" as const, mediaType: "image/png", data: PNG };
const chat: BackendPrompt = {
  type: "chat",
  messages: [
    { role: "system", content: text("Be brief.") },
    { role: "user", content: text("Hi") },
  ],
  continueFinal: false,
};
const begun: BackendPrompt = {
  type: "chat",
  messages: [
    { role: "user", content: text("Hi") },
    { role: "assistant", content: text("Well,") },
  ],
  continueFinal: true,
};
const pictured: BackendPrompt = {
  type: "chat",
  messages: [
    { role: "user", content: [...text("What is it?"), image, { type: "image", url: "https://x.test/a.jpg" }] },
  ],
  continueFinal: false,
};
const called: BackendPrompt = {
  type: "chat",
  messages: [
    { role: "user", content: text("1+2, 3+4?") },
    {
      role: "assistant",
      content: [],
      toolCalls: [
        { id: "a", type: "function", function: { name: "add", arguments: '{"x":1}' } },
        { id: "b", type: "function", function: { name: "add", arguments: '{"x":3}' } },
      ],
    },
    { role: "tool", content: text("3"), toolCallId: "a", name: "add" },
    { role: "tool", content: text("7"), toolCallId: "b", name: "add" },
  ],
  continueFinal: false,
};
const parameters = { type: "object", properties: { x: { type: "integer" } } };
const tools = [{ type: "function" as const, function: { name: "add", description: "Adds.", parameters } }];
const schema = { type: "object", properties: { a: { type: "integer" } }, required: ["a"] };
const constraint: Record<string, BackendConstraint> = {
  regex: { type: "regex", pattern: "[0-9]{2}" },
  json: { type: "jsonSchema", schema, name: "thing" },
  ebnf: { type: "ebnf", grammar: 'root ::= "a"' },
  choices: { type: "choices", choices: ["a.b", "c|d", "e"] },
};

/** What arrives for a request. */
async function sent(backend: Backend, rest: Partial<BackendGenerateRequest>) {
  await collect(backend.generate(requestOf(backend, { stream: false, ...rest })));
  return server.last;
}

describe("an SGLang server", () => {
  const make = (rest: object = {}) => {
    server.reply = (request) => sglangServer(false)(script, request);
    return endpointBackend({ baseUrl: server.url, ...rest });
  };

  it("gets raw text at /generate, sampling under its own names", async () => {
    const sampling = { maxNewTokens: 9, stop: ["\n"], topK: 4, seed: 3, noStopTrim: true, logitBias: { 5: -1 } };
    const { path, body } = await sent(make(), { prompt: raw, sampling });
    expect(path).toBe("/generate");
    expect(body).toEqual({
      text: "Once",
      sampling_params: {
        max_new_tokens: 9,
        stop: ["\n"],
        top_k: 4,
        sampling_seed: 3,
        no_stop_trim: true,
        logit_bias: { 5: -1 },
      },
      stream: false,
    });
  });

  it.each([
    ["regex", { regex: "[0-9]{2}" }],
    ["json", { json_schema: JSON.stringify(schema) }],
    ["ebnf", { ebnf: 'root ::= "a"' }],
    ["choices", { regex: "(a\\.b|c\\|d|e)" }],
  ])("gets a constraint of %s among the sampling parameters", async (name, params) => {
    const { body } = await sent(make(), { prompt: raw, constraint: constraint[name] });
    expect(body.sampling_params).toEqual(params);
  });

  it("is asked for logprobs with texts", async () => {
    const { body } = await sent(make(), { prompt: raw, logprobs: { top: 2 }, stream: true });
    expect(body).toEqual({
      text: "Once",
      sampling_params: {},
      return_logprob: true,
      top_logprobs_num: 2,
      return_text_in_logprobs: true,
      stream: true,
    });
  });

  it("gets turns at the chat route, with SGLang's fields beside OpenAI's", async () => {
    const sampling = { maxNewTokens: 9, minNewTokens: 2, seed: 3, topK: 4, ignoreEos: true };
    const { path, body } = await sent(make({ apiKey: "k" }), { prompt: begun, sampling, stream: true });
    expect(path).toBe("/v1/chat/completions");
    expect(server.last.headers.authorization).toBe("Bearer k");
    expect(body).toEqual({
      model: "default",
      messages: [
        { role: "user", content: "Hi" },
        { role: "assistant", content: "Well," },
      ],
      continue_final_message: true,
      max_tokens: 9,
      min_tokens: 2,
      seed: 3,
      top_k: 4,
      ignore_eos: true,
      stream: true,
      stream_options: { include_usage: true },
    });
  });

  it.each([
    ["regex", { regex: "[0-9]{2}" }],
    ["json", { response_format: { type: "json_schema", json_schema: { name: "thing", schema, strict: true } } }],
    ["ebnf", { ebnf: 'root ::= "a"' }],
  ])("gets a constraint of %s in a chat body", async (name, fields) => {
    const { body } = await sent(make(), { prompt: chat, constraint: constraint[name] });
    expect(body).toMatchObject(fields);
  });

  it("gets images in turns, and none in raw text", async () => {
    const backend = make({ images: true });
    const { body } = await sent(backend, { prompt: pictured });
    expect(body.messages[0].content).toEqual([
      { type: "text", text: "What is it?" },
      { type: "image_url", image_url: { url: "data:image/png;base64,iVBORw==" } },
      { type: "image_url", image_url: { url: "https://x.test/a.jpg" } },
    ]);
    const refused = collect(backend.generate(requestOf(backend, { prompt: { type: "text", parts: [image] } })));
    await expect(refused).rejects.toMatchObject({ name: "CapabilityError", capability: "images" });
    const tooled = collect(backend.generate(requestOf(backend, { prompt: raw, tools })));
    await expect(tooled).rejects.toMatchObject({ name: "CapabilityError", capability: "tools" });
  });

  it("is told of a prefix by a request without an answer", async () => {
    const backend = make();
    await backend.prefixHint?.(raw, new AbortController().signal);
    expect(server.requests.map(({ path, body }) => [path, body])).toEqual([
      ["/generate", { text: "Once", sampling_params: { max_new_tokens: 0, temperature: 0 } }],
    ]);
    server.requests.length = 0;
    await backend.prefixHint?.(begun, new AbortController().signal);
    expect(server.requests.map(({ path }) => path)).toEqual([
      "/v1/tokenize",
      "/v1/detokenize",
      "/v1/tokenize",
      "/generate",
    ]);
    expect(server.requests[0].body).toEqual({ messages: [{ role: "user", content: "Hi" }] });
    expect(server.requests[2].body).toEqual({ prompt: ["<user>Hi</user><assistant>Well,"], add_special_tokens: false });
    server.requests.length = 0;
    await backend.prefixHint?.({ type: "chat", messages: [], continueFinal: false }, new AbortController().signal);
    expect(server.requests).toEqual([]);
  });

  it.each([
    ["an abort with a status", { finish_reason: { type: "abort", message: "full", status_code: 503 } }, "QUEUE_FULL"],
    ["an abort without one", { finish_reason: { type: "abort", message: "gone" } }, "ENGINE_FAILED"],
  ])("is believed when it ends a stream with %s", async (_, meta_info, code) => {
    const backend = make();
    server.reply = () => ({ events: [`data: ${JSON.stringify({ text: "", output_ids: [], meta_info })}\n\n`] });
    const run = collect(backend.generate(requestOf(backend, { prompt: raw })));
    await expect(run).rejects.toMatchObject({ name: "BackendError", code });
  });

  it("scores by ids, all continuations in one batch, from the seam on", async () => {
    const backend = make();
    const signal = new AbortController().signal;
    const prompt: BackendPrompt = { type: "text", parts: text("call f(") };
    const result = await backend.score?.({ prompt, continuations: ["):", "x", ")"], unconditional: false, signal });
    const ids = [300, ...Buffer.from("call f(")];
    expect(server.requests.map(({ path }) => path)).toEqual(["/v1/tokenize", "/generate", "/generate"]);
    expect(server.requests[1].body).toEqual({ input_ids: ids, sampling_params: { max_new_tokens: 0, temperature: 0 } });
    // "(" + "):" is one token, and so is "(" + ")": what is scored begins before the prompt's end.
    expect(server.last.body).toEqual({
      input_ids: [
        [...ids.slice(0, -1), 260],
        [...ids, 120],
        [...ids.slice(0, -1), 259],
      ],
      sampling_params: { max_new_tokens: 0, temperature: 0 },
      return_logprob: true,
      logprob_start_len: [5, 6, 5],
      return_text_in_logprobs: true,
    });
    expect(result?.scores.map(({ tokens }) => tokens.map(([, id, token]) => [id, token]))).toEqual([
      [[260, "():"]],
      [[120, "x"]],
      [[259, "()"]],
    ]);
  });

  it("is not asked to score what no token comes before", async () => {
    const backend = make();
    server.reply = (request) => {
      const { prompt } = request.body;
      return { json: { tokens: prompt.map((one: string) => [...Buffer.from(one)]) } };
    };
    const { signal } = new AbortController();
    const run = backend.score?.({
      prompt: { type: "text", parts: [] },
      continuations: ["x"],
      unconditional: false,
      signal,
    });
    await expect(run).rejects.toMatchObject({ code: "INVALID_REQUEST", message: expect.stringContaining('"x"') });
    expect(server.requests).toHaveLength(1);
  });

  it("is caught when it reports logprobs of other tokens", async () => {
    const backend = make();
    server.reply = (request) => {
      const reply = sglangServer(false)(script, request);
      const answers = reply.json as { meta_info?: { input_token_logprobs?: unknown[] } }[];
      if (Array.isArray(answers)) for (const { meta_info } of answers) meta_info?.input_token_logprobs?.pop();
      return reply;
    };
    const { signal } = new AbortController();
    const run = backend.score?.({ prompt: raw, continuations: ["x", "y"], unconditional: false, signal });
    await expect(run).rejects.toMatchObject({ code: "ENGINE_FAILED", message: expect.stringContaining("token") });
  });

  it("says whether its cache could be emptied", async () => {
    const backend = make();
    expect(await backend.flushCache?.()).toBe(true);
    server.reply = () => ({ status: 400, text: "requests are running" });
    expect(await backend.flushCache?.()).toBe(false);
    server.reply = () => ({ status: 401, json: { error: { message: "admin key" } } });
    await expect(backend.flushCache?.()).rejects.toMatchObject({ code: "UNAUTHORIZED" });
  });
});

describe("vLLM", () => {
  const make = (dialect: "vllm" | "vllm-guided") => {
    server.reply = (request) => vllmServer(script, request);
    return endpointBackend({ baseUrl: server.url, dialect, model: "org/m" });
  };

  it("needs to know the model's name", () => {
    expect(() => endpointBackend({ baseUrl: server.url, dialect: "vllm" })).toThrow(/give `model`/);
  });

  it("gets raw text at /v1/completions", async () => {
    const sampling = { maxNewTokens: null, topK: 4, noStopTrim: true, minNewTokens: 1 };
    const { path, body } = await sent(make("vllm"), { prompt: raw, sampling, logprobs: { top: 2 } });
    expect(path).toBe("/v1/completions");
    expect(body).toEqual({
      model: "org/m",
      prompt: "Once",
      max_tokens: null,
      logprobs: 2,
      top_k: 4,
      include_stop_str_in_output: true,
      min_tokens: 1,
    });
  });

  it("is told to continue the last turn and to open none", async () => {
    const { body } = await sent(make("vllm"), { prompt: begun, sampling: { maxNewTokens: 5 } });
    expect(body).toMatchObject({
      continue_final_message: true,
      add_generation_prompt: false,
      max_completion_tokens: 5,
    });
  });

  it.each([
    ["regex", "regex", "[0-9]{2}"],
    ["json", "json", schema],
    ["ebnf", "grammar", 'root ::= "a"'],
    ["choices", "choice", ["a.b", "c|d", "e"]],
  ])("gets a constraint of %s in both spellings, at both routes", async (name, field, value) => {
    for (const prompt of [raw, chat]) {
      const { body } = await sent(make("vllm"), { prompt, constraint: constraint[name] });
      expect(body.structured_outputs).toEqual({ [field]: value });
      const { body: older } = await sent(make("vllm-guided"), { prompt, constraint: constraint[name] });
      expect(older[`guided_${field}`]).toEqual(value);
      expect(older).not.toHaveProperty("structured_outputs");
    }
  });

  it("scores by prompt_logprobs", async () => {
    const backend = make("vllm");
    const signal = new AbortController().signal;
    const prompt: BackendPrompt = { type: "text", parts: text("f(") };
    const result = await backend.score?.({ prompt, continuations: ["):", "x"], unconditional: true, signal });
    expect(server.requests.map(({ path }) => path)).toEqual([
      "/tokenize",
      "/tokenize",
      "/tokenize",
      "/v1/completions",
      "/v1/completions",
      "/v1/completions",
    ]);
    expect(server.requests[4].body).toEqual({
      model: "org/m",
      prompt: [
        [300, 102, 260],
        [300, 102, 40, 120],
      ],
      max_tokens: 1,
      temperature: 0,
      prompt_logprobs: 0,
    });
    expect(result?.scores.map(({ tokens, unconditional }) => [tokens[0].slice(1), unconditional])).toEqual([
      [[260, "():"], [null]],
      [[120, "x"], [null]],
    ]);
    expect(result?.usage).toEqual({ promptTokens: 3 + 7 + 2, completionTokens: 0, cachedTokens: 0 });
  });
});

describe("OpenAI's chat API", () => {
  const make = (rest: object = {}) => {
    server.reply = (request) => chatReply(script, request);
    return openaiBackend({ model: "gpt-x", baseUrl: `${server.url}/v1`, apiKey: "k", ...rest });
  };

  it("gets messages, sampling and a key", async () => {
    const sampling = { maxNewTokens: 7, temperature: 0.2, stop: ["\n"], n: 1, seed: 4, logitBias: { 9: 2 } };
    const { path, body, headers } = await sent(make(), { prompt: chat, sampling, logprobs: { top: 3 } });
    expect(path).toBe("/v1/chat/completions");
    expect(headers.authorization).toBe("Bearer k");
    expect(body).toEqual({
      model: "gpt-x",
      messages: [
        { role: "system", content: "Be brief." },
        { role: "user", content: "Hi" },
      ],
      max_tokens: 7,
      temperature: 0.2,
      stop: ["\n"],
      n: 1,
      seed: 4,
      logit_bias: { 9: 2 },
      logprobs: true,
      top_logprobs: 3,
    });
  });

  it("gets a strict schema, tools, and a choice among them", async () => {
    const json = { prompt: chat, constraint: constraint.json, stream: true };
    expect((await sent(make(), json)).body).toMatchObject({
      response_format: { type: "json_schema", json_schema: { name: "thing", schema, strict: true } },
      stream_options: { include_usage: true },
    });
    const { body } = await sent(make(), { prompt: chat, tools, toolChoice: { name: "add" } });
    expect(body).toMatchObject({ tools, tool_choice: { type: "function", function: { name: "add" } } });
    expect((await sent(make(), { prompt: chat, tools, toolChoice: "required" })).body.tool_choice).toBe("required");
    expect((await sent(make(), { prompt: chat, tools })).body).not.toHaveProperty("tool_choice");
    expect((await sent(make(), { prompt: chat, tools: [], toolChoice: "none" })).body).not.toHaveProperty("tools");
  });

  it.each([true, false])("is understood when it says stop after a forced call (stream: %s)", async (stream) => {
    const backend = make();
    const toolCalls = [{ id: "", name: "add", arguments: "" }];
    server.reply = (request) => chatReply(one([], { toolCalls }), request);
    const deltas = await collect(backend.generate(requestOf(backend, { stream, tools, toolChoice: "required" })));
    expect(deltas.at(-1)?.finish).toBe("toolCalls");
    expect(deltas.flatMap(({ toolCalls: found = [] }) => found)).toEqual([
      { id: expect.stringMatching(/^call_\w{20}$/), type: "function", function: { name: "add", arguments: "{}" } },
    ]);
  });

  it.each([
    ["an error in the stream", 'data: {"error":{"message":"boom","code":503}}\n\n', { code: "QUEUE_FULL" }],
    ["an event that is not JSON", "data: {oops\n\n", { code: "ENGINE_FAILED" }],
    [
      "a finish reason that nobody knows",
      'data: {"choices":[{"index":0,"delta":{},"finish_reason":"bored"}]}\n\n',
      { code: "ENGINE_FAILED" },
    ],
    ["an answer that nobody asked for", 'data: {"choices":[{"index":4,"delta":{}}]}\n\n', { code: "ENGINE_FAILED" }],
    [
      "content that is no text",
      'data: {"choices":[{"index":0,"delta":{"content":[{"type":"x"}]}}]}\n\n',
      { code: "ENGINE_FAILED" },
    ],
  ])("reports %s", async (_, event, expected) => {
    const backend = make();
    server.reply = () => ({ events: [event] });
    await expect(collect(backend.generate(requestOf(backend)))).rejects.toMatchObject({
      name: "BackendError",
      ...expected,
    });
  });

  it("gets calls and their results back as it gave them", async () => {
    const { body } = await sent(make(), { prompt: called, tools });
    const call = (id: string, args: string) => ({ id, type: "function", function: { name: "add", arguments: args } });
    expect(body.messages).toEqual([
      { role: "user", content: "1+2, 3+4?" },
      { role: "assistant", content: null, tool_calls: [call("a", '{"x":1}'), call("b", '{"x":3}')] },
      { role: "tool", content: "3", tool_call_id: "a" },
      { role: "tool", content: "7", tool_call_id: "b" },
    ]);
  });

  it("gets what the caller adds, under the names the caller says", async () => {
    const rest = {
      extraBody: { reasoning_effort: "low" },
      maxTokensField: "max_completion_tokens",
      capabilities: { continueTurn: true, sampling: ["maxNewTokens", "topK", "minNewTokens"] },
    };
    const { body } = await sent(make(rest), { prompt: begun, sampling: { maxNewTokens: 7, topK: 2, minNewTokens: 1 } });
    expect(body).toMatchObject({
      reasoning_effort: "low",
      max_completion_tokens: 7,
      top_k: 2,
      min_tokens: 1,
      continue_final_message: true,
    });
  });

  it("cannot be declared to take what there is no field for", () => {
    expect(() => make({ capabilities: { constraints: ["regex"] } })).toThrow(/no field for a constraint of type regex/);
    expect(make({ capabilities: { score: true } }).capabilities.score).toBe(false);
  });

  it("gets raw text at /completions when told so", async () => {
    server.reply = (request) => completionReply(script, request);
    const backend = openaiBackend({ model: "m", baseUrl: `${server.url}/v1`, api: "completions" });
    const { path, body } = await sent(backend, { prompt: raw, sampling: { maxNewTokens: 3 }, logprobs: { top: 1 } });
    expect(path).toBe("/v1/completions");
    expect(body).toEqual({ model: "m", prompt: "Once", max_tokens: 3, logprobs: 1 });
  });
});

describe("Anthropic's API", () => {
  const make = (rest: object = {}) => {
    server.reply = (request) => anthropicReply(script, request);
    return anthropicBackend({ model: "claude-x", baseUrl: server.url, apiKey: "k", ...rest });
  };

  it("gets the system prompt apart, and always a limit", async () => {
    const { path, body, headers } = await sent(make(), { prompt: chat });
    expect(path).toBe("/v1/messages");
    expect(headers).toMatchObject({ "x-api-key": "k", "anthropic-version": "2023-06-01" });
    expect(body).toEqual({
      model: "claude-x",
      max_tokens: 4096,
      system: "Be brief.",
      messages: [{ role: "user", content: [{ type: "text", text: "Hi" }] }],
    });
  });

  it("gets sampling, a schema and tools under its own names", async () => {
    const { body } = await sent(make({ maxTokens: 50 }), {
      prompt: chat,
      sampling: { stop: ["END"], topP: 0.5, topK: 3, temperature: 0 },
      constraint: constraint.json,
      tools,
      toolChoice: "required",
      stream: true,
    });
    expect(body).toMatchObject({
      max_tokens: 50,
      stop_sequences: ["END"],
      top_p: 0.5,
      top_k: 3,
      temperature: 0,
      output_config: { format: { type: "json_schema", schema } },
      tools: [{ name: "add", description: "Adds.", input_schema: parameters }],
      tool_choice: { type: "any" },
      stream: true,
    });
    expect((await sent(make(), { prompt: chat, tools, toolChoice: { name: "add" } })).body.tool_choice).toEqual({
      type: "tool",
      name: "add",
    });
    expect((await sent(make(), { prompt: chat, sampling: { topK: -1 } })).body).not.toHaveProperty("top_k");
  });

  it("gets images as blocks, and the results of one round of calls in one turn", async () => {
    expect((await sent(make(), { prompt: pictured })).body.messages[0].content).toEqual([
      { type: "text", text: "What is it?" },
      { type: "image", source: { type: "base64", media_type: "image/png", data: "iVBORw==" } },
      { type: "image", source: { type: "url", url: "https://x.test/a.jpg" } },
    ]);
    expect((await sent(make(), { prompt: called, tools })).body.messages.slice(1)).toEqual([
      {
        role: "assistant",
        content: [
          { type: "tool_use", id: "a", name: "add", input: { x: 1 } },
          { type: "tool_use", id: "b", name: "add", input: { x: 3 } },
        ],
      },
      {
        role: "user",
        content: [
          { type: "tool_result", tool_use_id: "a", content: [{ type: "text", text: "3" }] },
          { type: "tool_result", tool_use_id: "b", content: [{ type: "text", text: "7" }] },
        ],
      },
    ]);
  });

  it("gets a begun turn when the model is declared to take one", async () => {
    const { body } = await sent(make({ capabilities: { continueTurn: true } }), { prompt: begun });
    expect(body.messages[1]).toEqual({ role: "assistant", content: [{ type: "text", text: "Well," }] });
  });

  it("counts cached prompt tokens as prompt tokens, and tells the stop text", async () => {
    const backend = make();
    server.reply = (request) => anthropicReply(one(["ok"], { matched: "END" }), request);
    for (const stream of [true, false]) {
      const deltas = await collect(backend.generate(requestOf(backend, { stream })));
      expect(deltas.at(-1)).toMatchObject({
        finish: "stop",
        matched: "END",
        usage: { promptTokens: 30, completionTokens: 5, cachedTokens: 20 },
      });
    }
  });

  it("reports an error inside the stream", async () => {
    const backend = make();
    const error = { type: "error", error: { type: "overloaded_error", message: "Overloaded" } };
    server.reply = () => ({ events: [`event: error\ndata: ${JSON.stringify(error)}\n\n`] });
    await expect(collect(backend.generate(requestOf(backend)))).rejects.toMatchObject({
      code: "QUEUE_FULL",
      retryable: true,
      message: expect.stringContaining("Overloaded"),
    });
  });
});

describe("a model of the AI SDK", () => {
  const call = async (version: "v2" | "v3" | "v4", rest: Partial<BackendGenerateRequest>) => {
    const model = aiSdkModel(version);
    model.script = script;
    const backend = aiSdkBackend(model, { headers: { a: "b" } });
    await collect(backend.generate(requestOf(backend, { stream: false, ...rest })));
    const { abortSignal, ...options } = model.calls[0];
    expect(abortSignal).toBeInstanceOf(AbortSignal);
    // biome-ignore lint/suspicious/noExplicitAny: prompts are looked into, not modelled
    return options as Omit<typeof options, "prompt"> & { prompt: any[] };
  };

  it("gets the SDK's options", async () => {
    const sampling = { maxNewTokens: 5, stop: ["\n"], temperature: 0, topK: 2, seed: 1, presencePenalty: 0.5 };
    expect(
      await call("v2", { prompt: chat, sampling, constraint: constraint.json, tools, toolChoice: { name: "add" } }),
    ).toEqual({
      prompt: [
        { role: "system", content: "Be brief." },
        { role: "user", content: [{ type: "text", text: "Hi" }] },
      ],
      maxOutputTokens: 5,
      stopSequences: ["\n"],
      temperature: 0,
      topK: 2,
      seed: 1,
      presencePenalty: 0.5,
      responseFormat: { type: "json", schema, name: "thing" },
      tools: [{ type: "function", name: "add", description: "Adds.", inputSchema: parameters }],
      toolChoice: { type: "tool", toolName: "add" },
      headers: { a: "b" },
    });
  });

  it("gets images in the form of its version, calls and results as parts", async () => {
    const url = new URL("https://x.test/a.jpg");
    const file = { type: "file", mediaType: "image/png" };
    expect((await call("v3", { prompt: pictured })).prompt[0].content.slice(1)).toEqual([
      { ...file, data: PNG },
      { type: "file", mediaType: "image/*", data: url },
    ]);
    expect((await call("v4", { prompt: pictured })).prompt[0].content.slice(1)).toEqual([
      { ...file, data: { type: "data", data: PNG } },
      { type: "file", mediaType: "image/*", data: { type: "url", url } },
    ]);
    const { prompt } = await call("v3", { prompt: called, tools });
    expect(prompt[1].content[0]).toEqual({ type: "tool-call", toolCallId: "a", toolName: "add", input: { x: 1 } });
    expect(prompt[2]).toEqual({
      role: "tool",
      content: [{ type: "tool-result", toolCallId: "a", toolName: "add", output: { type: "text", value: "3" } }],
    });
  });

  it.each([true, false])(
    "that says it ignores a setting is not believed to have obeyed (stream: %s)",
    async (stream) => {
      for (const warning of [
        { type: "unsupported-setting", setting: "topK", details: "Not here." },
        { type: "unsupported", feature: "topK" },
      ]) {
        const model = aiSdkModel("v3");
        model.script = script;
        model.warnings = [{ type: "other" }, warning];
        const backend = aiSdkBackend(model);
        await expect(collect(backend.generate(requestOf(backend, { stream })))).rejects.toMatchObject({
          code: "UNSUPPORTED",
          message: expect.stringContaining("topK"),
        });
      }
    },
  );

  it("is stopped after too long a silence, and tried again when asked", async () => {
    const model = aiSdkModel("v3");
    model.script = { ...script, hangs: true };
    const silent = aiSdkBackend(model, { timeoutMs: 30 });
    await expect(collect(silent.generate(requestOf(silent)))).rejects.toMatchObject({ retryable: true });
    model.failure = { status: 503, message: "busy" };
    model.calls.length = 0;
    const backend = aiSdkBackend(model, { retry: { attempts: 3, minDelayMs: 1 } });
    await expect(collect(backend.generate(requestOf(backend)))).rejects.toMatchObject({ code: "QUEUE_FULL" });
    expect(model.calls).toHaveLength(3);
  });

  it("of a specification that nobody knows is refused", () => {
    expect(() => aiSdkBackend({ ...aiSdkModel("v3"), specificationVersion: "v1" })).toThrow(/specification v1/);
  });
});
