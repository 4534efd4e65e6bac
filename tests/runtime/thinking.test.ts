/** Thinking on the real engine over a tiny random model: constraints hold after it, budgets close it, tokens are counted. */
import { Ajv } from "ajv";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { GenerateRequest, Prompt } from "../../src/core/protocol.js";
import { REASONING_FORMATS, type ReasoningFormat } from "../../src/core/reasoning.js";
import type { EngineConfig } from "../../src/runtime/config.js";
import type { Engine } from "../../src/runtime/engine.js";
import { AnswerThinking, thinkingAfter } from "../../src/runtime/thinking.js";
import { codeOf, collect, collectAll } from "./collect.js";
import { tinyLlama } from "./tiny-llama.js";

const load = tinyLlama();

const SCHEMA = {
  type: "object",
  properties: { id: { type: "integer", minimum: 0, maximum: 99 }, tag: { enum: ["alpha", "beta"] } },
  required: ["id", "tag"],
  additionalProperties: false,
};
const valid = new Ajv().compile(SCHEMA);
/** Marks that a random model writes sooner or later. */
const SHORT: ReasoningFormat = { start: "h", end: "e", startsInside: true };
const THINK = REASONING_FORMATS["deepseek-r1"];

const request = (seed: number, more: Partial<GenerateRequest> = {}): GenerateRequest => ({
  prompt: { text: "Hello world" },
  samplingParams: { maxNewTokens: 300, temperature: 1.1, seed },
  constraint: { type: "jsonSchema", schema: SCHEMA },
  reasoning: { format: SHORT },
  ...more,
});

const thoughts = (chunks: readonly { reasoningDelta?: string }[]) => chunks.map((c) => c.reasoningDelta ?? "").join("");

describe.each<[string, Partial<EngineConfig>]>([
  ["overlapped", {}],
  ["in the plain loop", { disableOverlapSchedule: true }],
  ["without jump-forward", { disableJumpForward: true }],
])("%s", (_, config) => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await load(config);
  });
  afterAll(() => engine.close());

  it("a constraint begins after the thinking, in every answer", async () => {
    for (let seed = 0; seed < 8; seed++) {
      const base = request(seed, { stream: seed % 2 === 0 });
      const answers = await collectAll(engine, { ...base, samplingParams: { ...base.samplingParams, n: 2 } });
      for (const { text, chunks, ids, last } of answers) {
        expect(last.finishReason?.type).toBe("stop");
        expect(valid(JSON.parse(text)), text).toBe(true);
        const spent = last.usage.reasoningTokens ?? 0;
        expect(engine.tokenizer.decode(ids.slice(0, spent)).startsWith(`${thoughts(chunks)}e`)).toBe(true);
        expect(engine.tokenizer.decode(ids.slice(0, spent - 1))).not.toContain("e");
      }
    }
  });

  it("close_on_budget closes the thinking and the answer", async () => {
    for (const maxNewTokens of [40, 60]) {
      for (let seed = 0; seed < 5; seed++) {
        const { text, ids, chunks } = await collect(
          engine,
          request(seed, {
            reasoning: { format: THINK },
            closeOnBudget: true,
            samplingParams: { maxNewTokens, temperature: 1.3, seed },
          }),
        );
        expect(ids.length).toBeLessThanOrEqual(maxNewTokens);
        expect(valid(JSON.parse(text)), text).toBe(true);
        expect(thoughts(chunks)).not.toContain("</think>");
      }
    }
  });
});

describe("thinking", () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await load();
  });
  afterAll(() => engine.close());

  it("stays in the text when it is not kept apart, and the same tokens come", async () => {
    const apart = await collect(engine, request(3));
    const whole = await collect(engine, request(3, { reasoning: { format: SHORT, separate: false } }));
    expect(whole.ids).toEqual(apart.ids);
    expect(whole.text.replace(/\n+\{/, "{")).toBe(`${thoughts(apart.chunks)}e${apart.text}`);
    expect(whole.last.usage).toEqual({
      ...apart.last.usage,
      cachedTokens: whole.last.usage.cachedTokens,
      cachedTokensDetails: expect.anything(),
    });
    expect(whole.chunks.some((chunk) => "reasoningDelta" in chunk)).toBe(false);
  });

  it("is over where the prompt ends it", async () => {
    const { text, chunks, last } = await collect(
      engine,
      request(1, { prompt: { text: "Hello <think>\n\n</think>\n\n" }, reasoning: { format: THINK } }),
    );
    expect(valid(JSON.parse(text)), text).toBe(true);
    expect(thoughts(chunks)).toBe("");
    expect(last.usage.reasoningTokens).toBe(0);
  });

  it("without a constraint changes no token", async () => {
    const free = { prompt: { text: "Hello" }, samplingParams: { maxNewTokens: 60, temperature: 1, seed: 4 } };
    const plain = await collect(engine, free);
    const split = await collect(engine, { ...free, reasoning: { format: SHORT } });
    expect(split.ids).toEqual(plain.ids);
    expect(plain.text.startsWith(thoughts(split.chunks))).toBe(true);
    expect(plain.last.usage.reasoningTokens).toBeUndefined();
  });

  it("between special tokens cannot come before a constraint", async () => {
    const format = { start: "<|im_start|>", end: "<|im_end|>", startsInside: true };
    expect(await codeOf(collect(engine, request(0, { reasoning: { format } })))).toBe("UNSUPPORTED");
  });
});

describe("where an answer begins", () => {
  const QWEN = REASONING_FORMATS.qwen3;
  const chat = (content: string): Prompt => ({
    messages: [{ role: "assistant", content }],
    continueFinalMessage: true,
  });
  const INSIDE = { ...QWEN, startsInside: true };
  it.each<[what: string, prompt: Prompt, tail: string, expected: ReasoningFormat | null]>([
    ["the model opens its thinking", { text: "" }, "<|im_start|>assistant\n", QWEN],
    ["the template opened it", { text: "" }, "assistant\n<think>\n", INSIDE],
    ["the template closed it", { text: "" }, "<think>\n\n</think>\n\n", null],
    ["a message to go on with is in it", chat("<think>So"), "So", INSIDE],
    ["a message to go on with is past it", chat("<think>So</think>The"), "The", null],
    ["a message to go on with has none", chat("The"), "The", null],
    ["a message to go on with is empty", chat(""), "assistant\n", QWEN],
  ])("%s", (_, prompt, tail, expected) => {
    expect(thinkingAfter(QWEN, prompt, tail)).toEqual(expected);
  });
});

describe("tokens of the thinking", () => {
  const count = (format: ReasoningFormat | null, ...tokens: string[]) => {
    const thinking = new AnswerThinking(format, { separate: true, seam: "space" });
    for (const token of tokens) thinking.push(Buffer.from(token));
    return thinking.tokens;
  };
  it.each<[expected: number, format: ReasoningFormat | null, tokens: string[]]>([
    [4, REASONING_FORMATS.qwen3, ["<think>", "a", " b", "</think>", "\n\n", "x"]],
    [5, REASONING_FORMATS.qwen3, ["\n", "<th", "ink>", "</", "think>\n", "x"]],
    [0, REASONING_FORMATS.qwen3, ["x", "<think>", "y"]],
    [2, REASONING_FORMATS.qwen3, ["<think>", "a", "<tool_call>", "{}"]],
    [2, REASONING_FORMATS["deepseek-r1"], ["a", "</think>", "b"]],
    [3, REASONING_FORMATS["deepseek-r1"], ["a", "b", "c"]],
    [0, null, ["a", "</think>"]],
  ])("%i of %o %j", (expected, format, tokens) => {
    expect(count(format, ...tokens)).toBe(expected);
  });

  it("marks may be cut within a character", () => {
    const thinking = new AnswerThinking(REASONING_FORMATS.kimi, { separate: true, seam: "space" });
    for (const byte of Buffer.from("\u25c1think\u25b7a\u25c1/think\u25b7b")) thinking.push(Uint8Array.of(byte));
    expect(thinking.tokens).toBe(Buffer.from("\u25c1think\u25b7a\u25c1/think\u25b7").length);
  });
});
