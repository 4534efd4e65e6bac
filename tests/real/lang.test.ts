/** The language on a real model: SmolLM2-135M in this process, and behind this package's server over HTTP. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { setLogLevel } from "../../src/core/logger.js";
import type { Backend, BackendPrompt } from "../../src/lang/backends/backend.js";
import { endpointBackend } from "../../src/lang/backends/endpoint.js";
import { engineBackend } from "../../src/lang/backends/engine.js";
import {
  gen,
  greedyTokenSelection,
  program,
  select,
  tokenLengthNormalized,
  unconditionalLikelihoodNormalized,
} from "../../src/lang/index.js";
import { Engine } from "../../src/runtime/engine.js";
import { type RunningServer, startServer } from "../../src/server/server.js";
import { silent } from "../server/harness.js";

let engine: Engine;
let server: RunningServer;
const backends = {} as Record<"engine" | "endpoint", Backend>;
beforeAll(async () => {
  setLogLevel("warn");
  engine = await Engine.load("smollm2-135m", { offline: true });
  server = await startServer({
    engine,
    tokenizer: engine.tokenizer,
    config: { port: 0, skipServerWarmup: true, enableCacheReport: true },
    logger: silent,
  });
  backends.engine = engineBackend(engine);
  backends.endpoint = endpointBackend(server.url);
});
afterAll(async () => {
  await server?.close();
  await engine?.close();
});
beforeEach(async () => {
  expect(await engine.flushCache({ timeoutSeconds: 10 })).toBe(true);
});

const NAMES = ["engine", "endpoint"] as const;
/** 1,000 tokens and a few, none of them like the others. */
const STORY = Array.from(
  { length: 60 },
  (_, i) => `On day ${i + 1} the keeper of lighthouse ${(i * 37) % 91} counted ${(i * 53) % 97} ships.`,
).join(" ");
const TOPICS = ["ships", "rain", "whales", "letters", "lamps", "storms", "bread", "stars"];
const signal = new AbortController().signal;
const raw = (text: string): BackendPrompt => ({ type: "text", parts: [{ type: "text", text }] });
const turn = (role: "user" | "assistant") => (text: string) => ({ role, content: [{ type: "text" as const, text }] });
const user = turn("user");
const begun = turn("assistant");
const greedy = { temperature: 0 };

describe.each(NAMES)("a fork of 8 over a prefix of 1,000 tokens on the %s", (name) => {
  const raws = program(async (s) => {
    s.text(STORY);
    await s.fork(TOPICS, (f, topic) => {
      f.text` Then the keeper wrote about ${topic}:${gen("note", { maxTokens: 4, ...greedy })}`;
      return f.get("note");
    });
  });
  const turns = program(async (s) => {
    s.system("You are a keeper.");
    s.user(STORY);
    s.assistant("I see.");
    await s.fork(TOPICS, (f, topic) => {
      f.user`What of ${topic}?`;
      return f.assistant(gen("note", { maxTokens: 4, ...greedy }));
    });
  });

  it.each([["raw text", raws] as const, ["turns", turns] as const])(
    "computes the prefix once (%s)",
    async (_, program) => {
      const before = engine.stats().counters.computedPromptTokens;
      const result = await program.run({ backend: backends[name] });
      expect(result.error).toBeUndefined();
      const computed = engine.stats().counters.computedPromptTokens - before;
      const calls = result
        .trace()
        .calls()
        .filter(({ kind }) => kind === "gen");
      expect(calls).toHaveLength(8);
      const usages = calls.map(({ meta }) => meta?.usage ?? { promptTokens: 0, cachedTokens: 0 });
      const own = 32 + engine.config.pageSize;
      for (const { promptTokens, cachedTokens } of usages) {
        expect(promptTokens).toBeGreaterThan(1000);
        // All but what is the child's own: its last page is not full, and its question is new.
        expect(cachedTokens).toBeGreaterThan(promptTokens - own);
      }
      expect(computed).toBeLessThan(Math.max(...usages.map(({ promptTokens }) => promptTokens)) + 8 * own);
    },
  );
});

describe.each(NAMES)("select on the %s", (name) => {
  const QUESTIONS: [prompt: string, choices: string[], answer: string][] = [
    ["The capital of France is", [" Berlin", " Paris", " a banana"], " Paris"],
    ["Two plus two is", [" four", " seven hundred and twelve", " green"], " four"],
    ["The opposite of hot is", [" cold", " a very long word for something else"], " cold"],
    ["def add(a, b):\n    return a", [" + b", " elephant", "\n\nclass"], " + b"],
  ];
  const METHODS = [tokenLengthNormalized, greedyTokenSelection, unconditionalLikelihoodNormalized];

  it.each(QUESTIONS)("answers %j", async (prompt, choices, answer) => {
    const ask = program(async (s) => {
      s.text(prompt);
      return s.append(select("answer", choices));
    });
    const result = await ask.run({ backend: backends[name] });
    expect(result.value).toBe(answer);
    const { choices: scored = [] } = await result.meta("answer");
    expect(scored).toHaveLength(choices.length);
    for (const { score, tokens } of scored) {
      const mean = tokens.reduce((sum, [logprob]) => sum + logprob, 0) / tokens.length;
      expect(score).toBeCloseTo(mean, 10);
    }
  });

  it.each(METHODS)("works in the assistant's turn, by each method", async (method) => {
    const ask = program(async (s) => {
      s.user("Is the sky blue on a clear day? Answer yes or no.");
      return s.assistant("The answer is", select("answer", [" yes", " xylophone"], { method }));
    });
    expect((await ask.run({ backend: backends[name] })).value).toBe(" yes");
  });

  it("gives the logprobs that the model gives the same tokens of the whole text", async () => {
    const prompt = "She went to the super";
    const continuations = ["market to buy bread.", " bowl", "\n"];
    const result = await backends[name].score?.({ prompt: raw(prompt), continuations, unconditional: false, signal });
    for (const [i, continuation] of continuations.entries()) {
      const request = { prompt: { text: prompt + continuation }, samplingParams: { maxNewTokens: 0 } };
      const whole = [];
      for await (const { logprobs } of engine.generate({ ...request, logprobs: { startLen: 0 } }))
        whole.push(...(logprobs?.input ?? []));
      const tokens = result?.scores[i].tokens ?? [];
      expect(tokens.length).toBeGreaterThan(0);
      expect(tokens.map((token) => [...token])).toEqual(whole.slice(-tokens.length));
    }
  });
});

describe("the engine and its server", () => {
  const story = program(async (s) => {
    s.text`Once upon a time${gen("a", { maxTokens: 24, ...greedy })} And then${gen("b", { maxTokens: 24, stop: ".", ...greedy })}`;
  });
  const talk = program(async (s) => {
    s.system("You are brief.");
    s.user("Name a fruit.");
    s.assistant(gen("fruit", { maxTokens: 16, ...greedy }));
    s.user("And a color?");
    s.assistant("Sure, a color is", gen("color", { maxTokens: 12, ...greedy }));
  });

  it.each([["raw text", story] as const, ["turns, one of them begun", talk] as const])(
    "write the same greedy text (%s)",
    async (_, program) => {
      const inProcess = await program.run({ backend: backends.engine });
      const overHttp = await program.run({ backend: backends.endpoint });
      expect(inProcess.error).toBeUndefined();
      expect(inProcess.text.length).toBeGreaterThan(60);
      expect(overHttp.text).toBe(inProcess.text);
    },
  );

  it("stop computing for who has left", async () => {
    for (const backend of Object.values(backends)) {
      const controller = new AbortController();
      const sampling = { temperature: 0, maxNewTokens: 2000, ignoreEos: true };
      const run = async () => {
        for await (const { text } of backend.generate({
          prompt: raw("Count:"),
          sampling,
          stream: true,
          signal: controller.signal,
        }))
          if (text !== "") controller.abort(new Error("enough"));
      };
      await expect(run()).rejects.toThrow("enough");
      expect(await engine.flushCache({ timeoutSeconds: 10 })).toBe(true);
    }
  });

  it.each<[string, BackendPrompt, string[]]>([
    ["raw text", raw("The sea is"), [" blue", " dry"]],
    ["a turn that is new", { type: "chat", messages: [user("Sky?")], continueFinal: false }, ["Blue", "A door"]],
    [
      "a turn that is begun",
      { type: "chat", messages: [user("Sky?"), begun("It is")], continueFinal: true },
      [" blue"],
    ],
  ])("score alike after %s", async (_, prompt, continuations) => {
    const request = { prompt, continuations, unconditional: true, signal };
    const [inProcess, overHttp] = await Promise.all(
      [backends.engine, backends.endpoint].map(async (backend) => (await backend.score?.(request))?.scores),
    );
    expect(inProcess).toHaveLength(continuations.length);
    expect(overHttp).toEqual(inProcess);
  });
});
