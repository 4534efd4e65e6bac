/** Demanded calls, and `separateReasoning` where the backend keeps the thinking apart: the engine, and servers with a reasoning parser. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { setLogLevel } from "../../src/core/logger.js";
import { REASONING_FORMATS } from "../../src/core/reasoning.js";
import type { BackendPrompt } from "../../src/lang/backends/backend.js";
import { endpointBackend } from "../../src/lang/backends/endpoint.js";
import { engineBackend } from "../../src/lang/backends/engine.js";
import { CapabilityError } from "../../src/lang/errors.js";
import { gen, program, tool } from "../../src/lang/index.js";
import { Engine } from "../../src/runtime/engine.js";
import { writeTinyModel } from "../../src/testing/index.js";
import { collect, one, requestOf } from "../contracts/backend.js";
import { Loopback } from "./loopback.js";
import { sglangServer } from "./servers.js";
import { chatReply } from "./wire-fakes.js";

describe("over a tiny random model", () => {
  let folder: string;
  let engine: Engine;
  beforeAll(async () => {
    setLogLevel("silent");
    folder = mkdtempSync(join(tmpdir(), "lang-thinking-"));
    const { path } = await writeTinyModel(join(folder, "llama"), { seed: 5 });
    engine = await Engine.load(path, { offline: true, threads: 2, maxTotalTokens: 4096 });
  });
  afterAll(async () => {
    await engine.close();
    setLogLevel("info");
    rmSync(folder, { recursive: true });
  });

  const Point = z.object({ x: z.int().min(0).max(9), on: z.boolean() });

  it("calls that are demanded come, and their arguments fit", async () => {
    const backend = engineBackend(engine);
    for (let seed = 0; seed < 4; seed++) {
      const ask = program(async (s) => {
        s.user("Where?");
        const tools = { point: tool({ parameters: Point }), other: tool({ parameters: z.object({ a: z.boolean() }) }) };
        const toolChoice = seed % 2 === 0 ? "required" : { name: "point" };
        const call = s.assistant(gen({ tools, toolChoice, maxTokens: 400 }));
        return (await call.meta()).toolCalls;
      });
      const { value } = await ask.run({ backend, temperature: 1, seed });
      expect(value.length).toBeGreaterThan(0);
      for (const { function: called } of value) {
        const args: unknown = JSON.parse(called.arguments as string);
        if (called.name === "point") expect(Point.safeParse(args).success).toBe(true);
        else expect(args).toEqual({ a: expect.any(Boolean) });
      }
      if (seed % 2 === 1) expect(value.map((call) => call.function.name)).toEqual(["point"]);
    }
  });

  it("a schema holds for what comes after the thinking, and the thinking is a variable", async () => {
    const ask = program(async (s) => {
      s.user("Where?");
      // A mark that a random model writes sooner or later.
      const format = { start: "h", end: "e", startsInside: true };
      const point = s.assistant(gen({ schema: Point, separateReasoning: format, maxTokens: 400 }));
      return { point, meta: await point.meta() };
    });
    const { value } = await ask.run({ backend: engineBackend(engine), temperature: 1, seed: 3 });
    expect(Point.safeParse(value.point).success).toBe(true);
    expect(value.meta.reasoning).not.toContain("e");
    expect(value.meta.usage.reasoningTokens).toBeGreaterThan(0);
    expect(value.meta.tokenIds.length).toBeGreaterThan(engine.tokenizer.encode(value.meta.text, false).length);
  });
});

describe("what is sent to a server", () => {
  let server: Loopback;
  beforeAll(async () => {
    server = await new Loopback().listen();
  });
  afterAll(() => server.close());
  const chat: BackendPrompt = {
    type: "chat",
    messages: [{ role: "user", content: [{ type: "text", text: "Hi" }] }],
    continueFinal: false,
  };
  const constraint = { type: "regex", pattern: "a" } as const;
  const reasoning = REASONING_FORMATS.qwen3;

  it("asks for the thinking apart where the server was declared to keep it so", async () => {
    const backend = endpointBackend({ baseUrl: server.url, reasoning: true });
    server.reply = (request) => chatReply(one(["ok"]), request);
    const deltas = await collect(
      backend.generate(requestOf(backend, { prompt: chat, stream: false, constraint, reasoning })),
    );
    expect(server.last.body).toMatchObject({ separate_reasoning: true, regex: "a" });
    // Said, if only that there is none: it is not looked for in the answer.
    expect(deltas[0].reasoning).toBe("");
  });

  it("tells where a constraint on raw text begins, and splits the text itself", async () => {
    const backend = endpointBackend({ baseUrl: server.url, reasoning: true });
    server.reply = (request) => sglangServer(false)(one(["<think>a</think>b"]), request);
    const prompt: BackendPrompt = { type: "text", parts: [{ type: "text", text: "Hi" }] };
    const deltas = await collect(
      backend.generate(requestOf(backend, { prompt, stream: false, constraint, reasoning })),
    );
    expect(server.last.body).toMatchObject({ require_reasoning: true, sampling_params: { regex: "a" } });
    expect(deltas[0].reasoning).toBeUndefined();
  });

  it("a constraint with thinking needs such a server", async () => {
    const backend = endpointBackend(server.url);
    const asked = collect(backend.generate(requestOf(backend, { prompt: chat, constraint, reasoning })));
    await expect(asked).rejects.toBeInstanceOf(CapabilityError);
    await expect(asked).rejects.toMatchObject({ capability: "reasoning" });
  });
});
