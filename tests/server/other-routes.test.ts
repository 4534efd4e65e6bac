import { describe, expect, it, vi } from "vitest";
import type { GenerateChunk } from "../../src/core/protocol.js";
import { createServer } from "../../src/server/server.js";
import { FakeEngine } from "./fake-engine.js";
import { harness, silent } from "./harness.js";

/** An answer that never comes. */
async function* neverYields(never: Promise<unknown>): AsyncGenerator<GenerateChunk> {
  await never;
  yield* [];
}

const EMBEDDING = { model: { isGeneration: false } };

describe("/v1/models", () => {
  it("lists the served model and finds it by a name with slashes", async () => {
    const { app } = await harness();
    const card = {
      id: "org/fake-1b",
      object: "model",
      created: expect.any(Number),
      owned_by: "sglang",
      root: "org/fake-1b",
      parent: null,
      max_model_len: 4096,
    };
    expect((await app.inject("/v1/models")).json()).toEqual({ object: "list", data: [card] });
    expect((await app.inject("/v1/models/org/fake-1b")).json()).toEqual(card);
    expect((await app.inject("/v1/models/org%2Ffake-1b")).json()).toEqual(card);
  });

  it("answers an unknown name as OpenAI does", async () => {
    const { app } = await harness({}, { servedModelName: "mine" });
    const reply = await app.inject("/v1/models/gpt-4");
    expect(reply.statusCode).toBe(404);
    expect(reply.json()).toMatchObject({
      error: {
        type: "invalid_request_error",
        param: "model",
        code: "model_not_found",
        message: expect.stringContaining('"mine"'),
      },
    });
  });
});

describe("/v1/embeddings and /encode", () => {
  it.each([
    ["a text", "abc", [{ text: "abc" }]],
    ["texts", ["a", "b"], [{ text: "a" }, { text: "b" }]],
    ["token ids", [1, 2], [{ inputIds: [1, 2] }]],
    ["lists of token ids", [[1], [2]], [{ inputIds: [1] }, { inputIds: [2] }]],
  ])("takes %s", async (_, input, prompts) => {
    const { engine, post } = await harness(EMBEDDING);
    const { status, body } = await post("/v1/embeddings", { model: "m", input });
    expect(status).toBe(200);
    expect(engine.embeds.map(({ prompt }) => prompt)).toEqual(prompts);
    const { data } = body as { data: { index: number; embedding: number[] }[] };
    expect(data.map(({ index }) => index)).toEqual(prompts.map((_, i) => i));
    expect(data[0].embedding.slice(1)).toEqual([0.5, -1]);
  });

  it("answers base64 as little-endian f32, and usage", async () => {
    const { post } = await harness(EMBEDDING);
    const { body } = await post("/v1/embeddings", { input: "abc", encoding_format: "base64" });
    const { data, usage } = body as { data: { embedding: string }[]; usage: object };
    const buffer = Buffer.from(data[0].embedding, "base64");
    expect([0, 4, 8].map((at) => buffer.readFloatLE(at))).toEqual([4, 0.5, -1]);
    expect(usage).toEqual({ prompt_tokens: 4, total_tokens: 4 });
  });

  it("answers /encode natively, a list for a list", async () => {
    const { post } = await harness(EMBEDDING);
    expect((await post("/encode", { text: "abc", rid: "r" })).body).toMatchObject({
      embedding: [4, 0.5, -1],
      meta_info: { id: "r", prompt_tokens: 4 },
    });
    expect((await post("/encode", { text: ["abc"] })).body).toMatchObject([{ embedding: [4, 0.5, -1] }]);
  });

  it("is refused by a model that generates text, with the flag to use", async () => {
    const { post } = await harness();
    for (const [url, body] of [
      ["/v1/embeddings", { input: "a" }],
      ["/encode", { text: "a" }],
    ] as const) {
      const reply = await post(url, body);
      expect(reply.status).toBe(400);
      expect(reply.text).toContain("--is-embedding");
    }
  });

  it("refuses dimensions", async () => {
    const { post } = await harness(EMBEDDING);
    expect(await post("/v1/embeddings", { input: "a", dimensions: 4 })).toMatchObject({
      status: 400,
      body: { param: "dimensions" },
    });
  });
});

describe("/v1/score", () => {
  it("hands query, items and labels on and returns SGLang's reply", async () => {
    const { engine, post } = await harness();
    const { body } = await post("/v1/score", {
      query: "q",
      items: ["a", "b"],
      label_token_ids: [7, 9],
      apply_softmax: true,
      model: "m",
    });
    expect(engine.scores).toMatchObject([
      { query: "q", items: ["a", "b"], labelTokenIds: [7, 9], applySoftmax: true, itemFirst: false },
    ]);
    expect(body).toEqual({
      scores: [
        [0.007, 0.009],
        [1.007, 1.009],
      ],
      model: "m",
      usage: { prompt_tokens: 7, completion_tokens: 0, total_tokens: 7 },
      object: "scoring",
    });
  });

  it.each([
    ["mixed kinds", { query: "q", items: [[1]], label_token_ids: [1] }, "items"],
    ["no labels", { query: "q", items: ["a"], label_token_ids: [] }, "label_token_ids"],
    ["no items", { query: "q", items: [], label_token_ids: [1] }, "items"],
    ["a label outside the vocabulary", { query: "q", items: "a", label_token_ids: [999] }, "label_token_ids[0]"],
  ])("refuses %s", async (_, body, param) => {
    const { post } = await harness();
    expect(await post("/v1/score", body)).toMatchObject({ status: 400, body: { param } });
  });
});

describe.each(["", "/v1"])("%s/tokenize and /detokenize", (prefix) => {
  it("counts the tokens of a text, texts and messages", async () => {
    const { post } = await harness();
    const ask = async (body: object) => (await post(`${prefix}/tokenize`, body)).body;
    expect(await ask({ prompt: "AB" })).toEqual({ tokens: [1, 65, 66], count: 3, max_model_len: 4096 });
    expect(await ask({ prompt: "AB", add_special_tokens: false })).toMatchObject({ tokens: [65, 66] });
    expect(await ask({ prompt: ["A", "BC"] })).toMatchObject({
      tokens: [
        [1, 65],
        [1, 66, 67],
      ],
      count: [2, 3],
    });
    expect(await ask({ messages: [{ role: "user", content: "x" }] })).toMatchObject({
      tokens: [...Buffer.from("<user>x<assistant>")],
    });
  });

  it("gives the text of tokens", async () => {
    const { post } = await harness();
    const ask = async (body: object) => (await post(`${prefix}/detokenize`, body)).body;
    expect(await ask({ tokens: [1, 65, 66] })).toEqual({ text: "AB" });
    expect(await ask({ tokens: [1, 65], skip_special_tokens: false })).toEqual({ text: "\u0001A" });
    expect(await ask({ tokens: [[65], [66]] })).toEqual({ text: ["A", "B"] });
    expect(await ask({ tokens: [] })).toEqual({ text: "" });
  });

  it("refuses what it cannot do", async () => {
    const { post } = await harness();
    expect((await post(`${prefix}/tokenize`, {})).text).toContain("exactly one of prompt and messages");
    expect((await post(`${prefix}/tokenize`, { text: "a" })).text).toContain("Did you mean prompt?");
    expect((await post(`${prefix}/detokenize`, { tokens: [256] })).text).toContain("in [0, 256), got 256");
  });
});

it("tokenizes through the engine where that can, so that long texts stay off the event loop", async () => {
  const { engine, post } = await harness();
  const encode = vi.fn(async (text: string, special = true) => [special ? 7 : 8, text.length]);
  Object.assign(engine, { encode });
  expect((await post("/tokenize", { prompt: "AB" })).body).toMatchObject({ tokens: [7, 2] });
  expect((await post("/tokenize", { prompt: ["A", "BC"], add_special_tokens: false })).body).toMatchObject({
    tokens: [
      [8, 1],
      [8, 2],
    ],
    count: [2, 2],
  });
  expect((await post("/tokenize", { messages: [{ role: "user", content: "x" }] })).body).toMatchObject({
    tokens: [8, "<user>x<assistant>".length],
  });
  expect(encode).toHaveBeenCalledTimes(4);
});

it("says that it has no tokenizer when it has none", async () => {
  const app = await createServer({ engine: new FakeEngine(), config: { disableDocs: true }, logger: silent });
  for (const [url, payload] of [
    ["/tokenize", { prompt: "a" }],
    ["/v1/completions", { prompt: [1], echo: true }],
  ] as const) {
    const reply = await app.inject({ method: "POST", url, payload });
    expect(reply.statusCode).toBe(400);
    expect(reply.body).toContain("tokenizer");
  }
  await app.close();
});

describe("admin routes", () => {
  it("describes the model under SGLang's names", async () => {
    const { app } = await harness({ model: { preferredSamplingParams: { topK: 20 } } });
    for (const url of ["/model_info", "/get_model_info"]) {
      expect((await app.inject(url)).json()).toEqual({
        model_path: "models/fake.gguf",
        tokenizer_path: "models/fake.gguf",
        is_generation: true,
        preferred_sampling_params: { top_k: 20 },
        weight_version: "default",
        has_image_understanding: false,
        has_audio_understanding: false,
        model_type: "qwen2",
        architectures: ["Qwen2ForCausalLM"],
      });
    }
  });

  it("shows arguments and limits but no keys", async () => {
    const { app } = await harness(
      {},
      { serverArgs: { modelPath: "m", apiKey: "sk-1", adminApiKey: "sk-2", chunkedPrefillSize: 512 } },
    );
    for (const url of ["/server_info", "/get_server_info"]) {
      const reply = await app.inject(url);
      expect(reply.json()).toMatchObject({
        model_path: "m",
        chunked_prefill_size: 512,
        max_total_num_tokens: 1024,
        max_req_input_len: 1023,
        internal_states: [{ last_gen_throughput: 42.5 }],
        version: expect.stringMatching(/^\d+\.\d+\.\d+/),
      });
      expect(reply.body).not.toContain("sk-");
    }
  });

  it("reports its load", async () => {
    const { app } = await harness();
    const load = { dp_rank: 0, num_reqs: 2, num_waiting_reqs: 2, num_running_reqs: 0, num_tokens: 128 };
    expect((await app.inject("/get_load")).json()).toMatchObject([load]);
    expect((await app.inject("/v1/loads")).json()).toMatchObject({ loads: [load] });
  });

  it("flushes the cache by GET and POST, waiting as long as it is told", async () => {
    const { app, engine } = await harness();
    expect((await app.inject("/flush_cache")).statusCode).toBe(200);
    expect((await app.inject({ method: "POST", url: "/flush_cache?timeout=2.5" })).statusCode).toBe(200);
    expect(
      (await app.inject({ method: "POST", url: "/flush_cache", headers: { "content-type": "application/json" } }))
        .statusCode,
    ).toBe(200);
    expect(engine.flushCalls).toEqual([0, 2.5, 0]);
    expect((await app.inject("/flush_cache?timeout=soon")).statusCode).toBe(400);
  });

  it("answers 400 when the cache cannot be flushed", async () => {
    const { app } = await harness({ flushes: false });
    const reply = await app.inject("/flush_cache");
    expect(reply.statusCode).toBe(400);
    expect(reply.body).toContain("requests are running or waiting");
  });
});

describe("sessions and pauses", () => {
  it("open and close sessions by POST, with SGLang's field names", async () => {
    const { engine, post } = await harness();
    const opened = await post("/open_session", { capacity_of_str_len: 1000, session_id: "s", timeout: 60 });
    expect([opened.status, opened.body]).toEqual([200, "s"]);
    expect(engine.sessions.get("s")).toEqual({ id: "s", capacity: 1000, timeoutSeconds: 60 });
    expect((await post("/open_session", {})).body).toMatch(/./);
    expect((await post("/open_session", { streaming: true })).status).toBe(400);
    expect((await post("/close_session", { session_id: "s" })).status).toBe(200);
    const again = await post("/close_session", { session_id: "s" });
    expect([again.status, again.text]).toEqual([400, expect.stringContaining('\\"s\\" is not open')]);
  });

  it("pause in the mode that is asked for, abort by default, and go on", async () => {
    const { app, engine, post } = await harness();
    for (const mode of [undefined, "retract", "in_place"])
      expect((await post("/pause_generation", { mode })).status).toBe(200);
    expect((await app.inject({ method: "POST", url: "/continue_generation" })).statusCode).toBe(200);
    expect(engine.pauses).toEqual(["abort", "retract", "in_place", null]);
    const wrong = await post("/pause_generation", { mode: "now" });
    expect([wrong.status, wrong.text]).toEqual([400, expect.stringContaining("one of abort, retract, in_place")]);
  });
});

describe("health", () => {
  it("is 200 without asking the engine", async () => {
    const { app, engine } = await harness();
    for (const url of ["/health", "/ping", "/"]) expect((await app.inject(url)).statusCode).toBe(200);
    expect((await app.inject({ method: "HEAD", url: "/" })).statusCode).toBe(200);
    expect(engine.requests).toHaveLength(0);
  });

  it("asks the engine for one token at /health_generate, and at /health when told", async () => {
    const { app, engine } = await harness({}, { healthGenerates: true });
    for (const url of ["/health_generate", "/health"]) expect((await app.inject(url)).statusCode).toBe(200);
    expect(engine.requests).toMatchObject([
      { samplingParams: { maxNewTokens: 1 } },
      { samplingParams: { maxNewTokens: 1 } },
    ]);
  });

  it("is 200 while the engine is paused, without asking it for a token", async () => {
    const { app, engine, post } = await harness();
    await post("/pause_generation", {});
    expect((await app.inject("/health_generate")).statusCode).toBe(200);
    expect(engine.requests).toHaveLength(0);
  });

  it("is 503 when the engine fails, and when it is silent for too long", async () => {
    const failing = await harness({ fail: { error: new Error("the worker is gone") } });
    const reply = await failing.app.inject("/health_generate");
    expect([reply.statusCode, reply.body]).toEqual([503, "The engine failed a test request: the worker is gone\n"]);
    const never = new Promise(() => {});
    const silentEngine = await harness(
      { answer: () => ({ pieces: ["a", "b"] }), between: () => never },
      { healthTimeoutSeconds: 0.05 },
    );
    silentEngine.engine.generate = () => neverYields(never);
    expect((await silentEngine.app.inject("/health_generate")).body).toContain("produced nothing for 0.05 s");
  });
});

describe("/openapi.json and /docs", () => {
  it("describes every route, with the fields that are really checked", async () => {
    const { app } = await harness({}, { disableDocs: false });
    const doc = (await app.inject("/openapi.json")).json();
    expect(doc.openapi).toMatch(/^3\.1/);
    expect(Object.keys(doc.paths)).toEqual(
      expect.arrayContaining(["/generate", "/v1/chat/completions", "/v1/completions", "/health", "/flush_cache"]),
    );
    const templates = Object.keys(doc.paths).filter((path) => path.includes("{"));
    expect(templates).toEqual(["/v1/models/{id}"]);
    expect(doc.paths[templates[0]].get.parameters).toMatchObject([{ in: "path", name: "id", required: true }]);
    const schema = doc.paths["/v1/chat/completions"].post.requestBody.content["application/json"].schema;
    expect(Object.keys(schema.properties)).toEqual(
      expect.arrayContaining(["messages", "temperature", "tools", "stop_regex"]),
    );
  });

  it("serves a page that loads nothing from elsewhere", async () => {
    const { app } = await harness({}, { disableDocs: false });
    expect([200, 302]).toContain((await app.inject("/docs")).statusCode);
    const page = await app.inject("/docs/");
    expect(page.statusCode).toBe(200);
    expect(page.headers["content-type"]).toContain("text/html");
    const sources = [...page.body.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, source]) => source);
    expect(sources.length).toBeGreaterThan(2);
    expect(sources.filter((source) => /^(https?:)?\/\//.test(source))).toEqual([]);
    for (const source of sources)
      expect((await app.inject(new URL(source, "http://host/docs/").pathname)).statusCode, source).toBe(200);
  });

  it("is left out on demand", async () => {
    const { app } = await harness();
    expect((await app.inject("/openapi.json")).statusCode).toBe(404);
    expect((await app.inject("/docs")).statusCode).toBe(404);
  });
});

describe("/metrics", () => {
  it("exports SGLang's names for the served model", async () => {
    const { app, post } = await harness();
    await post("/generate", { text: "a", stream: true });
    await post("/generate", { text: "a", log_metrics: false });
    const { body, headers } = await app.inject("/metrics");
    expect(headers["content-type"]).toContain("text/plain");
    const lines = body.split("\n");
    const label = '{model_name="org/fake-1b"}';
    for (const line of [
      `sglang:num_running_reqs${label} 0`,
      `sglang:num_queue_reqs${label} 2`,
      `sglang:num_retracted_reqs${label} 1`,
      `sglang:decode_sum_seq_lens${label} 77`,
      `sglang:utilization${label} 0`,
      `sglang:engine_startup_time${label} 2.5`,
      `sglang:engine_load_weights_time${label} 1.5`,
      `sglang:num_so_requests_total${label} 0`,
      `sglang:prefetched_tokens_total${label} 48`,
      `sglang:backuped_tokens_total${label} 80`,
      `sglang:gen_throughput${label} 42.5`,
      `sglang:cache_hit_rate${label} 0`,
      `sglang:prompt_tokens_total${label} 100`,
      `sglang:generation_tokens_total${label} 50`,
      `sglang:num_requests_total${label} 2`,
      `sglang:e2e_request_latency_seconds_count${label} 1`,
      `sglang:time_to_first_token_seconds_count${label} 1`,
      `sglang:inter_token_latency_seconds_count${label} 11`,
      'sglang:time_to_first_token_seconds_bucket{le="0.2",model_name="org/fake-1b"} 1',
      'sglang:realtime_tokens_total{mode="prefill_cache",model_name="org/fake-1b"} 30',
    ])
      expect(lines).toContain(line);
  });

  it("is absent when it is turned off", async () => {
    const { app } = await harness({}, { enableMetrics: false });
    expect((await app.inject("/metrics")).statusCode).toBe(404);
  });
});

describe("/cache/tree", () => {
  const tree = {
    pageSize: 16,
    evictableTokens: 32,
    protectedTokens: 0,
    totalNodes: 1,
    nodes: [
      {
        id: 0,
        parent: null,
        namespace: "",
        depth: 0,
        tokens: 32,
        pages: 2,
        hits: 3,
        locks: 0,
        priority: 0,
        idleSeconds: 1.5,
      },
    ],
  };

  it("shows the prefix cache, texts only when asked", async () => {
    const { app, engine } = await harness();
    const asked: unknown[] = [];
    const cacheTree = (options: unknown) => {
      asked.push(options);
      return tree;
    };
    Object.assign(engine, { cacheTree });
    const { idleSeconds: _, ...node } = tree.nodes[0];
    expect((await app.inject("/cache/tree")).json()).toEqual({
      enabled: true,
      page_size: 16,
      evictable_tokens: 32,
      protected_tokens: 0,
      total_nodes: 1,
      nodes: [{ ...node, idle_seconds: 1.5 }],
    });
    await app.inject("/cache/tree?text=1&max_nodes=5");
    expect(asked).toEqual([{ text: false }, { text: true, maxNodes: 5 }]);
  });

  it("is for the administrator and refuses what it does not understand", async () => {
    const { app, engine } = await harness({}, { adminApiKey: "boss", apiKey: "user" });
    Object.assign(engine, { cacheTree: () => tree });
    const get = (url: string, key: string) => app.inject({ url, headers: { authorization: `Bearer ${key}` } });
    expect((await get("/cache/tree", "user")).statusCode).toBe(401);
    expect((await get("/cache/tree", "boss")).statusCode).toBe(200);
    expect((await get("/cache/tree?text=maybe", "boss")).json()).toMatchObject({ error: { message: /text must be/ } });
    expect((await get("/cache/tree?max_nodes=0", "boss")).statusCode).toBe(400);
  });
});
