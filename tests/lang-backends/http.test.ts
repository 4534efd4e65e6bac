import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { HttpClient, type HttpOptions } from "../../src/lang/backends/http.js";
import { BackendError } from "../../src/lang/errors.js";
import { until } from "../contracts/backend.js";
import { Loopback } from "./loopback.js";

let server: Loopback;
beforeEach(async () => {
  server = await new Loopback().listen();
});
afterEach(() => server.close());

const never = new AbortController().signal;
const client = (options: HttpOptions = {}) =>
  new HttpClient("test(m)", `${server.url}/`, { authorization: "Bearer secret" }, options);
const quick = { retry: { attempts: 3, minDelayMs: 1 } };

async function failure(work: Promise<unknown>): Promise<BackendError> {
  const error = await work.catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(BackendError);
  return error as BackendError;
}
async function all(options: HttpOptions = {}, signal = never): Promise<string[]> {
  const data: string[] = [];
  for await (const event of client(options).events("/x", { a: 1 }, signal)) data.push(event.data);
  return data;
}

describe("a call", () => {
  it("sends JSON with the backend's headers, under the caller's", async () => {
    server.reply = () => ({ json: { ok: true } });
    const headers = { "x-extra": "1", authorization: "Bearer other" };
    expect(await client({ headers }).json("/x", { a: [1, "ü"] }, never)).toEqual({ ok: true });
    expect(server.last).toMatchObject({ path: "/x", body: { a: [1, "ü"] } });
    expect(server.last.headers).toMatchObject({
      "content-type": "application/json",
      accept: "application/json",
      "x-extra": "1",
      authorization: "Bearer other",
    });
  });

  it.each([
    [400, "INVALID_REQUEST", false],
    [401, "UNAUTHORIZED", false],
    [403, "UNAUTHORIZED", false],
    [404, "NOT_FOUND", false],
    [408, "QUEUE_FULL", true],
    [422, "INVALID_REQUEST", false],
    [429, "QUEUE_FULL", true],
    [500, "ENGINE_FAILED", true],
    [501, "UNSUPPORTED", false],
    [502, "ENGINE_FAILED", true],
    [503, "QUEUE_FULL", true],
    [529, "QUEUE_FULL", true],
  ])("names status %i %s, and says whether to come back", async (status, code, retryable) => {
    server.reply = () => ({ status, json: { error: { message: "no luck" } }, headers: { "retry-after": "2" } });
    const error = await failure(client().json("/x", {}, never));
    expect(error).toMatchObject({ code, retryable, httpStatus: status, retryAfterMs: 2000, backend: "test(m)" });
    expect(error.message).toBe(`test(m) answered /x with ${status}: no luck`);
    expect(JSON.stringify(error) + error.message).not.toContain("secret");
  });

  it.each([
    ["SGLang's form", { message: "a", object: "error" }, "a"],
    ["OpenAI's form", { error: { message: "b", code: null } }, "b"],
    ["a plain text under error", { error: "c" }, "c"],
    ["FastAPI's form", { detail: "d" }, "d"],
    ["FastAPI's list", { detail: [{ msg: "e" }] }, '{"detail":[{"msg":"e"}]}'],
  ])("finds the sentence in %s", async (_, json, sentence) => {
    server.reply = () => ({ status: 400, json });
    expect((await failure(client().json("/x", {}, never))).message.endsWith(`400: ${sentence}`)).toBe(true);
  });

  it("shows what is not JSON", async () => {
    server.reply = () => ({ text: "<html>gateway" });
    expect((await failure(client().json("/x", {}, never))).message).toContain("<html>gateway");
    server.reply = () => ({ status: 502, text: "<html>gateway" });
    expect((await failure(client().json("/x", {}, never))).message).toContain("<html>gateway");
  });

  it("names the address that nobody answers at", async () => {
    const { url } = server;
    const nobody = new HttpClient("test(m)", url, {}, {});
    await server.close();
    const error = await failure(nobody.json("/x", {}, never));
    expect(error).toMatchObject({ code: "ENGINE_FAILED", retryable: true, httpStatus: undefined });
    expect(error.message).toContain(`${url}/x`);
    server = await new Loopback().listen();
  });

  it("needs an address with a scheme, or a path of the page's own server", () => {
    expect(() => new HttpClient("test(m)", "localhost:30000", {}, {})).toThrow(/baseUrl must be .*"localhost:30000"/);
    expect(() => new HttpClient("test(m)", "/api", {}, {})).not.toThrow();
  });

  it("is tried again as often as asked, and no more", async () => {
    let left = 2;
    server.reply = () => (left-- > 0 ? { status: 503, json: {} } : { json: { ok: 1 } });
    expect(await client(quick).json("/x", {}, never)).toEqual({ ok: 1 });
    expect(server.requests).toHaveLength(3);
    left = 3;
    expect(await failure(client(quick).json("/x", {}, never))).toMatchObject({ httpStatus: 503 });
    expect(server.requests).toHaveLength(6);
  });

  it("is tried once when nobody asked for more, or when trying again can't help", async () => {
    server.reply = () => ({ status: 503, json: {} });
    await failure(client().json("/x", {}, never));
    server.reply = () => ({ status: 400, json: {} });
    await failure(client(quick).json("/x", {}, never));
    expect(server.requests).toHaveLength(2);
  });

  it("stops waiting for the next try when aborted", async () => {
    server.reply = () => ({ status: 503, json: {}, headers: { "retry-after": "10" } });
    const controller = new AbortController();
    const run = client(quick).json("/x", {}, controller.signal);
    const reason = new Error("enough");
    const settled = run.catch((error: unknown) => error);
    await until(() => server.requests.length === 1, "the first try");
    controller.abort(reason);
    expect(await settled).toBe(reason);
    expect(server.requests).toHaveLength(1);
  });

  it("gives up after too long a silence, and says how to wait longer", async () => {
    server.reply = () => ({ json: {}, hangs: true });
    const error = await failure(client({ timeoutMs: 40 }).json("/x", {}, never));
    expect(error).toMatchObject({ code: "ENGINE_FAILED", retryable: true, details: { field: "timeoutMs" } });
    expect(error.message).toContain("40 ms");
  });

  it("tries again after a silence with a fresh connection", async () => {
    server.reply = () => (server.requests.length === 1 ? { json: {}, hangs: true } : { json: { ok: 1 } });
    expect(await client({ ...quick, timeoutMs: 400 }).json("/x", {}, never)).toEqual({ ok: 1 });
    server.requests.length = 0;
    server.reply = () => (server.requests.length === 1 ? { events: [], hangs: true } : { events: ["data: 1\n\n"] });
    expect(await all({ ...quick, timeoutMs: 400 })).toEqual(["1"]);
  });

  it("calls an injected fetch as a plain function", async () => {
    const seen: unknown[] = [];
    const fetch = async function (this: unknown) {
      seen.push(this);
      return Response.json({ ok: 1 });
    } as unknown as typeof globalThis.fetch;
    expect(await client({ fetch }).json("/x", {}, never)).toEqual({ ok: 1 });
    expect(seen).toEqual([undefined]);
  });
});

describe("a stream", () => {
  it("asks for events and gives them", async () => {
    server.reply = () => ({ events: ["data: 1\n\n", "data: 2\n\n"] });
    expect(await all()).toEqual(["1", "2"]);
    expect(server.last.headers.accept).toBe("text/event-stream");
  });

  it("refuses a whole reply, and shows it", async () => {
    server.reply = () => ({ json: { hello: "there" } });
    expect((await failure(all())).message).toContain('{"hello":"there"}');
  });

  it("is tried again while nothing was handed on", async () => {
    server.reply = () => (server.requests.length < 3 ? { events: [], breaks: true } : { events: ["data: 1\n\n"] });
    expect(await all(quick)).toEqual(["1"]);
    expect(server.requests).toHaveLength(3);
  });

  it("is not tried again once something was", async () => {
    server.reply = () => ({ events: ["data: 1\n\n"], breaks: true });
    const seen: string[] = [];
    const run = (async () => {
      for await (const { data } of client(quick).events("/x", {}, never)) seen.push(data);
    })();
    expect(await failure(run)).toMatchObject({ code: "ENGINE_FAILED", retryable: true });
    expect(seen).toEqual(["1"]);
    expect(server.requests).toHaveLength(1);
  });

  it("counts silence, not the time that the reader takes", async () => {
    server.reply = () => ({ events: ["data: 1\n\n", "data: 2\n\n"] });
    const seen: string[] = [];
    for await (const { data } of client({ timeoutMs: 400 }).events("/x", {}, never)) {
      seen.push(data);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    expect(seen).toEqual(["1", "2"]);
    server.reply = () => ({ events: ["data: 1\n\n"], hangs: true });
    expect((await failure(all({ timeoutMs: 60 }))).message).toContain("60 ms");
  });
});
