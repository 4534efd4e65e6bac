/** Fields and headers that steer the scheduler: the same on every generating route. */
import { describe, expect, it } from "vitest";
import { harness } from "./harness.js";

const ROUTES = [
  ["/generate", { text: "a" }],
  ["/v1/completions", { prompt: "a" }],
  ["/v1/chat/completions", { messages: [{ role: "user", content: "a" }] }],
] as const;

describe.each(ROUTES)("%s", (url, body) => {
  it("hands priority and timeout_s to the engine", async () => {
    const { engine, post } = await harness();
    expect((await post(url, { ...body, priority: -3, timeout_s: 2.5 })).status).toBe(200);
    expect((await post(url, body)).status).toBe(200);
    expect(engine.requests).toMatchObject([{ priority: -3, timeoutSeconds: 2.5 }, {}]);
    expect(engine.requests[1]).toMatchObject({ priority: undefined, timeoutSeconds: undefined });
  });

  it.each([
    [{ priority: 0.5 }, /priority must be an integer/],
    [{ timeout_s: -1 }, /timeout_s must be a number of seconds above 0/],
    [{ timeout_s: 1e9 }, /timeout_s must be .* at most 2147483\.647/],
    [{ timeout_s: "2" }, /timeout_s must be a number/],
  ])("refuses %o by name", async (fields, says) => {
    const { engine, post } = await harness();
    const reply = await post(url, { ...body, ...fields });
    expect([reply.status, reply.text]).toEqual([400, expect.stringMatching(says)]);
    expect(engine.requests).toHaveLength(0);
  });

  it("names the tenant by the header x-tenant", async () => {
    const { engine, post } = await harness();
    await post(url, body, { "x-tenant": "acme" });
    await post(url, body);
    expect(engine.requests.map(({ tenant }) => tenant)).toEqual(["acme", undefined]);
  });

  it("answers 504 when the timeout passes before the answer begins", async () => {
    const finish = { type: "abort", message: "The request's timeout_s of 1 s has passed.", statusCode: 504 } as const;
    const { post } = await harness({ answer: () => ({ pieces: [""], finish }) });
    const reply = await post(url, { ...body, timeout_s: 1 });
    expect([reply.status, reply.text]).toEqual([504, expect.stringContaining("timeout_s of 1 s has passed")]);
  });
});

describe("user of an OpenAI body", () => {
  it.each(ROUTES.slice(1))("is the tenant on %s, unless the header names another", async (url, body) => {
    const { engine, post } = await harness();
    await post(url, { ...body, user: "ann" });
    await post(url, { ...body, user: "ann" }, { "x-tenant": "acme" });
    expect(engine.requests.map(({ tenant }) => tenant)).toEqual(["ann", "acme"]);
  });
});

describe("session_params of /generate", () => {
  it("say what is continued, per item of a batch", async () => {
    const { engine, post } = await harness();
    const session_params = [{ id: "s", rid: "r", offset: -1, replace: true, drop_previous_output: true }, { id: "t" }];
    expect((await post("/generate", { text: ["a", "b"], session_params })).status).toBe(200);
    expect((await post("/generate", { text: "a", session_params: {} })).status).toBe(200);
    expect(engine.requests.map(({ session }) => session)).toEqual([
      { id: "s", rid: "r", offset: -1, replace: true, dropPreviousOutput: true },
      { id: "t" },
      undefined,
    ]);
  });
});
