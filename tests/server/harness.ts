/** Shared by the server's tests: a silent logger, an app over a fake engine, and readers of event streams. */
import type { FastifyInstance } from "fastify";
import pino from "pino";
import { afterEach } from "vitest";
import type { ServerConfig } from "../../src/server/config.js";
import { createServer, type RunningServer, startServer } from "../../src/server/server.js";
import { FakeEngine, type FakeOptions, fakeTokenizer } from "./fake-engine.js";

export const silent = pino({ level: "silent" });

const open: { close(): Promise<unknown> }[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

export interface Harness {
  app: FastifyInstance;
  engine: FakeEngine;
  post(
    url: string,
    body: unknown,
    headers?: Record<string, string>,
  ): Promise<{ status: number; body: unknown; text: string }>;
  events(url: string, body: unknown): Promise<unknown[]>;
}

/** A server without a port. */
export async function harness(options: FakeOptions = {}, config: Partial<ServerConfig> = {}): Promise<Harness> {
  const engine = new FakeEngine(options);
  // The documentation is built at start and costs most of the time; its own test asks for it.
  const app = await createServer({
    engine,
    tokenizer: fakeTokenizer,
    config: { disableDocs: true, ...config },
    logger: silent,
  });
  open.push(app);
  const post: Harness["post"] = async (url, body, headers = {}) => {
    const payload = typeof body === "string" ? body : JSON.stringify(body);
    const reply = await app.inject({
      method: "POST",
      url,
      payload,
      headers: { "content-type": "application/json", ...headers },
    });
    return { status: reply.statusCode, body: tryJson(reply.body), text: reply.body };
  };
  return { app, engine, post, events: async (url, body) => parseEvents((await post(url, body)).text) };
}

/** A server on a free port of the loopback. */
export async function listening(
  options: FakeOptions = {},
  config: Partial<ServerConfig> = {},
): Promise<RunningServer & { engine: FakeEngine }> {
  const engine = new FakeEngine(options);
  const server = await startServer({
    engine,
    tokenizer: fakeTokenizer,
    config: { port: 0, skipServerWarmup: true, ...config },
    logger: silent,
  });
  open.push(server);
  return { ...server, engine };
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** `data:` payloads, parsed; `[DONE]` stays a text. */
export function parseEvents(text: string): unknown[] {
  return text
    .split("\n\n")
    .filter((event) => event !== "")
    .map((event) => {
      if (!event.startsWith("data: ")) throw new Error(`not an event: ${JSON.stringify(event)}`);
      return event === "data: [DONE]" ? "[DONE]" : JSON.parse(event.slice("data: ".length));
    });
}

/** Resolves when `condition` holds; rejects after five seconds. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`never happened: ${what}`);
}
