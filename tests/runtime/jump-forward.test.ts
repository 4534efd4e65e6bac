/** Jump-forward on the real engine over a tiny random model: answers are those of the engine without it, in fewer steps. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { setLogLevel } from "../../src/core/logger.js";
import type { Constraint, GenerateRequest } from "../../src/core/protocol.js";
import type { EngineConfig } from "../../src/runtime/config.js";
import { Engine } from "../../src/runtime/engine.js";
import { writeTinyModel } from "../../src/testing/index.js";
import { collectAll } from "./collect.js";

let folder: string;
let model: string;
const engines: Engine[] = [];
beforeAll(async () => {
  setLogLevel("silent");
  folder = mkdtempSync(join(tmpdir(), "jump-forward-"));
  model = (await writeTinyModel(join(folder, "llama"), { seed: 5 })).path;
});
afterAll(async () => {
  setLogLevel("info");
  for (const engine of engines) await engine.close();
  rmSync(folder, { recursive: true });
});

async function load(config: Partial<EngineConfig> = {}): Promise<Engine> {
  const engine = await Engine.load(model, { offline: true, threads: 2, maxTotalTokens: 4096, ...config });
  engines.push(engine);
  return engine;
}

const SCHEMA = {
  type: "object",
  properties: { identifier: { enum: ["alpha", "omega"] }, occupation: { type: "integer", minimum: 0, maximum: 99 } },
  required: ["identifier", "occupation"],
  additionalProperties: false,
};

const CONSTRAINTS: readonly (Constraint | undefined)[] = [
  { type: "jsonSchema", schema: SCHEMA },
  { type: "regex", pattern: "(0x\\d{2} zzzz qqqq ){1,3}" },
  { type: "regex", pattern: "[a-c]{2}0000000000[a-c]" },
  { type: "choices", choices: ["the first choice of all", "the first choice of none"] },
  undefined,
];

const request = fc.record({
  constraint: fc.constantFrom(...CONSTRAINTS),
  seed: fc.nat(1000),
  temperature: fc.constantFrom(0, 0.7, 1.5),
  maxNewTokens: fc.constantFrom(1, 2, 5, 17, 60),
  minNewTokens: fc.constantFrom(0, 0, 4),
  n: fc.constantFrom(1, 1, 3),
  penalty: fc.constantFrom(0, 0, 0.8),
  stop: fc.constantFrom<string[]>([], [], ["z"], ["00"], ["occ"], ["first c"]),
  bias: fc.constantFrom<Record<number, number>>({}, {}, { 5: 3, 40: -100, 60: 100 }),
  logprobs: fc.constantFrom(undefined, { topNum: 2 }, { tokenIds: [3, 7] }),
  closeOnBudget: fc.boolean(),
  jumpForward: fc.constantFrom("verified", "verified", "forced"),
});

type Asked = typeof request extends fc.Arbitrary<infer T> ? T : never;

function toRequest(asked: Asked): GenerateRequest {
  const { constraint, seed, temperature, maxNewTokens, minNewTokens, n, penalty, stop, bias, logprobs } = asked;
  return {
    prompt: { text: "Hello world, the user said " },
    samplingParams: {
      seed,
      temperature,
      maxNewTokens,
      minNewTokens: Math.min(minNewTokens, maxNewTokens),
      n,
      frequencyPenalty: penalty,
      stop,
      logitBias: bias,
    },
    ...(constraint && {
      constraint,
      closeOnBudget: asked.closeOnBudget,
      jumpForward: asked.jumpForward as "verified" | "forced",
    }),
    ...(logprobs && { logprobs }),
  };
}

/** All that a caller sees, chunk by chunk, but for times and what the cache gave. */
async function answers(engine: Engine, asked: readonly Asked[]): Promise<unknown> {
  const all = await Promise.all(asked.map((one) => collectAll(engine, toRequest(one))));
  return all.map((list) =>
    list.map(({ chunks }) =>
      chunks.map(({ textDelta, tokenIdsDelta, logprobs, finishReason, usage }) => ({
        textDelta,
        tokenIdsDelta,
        logprobs,
        finishReason,
        completionTokens: usage.completionTokens,
      })),
    ),
  );
}

it.each<[string, Partial<EngineConfig>]>([
  ["overlapped", {}],
  ["plain", { disableOverlapSchedule: true }],
  ["overlapped, in a pool too small for all", { maxTotalTokens: 192, pageSize: 8 }],
  ["overlapped, with few tokens per step", { chunkedPrefillSize: 16, maxPrefillTokens: 16 }],
])("answers, logprobs, usage and chunks are those of an engine without jump-forward: %s", async (_, config) => {
  const without = await load({ disableJumpForward: true });
  const jumping = await load(config);
  await fc.assert(
    fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 8 }), async (asked) => {
      expect(await answers(jumping, asked)).toEqual(await answers(without, asked));
    }),
    { numRuns: 15 },
  );
  expect(without.stats().counters.jumpForwardTokens).toBe(0);
  expect(jumping.stats().counters.jumpForwardTokens).toBeGreaterThan(0);
});

it("forced text takes one step instead of one per token", async () => {
  const asked: GenerateRequest = {
    prompt: { text: "Hello world, the user said " },
    samplingParams: { maxNewTokens: 80, temperature: 0 },
    constraint: { type: "regex", pattern: "[ab]0000000000000000[ab]0000000000000000" },
  };
  const steps = async (config: Partial<EngineConfig>) => {
    const engine = await load(config);
    const [{ ids }] = await collectAll(engine, asked);
    return { ids, steps: engine.stats().counters.decodeSteps, jumped: engine.stats().counters.jumpForwardTokens };
  };
  const one = await steps({ disableJumpForward: true });
  const jumping = await steps({});
  expect(jumping.ids).toEqual(one.ids);
  expect(one.jumped).toBe(0);
  expect(jumping.jumped).toBeGreaterThan(0);
  expect(jumping.steps).toBeLessThanOrEqual(one.steps - jumping.jumped + 4);
});

it("forced text comes in the tokenizer's own tokens when the caller asks for it", async () => {
  const engine = await load();
  const text = "they have said that word";
  const ask = async (jumpForward: "verified" | "forced") => {
    const constraint: Constraint = { type: "regex", pattern: `[ab]: ${text}\\.[ab]` };
    const samplingParams = { maxNewTokens: 80, temperature: 1.5, seed: 7 };
    const before = engine.stats().counters;
    const [{ ids, text: said }] = await collectAll(engine, {
      prompt: { text: "Hello" },
      samplingParams,
      constraint,
      jumpForward,
    });
    expect(said.slice(3)).toMatch(new RegExp(`^${text}\\.[ab]$`));
    const { decodeSteps, jumpForwardTokens } = engine.stats().counters;
    return { ids, steps: decodeSteps - before.decodeSteps, jumped: jumpForwardTokens - before.jumpForwardTokens };
  };
  const verified = await ask("verified");
  const forced = await ask("forced");
  const own = engine.tokenizer.encode(` ${text}`, false);
  expect(forced.ids.join(" ")).toContain(own.join(" "));
  // A random model likes other splits.
  expect(verified.ids.length).toBeGreaterThan(forced.ids.length);
  expect(forced.jumped).toBeGreaterThanOrEqual(own.length - 2);
  expect(forced.steps).toBeLessThan(verified.steps);
});

it("forcing text needs a constraint", async () => {
  const engine = await load();
  const asked: GenerateRequest = { prompt: { text: "Hello" }, jumpForward: "forced" };
  await expect(collectAll(engine, asked)).rejects.toMatchObject({ details: { field: "jump_forward" } });
});
