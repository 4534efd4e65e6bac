import { describe, expect, it } from "vitest";
import { SglangError } from "../../src/core/errors.js";
import { authorize } from "../../src/server/auth.js";
import { resolveServerConfig } from "../../src/server/config.js";
import { queueFull } from "./fake-engine.js";
import { harness } from "./harness.js";

const CHAT = { messages: [{ role: "user", content: "Hi" }] };

describe("errors", () => {
  const CASES: readonly (readonly [what: string, error: unknown, status: number, code: string, message: string])[] = [
    ["a full queue", queueFull(), 503, "QUEUE_FULL", "8 requests are waiting already; retry later."],
    [
      "a prompt that is too long",
      new SglangError("CONTEXT_TOO_LONG", "Too long."),
      400,
      "CONTEXT_TOO_LONG",
      "Too long.",
    ],
    ["an engine failure", new SglangError("ENGINE_FAILED", "Lost."), 500, "ENGINE_FAILED", "Lost."],
    ["an unexpected error", new TypeError("x is undefined"), 500, "INTERNAL", "Internal error: x is undefined"],
    ["a thrown text", "oops", 500, "INTERNAL", "Internal error: oops"],
  ];

  it.each(CASES)("answer %s in the shape of SGLang and of OpenAI at once", async (_, error, status, code, message) => {
    const { post } = await harness({ fail: { error } });
    const reply = await post("/v1/chat/completions", CHAT);
    expect(reply.status).toBe(status);
    expect(reply.body).toEqual({
      object: "error",
      message,
      type: expect.any(String),
      param: null,
      code: status,
      error: { message, type: expect.any(String), param: null, code },
    });
  });

  it.each(CASES)("answer %s natively on native routes", async (_, error, status, code, message) => {
    const { post } = await harness({ fail: { error } });
    expect(await post("/generate", { text: "a" })).toMatchObject({ status, body: { error: { message, code } } });
  });

  it("say so when the engine ends without an answer", async () => {
    const { engine, post } = await harness();
    engine.generate = async function* () {
      yield* [];
    };
    for (const [url, body] of [
      ["/generate", { text: "a" }],
      ["/v1/chat/completions", CHAT],
      ["/v1/completions", { prompt: "a" }],
    ] as const)
      expect(await post(url, body)).toMatchObject({ status: 500, body: { error: { code: "ENGINE_FAILED" } } });
  });

  it("ask to retry after a full queue", async () => {
    const { app } = await harness({ fail: { error: queueFull() } });
    const reply = await app.inject({ method: "POST", url: "/generate", payload: { text: "a" } });
    expect(reply.headers["retry-after"]).toBe("1");
  });
});

describe("bodies", () => {
  it.each([
    ["text", "text/plain", '{"text":"a"}'],
    ["a form", "application/x-www-form-urlencoded", "text=a"],
    ["JSON of another name", "text/json", '{"text":"a"}'],
  ])("must not be %s", async (_, type, payload) => {
    const { app } = await harness();
    for (const url of ["/generate", "/v1/chat/completions"]) {
      const reply = await app.inject({ method: "POST", url, payload, headers: { "content-type": type } });
      expect(reply.statusCode).toBe(400);
      expect(reply.body).toContain("Content-Type: application/json");
    }
  });

  it("may name a charset", async () => {
    const { post } = await harness();
    expect((await post("/generate", { text: "a" }, { "content-type": "application/json; charset=utf-8" })).status).toBe(
      200,
    );
  });

  it.each(['{"text":', "{'text': 1}", "nul", '{"text":"a"}x', '{"__proto__": {"a": 1}, "text": "a"}'])(
    "must be JSON, not %s",
    async (payload) => {
      const { post } = await harness();
      expect((await post("/generate", payload)).status).toBe(400);
    },
  );

  it("must exist", async () => {
    const { post, app } = await harness();
    expect((await post("/generate", "")).text).toContain("must be a JSON object, got nothing");
    expect((await app.inject({ method: "POST", url: "/generate" })).statusCode).toBe(400);
  });

  it("must fit the limit", async () => {
    const { post } = await harness({}, { bodyLimit: 100 });
    const reply = await post("/v1/completions", { prompt: "a".repeat(200) });
    expect(reply).toMatchObject({
      status: 413,
      body: { object: "error", error: { message: expect.stringContaining("larger") } },
    });
  });
});

describe("unknown routes", () => {
  it.each([
    ["POST", "/v1/chat/completion", "Did you mean /v1/chat/completions?"],
    ["POST", "/generat", "Did you mean /generate?"],
    ["GET", "/generate", "/generate does not take GET; it takes POST, PUT."],
    ["POST", "/release_memory_occupation", "a route of SGLang that this version does not offer"],
    ["GET", "/x/y/z/nothing/like/it", "GET /openapi.json lists the routes."],
  ] as const)("%s %s is 404 with advice", async (method, url, advice) => {
    const { app } = await harness();
    const reply = await app.inject({ method, url });
    expect(reply.statusCode).toBe(404);
    expect(reply.json().error.message).toContain(advice);
  });
});

describe("keys", () => {
  const bearer = (key: string) => ({ authorization: `Bearer ${key}` });

  it("guard every route but health and metrics", async () => {
    const { app } = await harness({}, { apiKey: "k" });
    for (const url of ["/v1/models", "/model_info", "/nowhere", "/"])
      expect((await app.inject(url)).statusCode).toBe(401);
    for (const url of ["/health", "/health_generate", "/metrics"]) expect((await app.inject(url)).statusCode).toBe(200);
    expect((await app.inject({ url: "/v1/models", headers: bearer("k") })).statusCode).toBe(200);
    const wrong = await app.inject({ url: "/v1/models", headers: bearer("kk") });
    expect(wrong.statusCode).toBe(401);
    expect(wrong.headers["www-authenticate"]).toBe("Bearer");
    expect(wrong.json()).toMatchObject({
      object: "error",
      error: { type: "authentication_error", code: "UNAUTHORIZED" },
    });
  });

  it.each([
    // [apiKey, adminApiKey, admin route, header, allowed]
    [null, null, true, undefined, true],
    ["k", null, true, "Bearer k", true],
    ["k", "a", true, "Bearer k", false],
    ["k", "a", true, "Bearer a", true],
    ["k", "a", false, "Bearer k", true],
    ["k", "a", false, "Bearer a", false],
    [null, "a", false, undefined, true],
    [null, "a", true, undefined, false],
    ["k", null, false, "bearer k", true],
    ["k", null, false, "Basic k", false],
    ["k", null, false, "k", false],
    ["k", null, false, "Bearer ", false],
  ])(
    "apiKey %s, adminApiKey %s, admin route %s, header %s: allowed %s",
    (apiKey, adminApiKey, admin, authorization, allowed) => {
      const check = () => authorize({ apiKey, adminApiKey }, { path: "/x", method: "POST", admin, authorization });
      if (allowed) expect(check).not.toThrow();
      else expect(check).toThrow(expect.objectContaining({ code: "UNAUTHORIZED" }));
    },
  );

  it("guard flush and abort as admin routes", async () => {
    const { app } = await harness({}, { adminApiKey: "a" });
    expect((await app.inject("/flush_cache")).statusCode).toBe(401);
    expect((await app.inject({ method: "POST", url: "/abort_request", payload: { abort_all: true } })).statusCode).toBe(
      401,
    );
    expect((await app.inject({ url: "/flush_cache", headers: bearer("a") })).statusCode).toBe(200);
    expect((await app.inject("/v1/models")).statusCode).toBe(200);
  });
});

describe("cross-origin requests", () => {
  const from = (origin: string) => ({ origin });

  it("are open by default, preflight included, even with a key", async () => {
    const { app } = await harness({}, { apiKey: "k" });
    const preflight = await app.inject({
      method: "OPTIONS",
      url: "/v1/chat/completions",
      headers: {
        ...from("http://page"),
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, x-mine",
      },
    });
    expect(preflight.statusCode).toBe(204);
    expect(preflight.headers).toMatchObject({
      "access-control-allow-origin": "*",
      "access-control-allow-headers": "authorization, x-mine",
    });
    const reply = await app.inject({ url: "/health", headers: from("http://page") });
    expect(reply.headers["access-control-allow-origin"]).toBe("*");
    expect(reply.headers).not.toHaveProperty("access-control-allow-credentials");
  });

  it("reach streams too", async () => {
    const { app } = await harness();
    const reply = await app.inject({
      method: "POST",
      url: "/generate",
      payload: { text: "a", stream: true },
      headers: from("http://page"),
    });
    expect(reply.headers).toMatchObject({
      "access-control-allow-origin": "*",
      "content-type": "text/event-stream; charset=utf-8",
    });
  });

  it("are limited to the given origins", async () => {
    const { app } = await harness({}, { corsOrigins: ["http://good"] });
    const good = await app.inject({ url: "/health", headers: from("http://good") });
    const bad = await app.inject({ url: "/health", headers: from("http://bad") });
    expect(good.headers).toMatchObject({ "access-control-allow-origin": "http://good", vary: "Origin" });
    expect(bad.headers).not.toHaveProperty("access-control-allow-origin");
  });
});

describe("X-Request-Id", () => {
  it("comes back when it is harmless, and is made up otherwise", async () => {
    const { app } = await harness();
    const id = async (given?: string) =>
      (await app.inject({ url: "/health", headers: given ? { "x-request-id": given } : {} })).headers["x-request-id"];
    expect(await id("abc-1")).toBe("abc-1");
    expect(await id()).toMatch(/^[0-9a-f-]{36}$/);
    expect(await id("a b<script>")).toMatch(/^[0-9a-f-]{36}$/);
  });

  it("is on streams and errors too", async () => {
    const { app } = await harness();
    const ask = (payload: object) =>
      app.inject({ method: "POST", url: "/generate", payload, headers: { "x-request-id": "q" } });
    expect((await ask({ text: "a", stream: true })).headers["x-request-id"]).toBe("q");
    expect((await ask({})).headers["x-request-id"]).toBe("q");
  });
});

describe("server configuration", () => {
  it("reads SGLang's environment variables", () => {
    const environment = {
      SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION: "true",
      SGLANG_HEALTH_CHECK_TIMEOUT: "5",
      DISABLE_OPENAPI_DOC: "1",
    };
    expect(resolveServerConfig({}, environment)).toMatchObject({
      healthGenerates: true,
      healthTimeoutSeconds: 5,
      disableDocs: true,
    });
    expect(resolveServerConfig({}, {})).toMatchObject({
      healthGenerates: false,
      healthTimeoutSeconds: 20,
      disableDocs: false,
      port: 30000,
      host: "127.0.0.1",
    });
  });

  it.each([
    [{ port: 70000 }, "--port"],
    [{ bodyLimit: 0 }, "--body-limit"],
    [{ apiKey: "" }, "--api-key"],
    [{ drainTimeoutSeconds: -1 }, "--drain-timeout-seconds"],
    [{ toolCallParser: "llama3" as "hermes" }, "--tool-call-parser"],
    [{ prot: 1 } as object, "--prot"],
  ])("refuses %j by the flag", (config, field) => {
    expect(() => resolveServerConfig(config, {})).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT", details: expect.objectContaining({ field }) }),
    );
  });

  it("takes undefined for unset", () => {
    expect(resolveServerConfig({ port: undefined }, {}).port).toBe(30000);
  });
});
