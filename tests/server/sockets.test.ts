import { once } from "node:events";
import net from "node:net";
import { describe, expect, it } from "vitest";
import { startServer } from "../../src/server/server.js";
import { FakeEngine, type FakeOptions, fakeTokenizer } from "./fake-engine.js";
import { listening, parseEvents, silent, until } from "./harness.js";

const JSON_TYPE = { "content-type": "application/json" };
const post = (url: string, body: object, init: RequestInit = {}) =>
  fetch(url, { method: "POST", headers: JSON_TYPE, body: JSON.stringify(body), ...init });

/** A gate that `between` waits at. */
function gate() {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, between: () => opened };
}

const never: FakeOptions = { between: () => new Promise(() => {}) };
const CHAT = { messages: [{ role: "user", content: "Hi" }] };

describe("a client that goes away", () => {
  it.each([
    ["/generate", { text: "a", rid: "r" }],
    ["/generate", { text: "a", rid: "r", stream: true }],
    ["/v1/chat/completions", { ...CHAT, rid: "r" }],
    ["/v1/chat/completions", { ...CHAT, rid: "r", stream: true }],
    ["/v1/completions", { prompt: "a", rid: "r", stream: true }],
  ])("has its request aborted: %s %j", async (route, body) => {
    const server = await listening(never);
    const client = new AbortController();
    const reply = post(server.url + route, body, { signal: client.signal }).catch(() => {});
    await until(() => server.engine.running === 1, "the request runs");
    client.abort();
    await until(() => server.engine.running === 0, "the request ends");
    expect(server.engine.aborted).toEqual(["r"]);
    await reply;
  });

  it("has every request of its batch aborted, and no others", async () => {
    const server = await listening(never);
    const other = new AbortController();
    const others = post(`${server.url}/generate`, { text: "x", rid: "other" }, { signal: other.signal }).catch(
      () => {},
    );
    const client = new AbortController();
    const reply = post(`${server.url}/generate`, { text: ["a", "b"], rid: "r" }, { signal: client.signal }).catch(
      () => {},
    );
    await until(() => server.engine.running === 3, "all run");
    client.abort();
    await until(() => server.engine.running === 1, "the batch ends");
    expect([...server.engine.aborted].sort()).toEqual(["r_0", "r_1"]);
    other.abort();
    await Promise.all([reply, others]);
  });

  it("that closes only its sending side counts as gone too", async () => {
    const server = await listening(never);
    const socket = net.connect(Number(new URL(server.url).port), "127.0.0.1");
    const body = JSON.stringify({ text: "a", rid: "half" });
    socket.write(
      `POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    await until(() => server.engine.running === 1, "the request runs");
    socket.end();
    await until(() => server.engine.running === 0, "the request ends");
    expect(server.engine.aborted).toEqual(["half"]);
    socket.destroy();
  });

  it("after its reply is complete aborts nothing", async () => {
    const server = await listening();
    expect((await post(`${server.url}/generate`, { text: "a" })).status).toBe(200);
    await server.close();
    expect(server.engine.aborted).toEqual([]);
  });
});

describe("/abort_request", () => {
  const abort = async (url: string, body: object) => (await post(`${url}/abort_request`, body)).json();

  it("ends the named request, whose reply says so", async () => {
    const server = await listening(never);
    const reply = post(`${server.url}/generate`, { text: "a", rid: "r" });
    await until(() => server.engine.running === 1, "the request runs");
    expect(await abort(server.url, { rid: "nobody" })).toEqual({ aborted: 0 });
    expect(await abort(server.url, { rid: "r" })).toEqual({ aborted: 1 });
    expect(await (await reply).json()).toMatchObject({ meta_info: { finish_reason: { type: "abort" } } });
  });

  it("ends all n answers of a request", async () => {
    const server = await listening(never);
    const reply = post(`${server.url}/v1/chat/completions`, { ...CHAT, rid: "r", n: 2 });
    await until(() => server.engine.running === 1, "the request runs");
    await abort(server.url, { rid: "r" });
    expect(await (await reply).json()).toMatchObject({
      choices: [{ finish_reason: "abort" }, { finish_reason: "abort" }],
    });
  });

  it("ends every request whose rid begins alike, a batch among them", async () => {
    const server = await listening(never);
    const replies = [
      post(`${server.url}/generate`, { text: ["a", "b"], rid: "r" }),
      post(`${server.url}/generate`, { text: "c", rid: "rest" }),
      post(`${server.url}/generate`, { text: "c", rid: "other" }),
    ];
    await until(() => server.engine.running === 4, "all run");
    expect(await abort(server.url, { rid: "r" })).toEqual({ aborted: 3 });
    await until(() => server.engine.running === 1, "three have ended");
    expect(await abort(server.url, { abort_all: true })).toEqual({ aborted: 1 });
    for (const reply of await Promise.all(replies)) expect(reply.status).toBe(200);
  });

  it("frees the rid, which nobody else can use meanwhile", async () => {
    const server = await listening(never);
    const ask = () => post(`${server.url}/generate`, { text: "a", rid: "r" });
    const first = ask();
    await until(() => server.engine.running === 1, "the request runs");
    const second = await ask();
    expect(second.status).toBe(400);
    expect(await second.text()).toContain("still running");
    await abort(server.url, { rid: "r" });
    await first;
    const third = ask();
    await until(() => server.engine.running === 1, "the rid is free again");
    await abort(server.url, { abort_all: true });
    expect((await third).status).toBe(200);
  });
});

describe("a slow reader", () => {
  it("holds back its own request only, and gets every byte in the end", async () => {
    const piece = "~".repeat(64 * 1024);
    const total = 1000;
    const server = await listening({
      answer: ({ rid }) => ({ pieces: Array(rid === "slow" ? total : 1).fill(piece) }),
    });
    const socket = net.connect(Number(new URL(server.url).port), "127.0.0.1");
    socket.pause();
    const body = JSON.stringify({ ...CHAT, stream: true, rid: "slow" });
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    let before = -1;
    while (before !== server.engine.pieces || before === 0) {
      before = server.engine.pieces;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    // What the operating system buffers, not what the server does.
    expect(server.engine.pieces).toBeLessThan(total / 2);
    expect((await post(`${server.url}/generate`, { text: "a" })).status).toBe(200);
    let received = 0;
    socket.on("data", (data) => {
      for (let i = 0; i < data.length; i++) if (data[i] === 0x7e) received += 1;
    });
    socket.resume();
    await once(socket, "close");
    expect(received).toBe(total * piece.length);
  });
});

describe("a closing server", () => {
  it("says 503, takes nothing new, and lets running requests finish", async () => {
    const door = gate();
    const server = await listening({ between: door.between });
    const reply = await post(`${server.url}/generate`, { text: "a", stream: true });
    const closing = server.close();
    const health = await fetch(`${server.url}/health`);
    expect([health.status, await health.text()]).toEqual([503, "The server is stopping.\n"]);
    const refused = await post(`${server.url}/v1/chat/completions`, CHAT);
    expect(refused.status).toBe(503);
    expect(await refused.json()).toMatchObject({ error: { code: "SHUTTING_DOWN" } });
    door.open();
    const events = parseEvents(await reply.text());
    expect(events.slice(-2)).toMatchObject([
      { text: "Hello, world", meta_info: { finish_reason: { type: "stop" } } },
      "[DONE]",
    ]);
    await closing;
    await expect(fetch(`${server.url}/health`)).rejects.toThrow();
    expect(server.engine.aborted).toEqual([]);
    expect(server.engine.closed).toBe(false);
  });

  it("aborts what has not finished within the limit", async () => {
    const server = await listening(never, { drainTimeoutSeconds: 0.05 });
    const reply = post(`${server.url}/generate`, { text: "a", rid: "r" });
    await until(() => server.engine.running === 1, "the request runs");
    await server.close();
    expect(server.engine.aborted).toEqual(["r"]);
    expect(await (await reply).json()).toMatchObject({ meta_info: { finish_reason: { type: "abort" } } });
  });

  it("does not wait for connections that ask for nothing", async () => {
    const server = await listening();
    const socket = net.connect(Number(new URL(server.url).port), "127.0.0.1");
    await once(socket, "connect");
    await (await fetch(`${server.url}/health`)).text();
    const closed = once(socket, "close");
    await server.close();
    await closed;
  });

  it("can be closed twice", async () => {
    const server = await listening();
    await Promise.all([server.close(), server.close()]);
    await server.close();
  });
});

describe("startServer", () => {
  async function freePort(): Promise<number> {
    const probe = net.createServer().listen(0, "127.0.0.1");
    await once(probe, "listening");
    const { port } = probe.address() as net.AddressInfo;
    probe.close();
    await once(probe, "close");
    return port;
  }

  it("names a port that is taken, and what to do", async () => {
    const server = await listening();
    const { port } = new URL(server.url);
    const second = startServer({
      engine: new FakeEngine(),
      config: { port: Number(port), disableDocs: true },
      logger: silent,
    });
    await expect(second).rejects.toMatchObject({
      code: "PORT_IN_USE",
      message: expect.stringMatching(`127.0.0.1:${port} is already in use.*--port`),
    });
  });

  it("refuses an address that is not of this machine", async () => {
    const server = startServer({
      engine: new FakeEngine(),
      config: { host: "192.0.2.1", port: 0, disableDocs: true },
      logger: silent,
    });
    await expect(server).rejects.toMatchObject({ code: "INVALID_ARGUMENT", details: { field: "--host" } });
  });

  it("is unhealthy until the warm-up is through", async () => {
    const door = gate();
    const engine = new FakeEngine({ between: door.between });
    const port = await freePort();
    const starting = startServer({
      engine,
      tokenizer: fakeTokenizer,
      config: { port, disableDocs: true },
      logger: silent,
    });
    await until(() => engine.running === 1, "the warm-up runs");
    const early = await fetch(`http://127.0.0.1:${port}/health`);
    expect([early.status, await early.text()]).toEqual([503, "The server is starting.\n"]);
    door.open();
    const server = await starting;
    expect(server.url).toBe(`http://127.0.0.1:${port}`);
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
    await server.close();
  });

  it("fails and frees the port when the warm-up fails", async () => {
    const port = await freePort();
    const config = { port, disableDocs: true };
    const bad = new FakeEngine({ fail: { error: new Error("no kernels") } });
    await expect(startServer({ engine: bad, config, logger: silent })).rejects.toThrow("no kernels");
    const good = await startServer({ engine: new FakeEngine(), config, logger: silent });
    await good.close();
  });
});
