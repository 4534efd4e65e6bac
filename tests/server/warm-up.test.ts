/** What the server does before it is ready: the first client waits for nothing that later ones do not. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { setLogLevel } from "../../src/core/logger.js";
import { Engine } from "../../src/runtime/engine.js";
import { startServer } from "../../src/server/server.js";
import { writeTinyModel } from "../../src/testing/index.js";
import { FakeEngine, fakeTokenizer } from "./fake-engine.js";
import { silent, until } from "./harness.js";

let folder: string;
let model: string;
beforeAll(async () => {
  setLogLevel("silent");
  folder = mkdtempSync(join(tmpdir(), "warm-up-"));
  model = (await writeTinyModel(join(folder, "llama"), { seed: 5 })).path;
});
afterAll(() => {
  setLogLevel("info");
  rmSync(folder, { recursive: true });
});

describe("the warm-up", () => {
  it.each(["native", "none"] as const)("with --grammar-backend %s leaves nothing behind", async (grammarBackend) => {
    const engine = await Engine.load(model, { offline: true, threads: 2, maxTotalTokens: 1024, grammarBackend });
    const config = { port: 0, disableDocs: true };
    const server = await startServer({ engine, tokenizer: engine.tokenizer, config, logger: silent });
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
    const { grammar, numRunningReqs, pages } = engine.stats();
    expect(grammar).toMatchObject({ requests: 0, compiled: 0, waiting: 0, timedOut: 0 });
    expect(numRunningReqs).toBe(0);
    expect(pages.inUse).toBe(0);
    await server.close();
    await engine.close();
  });

  it("waits for the engine's grammars", async () => {
    const engine = new FakeEngine();
    let warm = () => {};
    const warmedUp = new Promise<void>((resolve) => {
      warm = resolve;
    });
    let ready = false;
    const starting = startServer({
      engine: Object.assign(engine, { warmedUp }),
      tokenizer: fakeTokenizer,
      config: { port: 0, disableDocs: true },
      logger: silent,
    }).finally(() => {
      ready = true;
    });
    await until(() => engine.requests.length === 1 && engine.running === 0, "the short request is through");
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(ready).toBe(false);
    warm();
    const server = await starting;
    await server.close();
  });
});
