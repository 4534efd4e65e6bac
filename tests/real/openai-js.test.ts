import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Engine } from "../../src/runtime/engine.js";
import { type RunningServer, startServer } from "../../src/server/server.js";

/** The real OpenAI client for JavaScript against the real server and SmolLM2-135M, in one process. */
describe("the OpenAI client for JavaScript", () => {
  let engine: Engine;
  let server: RunningServer;
  let client: OpenAI;
  beforeAll(async () => {
    engine = await Engine.load("smollm2-135m", { offline: true });
    server = await startServer({ engine, tokenizer: engine.tokenizer, config: { port: 0 } });
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
  });
  afterAll(async () => {
    await server?.close();
    await engine?.close();
  });

  const messages = [
    { role: "system" as const, content: "You are a helpful assistant." },
    { role: "user" as const, content: "以杭州的春天为题,写一篇100字的短文" },
  ];

  it("gets the same answer whole and streamed, with usage", async () => {
    const whole = await client.chat.completions.create({ model: "default", messages, temperature: 0, max_tokens: 60 });
    const stream = await client.chat.completions.create({
      model: "default",
      messages,
      temperature: 0,
      max_tokens: 60,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    let total = 0;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      total = chunk.usage?.total_tokens ?? total;
    }
    expect(text).toBe(whole.choices[0].message.content);
    expect(text.length).toBeGreaterThan(10);
    expect(total).toBe(whole.usage?.total_tokens);
    expect(whole.choices[0].finish_reason).toBe("length");
  });

  it("gets n answers from one seed, the same ones twice", async () => {
    const ask = () =>
      client.chat.completions.create({ model: "default", messages, temperature: 0.9, seed: 7, n: 3, max_tokens: 16 });
    const [first, second] = await Promise.all([ask(), ask()]);
    const texts = first.choices.map((c) => c.message.content);
    expect(second.choices.map((c) => c.message.content)).toEqual(texts);
    expect(new Set(texts).size).toBeGreaterThan(1);
  });

  it("gets logprobs whose bytes make up the text", async () => {
    const reply = await client.chat.completions.create({
      model: "default",
      messages,
      temperature: 0,
      max_tokens: 12,
      logprobs: true,
      top_logprobs: 3,
    });
    const content = reply.choices[0].logprobs?.content ?? [];
    expect(content).toHaveLength(12);
    for (const token of content) {
      expect(token.logprob).toBeLessThanOrEqual(0);
      expect(token.top_logprobs).toHaveLength(3);
      expect(token.top_logprobs[0].logprob).toBe(token.logprob);
    }
    const bytes = Buffer.from(content.flatMap((t) => t.bytes ?? []));
    expect(bytes.toString("utf8").startsWith((reply.choices[0].message.content ?? "").replace(/\uFFFD+$/, ""))).toBe(
      true,
    );
  });

  it("stops a stream the program breaks out of, and leaves nothing behind", async () => {
    const stream = await client.chat.completions.create({ model: "default", messages, max_tokens: 2000, stream: true });
    for await (const _ of stream) break;
    stream.controller.abort();
    for (let i = 0; engine.stats().numRunningReqs > 0 && i < 200; i++) await new Promise((r) => setTimeout(r, 20));
    const { pages, numRunningReqs } = engine.stats();
    expect(numRunningReqs).toBe(0);
    expect(pages.inUse).toBe(0);
    expect(pages.free + pages.evictable + pages.protected).toBe(pages.total);
  });

  it("throws the client's own error classes", async () => {
    await expect(
      client.chat.completions.create({ model: "default", messages, temperature: -1 }),
    ).rejects.toBeInstanceOf(OpenAI.BadRequestError);
    await expect(client.models.retrieve("nobody")).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  });
});
