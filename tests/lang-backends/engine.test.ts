import { beforeEach, describe, expect, it } from "vitest";
import { SglangError } from "../../src/core/errors.js";
import type { BackendPrompt } from "../../src/lang/backends/backend.js";
import { engineBackend } from "../../src/lang/backends/engine.js";
import { BackendError, CapabilityError } from "../../src/lang/errors.js";
import { collect, one, requestOf } from "../contracts/backend.js";
import { ScriptedEngine } from "./scripted-engine.js";

let engine: ScriptedEngine;
beforeEach(() => {
  engine = new ScriptedEngine();
  engine.script = one(["ok"]);
});

const { signal } = new AbortController();
const text = (content: string) => [{ type: "text" as const, text: content }];
const raw = (content: string): BackendPrompt => ({ type: "text", parts: text(content) });

describe("the engine as a backend", () => {
  it("passes turns as messages, and continues a begun one", async () => {
    const prompt: BackendPrompt = {
      type: "chat",
      messages: [
        { role: "user", content: text("Hi") },
        { role: "assistant", content: text("Well,") },
      ],
      continueFinal: true,
    };
    const backend = engineBackend(engine, { extraKey: "mine" });
    await collect(backend.generate(requestOf(backend, { prompt, sampling: { topK: 3 }, logprobs: { top: 1 } })));
    expect(engine.requests[0]).toMatchObject({
      prompt: {
        messages: [
          { role: "user", content: "Hi" },
          { role: "assistant", content: "Well," },
        ],
        continueFinalMessage: true,
      },
      samplingParams: { topK: 3 },
      logprobs: { startLen: -1, topNum: 1 },
      extraKey: "mine",
      stream: true,
    });
  });

  it.each([
    ["nothing merges", "cat", ["s", "ty"], [["s"], ["t", "y"]]],
    ["a continuation merges with the prompt's last token", "f(", [")", "):", "x"], [["()"], ["():"], ["x"]]],
    ["it merges with several", "walk ab", ["c", "d"], [["abc"], ["d"]]],
    ["it takes back more than two tokens", " th", ["e", "at"], [[" the"], ["a", "t"]]],
    [
      "the seam lies in a word",
      "sing",
      [" in", "er"],
      [
        [" ", "i", "n"],
        ["e", "r"],
      ],
    ],
  ])("scores the tokens that spell the continuation when %s", async (_, prompt, continuations, tokens) => {
    const backend = engineBackend(engine);
    const result = await backend.score?.({ prompt: raw(prompt), continuations, unconditional: false, signal });
    expect(result?.scores.map((score) => score.tokens.map(([, , token]) => token))).toEqual(tokens);
  });

  it("commits the prompt once, then scores all continuations at once", async () => {
    const backend = engineBackend(engine);
    await backend.score?.({ prompt: raw("cat"), continuations: ["s", "ty", "x"], unconditional: false, signal });
    expect(engine.requests.map(({ prompt, samplingParams, logprobs }) => [prompt, samplingParams, logprobs])).toEqual([
      [{ text: "cat" }, { maxNewTokens: 0, n: 1 }, undefined],
      ...["cats", "catty", "catx"].map((full) => [{ text: full }, { maxNewTokens: 0, n: 1 }, { startLen: 2 }]),
    ]);
  });

  it("asks for the same tokens alone when a method wants them unconditional", async () => {
    const backend = engineBackend(engine);
    const result = await backend.score?.({ prompt: raw("f("), continuations: ["):x"], unconditional: true, signal });
    expect(engine.requests.at(-1)).toMatchObject({ prompt: { inputIds: [260, 120] }, logprobs: { startLen: 0 } });
    expect(result?.scores[0].unconditional).toEqual([null, expect.any(Number)]);
    // Prompt, prompt with continuation, continuation alone.
    expect(result?.usage.promptTokens).toBe(3 + 4 + 2);
  });

  it("stops all scoring when one request fails", async () => {
    const backend = engineBackend(engine);
    const generate = engine.generate.bind(engine);
    engine.generate = (request) => {
      if ("text" in request.prompt && request.prompt.text === "catx")
        engine.failure = new SglangError("QUEUE_FULL", "full");
      return generate(request);
    };
    const run = backend.score?.({ prompt: raw("cat"), continuations: ["s", "x"], unconditional: false, signal });
    await expect(run).rejects.toBeInstanceOf(BackendError);
  });

  it("keeps the code and the field of the engine's error", async () => {
    engine.failure = new SglangError("CONTEXT_TOO_LONG", "The prompt has 9 tokens.", { field: "text" });
    const backend = engineBackend(engine);
    await expect(collect(backend.generate(requestOf(backend)))).rejects.toMatchObject({
      name: "BackendError",
      code: "CONTEXT_TOO_LONG",
      details: { field: "text" },
      retryable: false,
    });
  });

  it("takes tools unless told not to, and forces calls only where it knows how they are written", async () => {
    const tools = [{ type: "function" as const, function: { name: "add" } }];
    expect(engineBackend(engine).capabilities.tools).toBe(true);
    expect(engineBackend(engine, { toolParser: null }).capabilities.tools).toBe(false);
    const parser = () => ({ push: (piece: string) => [{ type: "text" as const, text: piece }], flush: () => [] });
    const backend = engineBackend(engine, { toolParser: parser });
    const forced = collect(backend.generate(requestOf(backend, { tools, toolChoice: "required" })));
    await expect(forced).rejects.toBeInstanceOf(CapabilityError);
    await collect(backend.generate(requestOf(backend, { tools, toolChoice: "none" })));
    expect(engine.requests[0].prompt).not.toHaveProperty("tools");
    await collect(backend.generate(requestOf(backend, { tools })));
    expect(engine.requests[1]).toMatchObject({ prompt: { tools }, samplingParams: { skipSpecialTokens: false } });
  });

  it("holds calls to what was demanded of them", async () => {
    const add = {
      type: "function" as const,
      function: { name: "add", parameters: { type: "object", required: ["a"] } },
    };
    const strict = { ...add, function: { ...add.function, name: "sub", strict: true } };
    const backend = engineBackend(engine);
    const ask = (rest: object) => collect(backend.generate(requestOf(backend, { tools: [add, strict], ...rest })));
    await ask({ toolChoice: "required" });
    await ask({ toolChoice: { name: "sub" } });
    await ask({});
    await ask({ tools: [add] });
    const tags = (name: string, parameters: object) => ({
      begin: `<tool_call>\n{"name": "${name}", "arguments": `,
      content: { type: "json_schema", json_schema: parameters },
      end: "}\n</tool_call>",
    });
    const { parameters } = add.function;
    const formats = engine.requests.map(({ constraint }) => constraint);
    expect(formats.slice(0, 3)).toMatchObject([
      {
        tag: {
          format: {
            type: "tags_with_separator",
            tags: [tags("add", parameters), tags("sub", parameters)],
            stop_after_first: false,
          },
        },
      },
      { tag: { format: { type: "tags_with_separator", tags: [tags("sub", parameters)], stop_after_first: true } } },
      { tag: { format: { type: "triggered_tags", tags: [tags("add", { type: "object" }), tags("sub", parameters)] } } },
    ]);
    expect(formats[3]).toBeUndefined();
    // The template shows the model nothing of strictness, and all the tools there are.
    expect(engine.requests[1].prompt).toMatchObject({
      tools: [add, { type: "function", function: { name: "sub", parameters } }],
    });
    const refused = [
      ask({ toolChoice: { name: "mul" } }),
      ask({ tools: [], toolChoice: "required" }),
      ask({ toolChoice: "required", constraint: { type: "regex", pattern: "a" } }),
    ];
    for (const one of refused) await expect(one).rejects.toMatchObject({ capability: "tools" });
  });

  it("declares no turns for a model without a chat template", () => {
    const backend = engineBackend(new ScriptedEngine({ hasChatTemplate: false }));
    expect(backend.capabilities).toMatchObject({ text: true, chat: false, continueTurn: false });
  });

  it("counts tokens with the engine's tokenizer, and not without one", () => {
    expect(engineBackend(engine).countTokens?.("f():x")).toBe(3);
    const proxy = Object.assign(Object.create(engine), { tokenizer: undefined });
    expect(engineBackend(proxy).countTokens).toBeUndefined();
  });

  it("has nothing to warm in an empty prompt", async () => {
    const backend = engineBackend(engine);
    await backend.prefixHint?.({ type: "text", parts: [] }, signal);
    expect(engine.requests).toEqual([]);
  });
});
