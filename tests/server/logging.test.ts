import pino from "pino";
import { afterEach, describe, expect, it } from "vitest";
import type { ServerConfig } from "../../src/server/config.js";
import { createServer } from "../../src/server/server.js";
import { FakeEngine, type FakeOptions } from "./fake-engine.js";

const open: { close(): Promise<unknown> }[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((app) => app.close()));
});

async function logged(options: FakeOptions, config: Partial<ServerConfig>, payload: object) {
  const lines: Record<string, unknown>[] = [];
  const logger = pino({ level: "info" }, { write: (line: string) => lines.push(JSON.parse(line)) });
  const app = await createServer({ engine: new FakeEngine(options), config: { disableDocs: true, ...config }, logger });
  open.push(app);
  await app.inject({ method: "POST", url: "/generate", payload, headers: { "x-request-id": "q" } });
  return lines;
}

describe("the log", () => {
  it("has one line per finished request when requests are logged, with counts but no texts", async () => {
    const lines = await logged({}, { logRequests: true }, { text: ["secret", "two"], rid: "r" });
    expect(lines).toMatchObject([
      {
        msg: "request finished",
        requestId: "q",
        route: "/generate",
        rids: ["r_0", "r_1"],
        promptTokens: 11,
        completionTokens: 24,
        finishReasons: ["stop", "stop"],
      },
    ]);
    expect(JSON.stringify(lines)).not.toContain("secret");
  });

  it("is empty by default, and for a request with no_logs", async () => {
    expect(await logged({}, {}, { text: "a" })).toEqual([]);
    expect(await logged({}, { logRequests: true }, { text: "a", no_logs: true })).toEqual([]);
  });

  it("has unexpected errors with their stack, and nothing for refused requests", async () => {
    const lines = await logged({ fail: { error: new TypeError("x is undefined") } }, {}, { text: "a" });
    expect(lines).toMatchObject([
      {
        msg: "request failed",
        requestId: "q",
        err: { message: "x is undefined", stack: expect.stringContaining("TypeError") },
      },
    ]);
    expect(await logged({}, {}, { text: 5 })).toEqual([]);
  });
});
