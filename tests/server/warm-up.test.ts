/** What the server does before it is ready: the first client waits for nothing that later ones do not. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { setLogLevel } from "../../src/core/logger.js";
import { Engine } from "../../src/runtime/engine.js";
import { startServer } from "../../src/server/server.js";
import { writeTinyModel } from "../../src/testing/index.js";
import { silent } from "./harness.js";

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
  it.each([
    ["native", 1],
    ["none", 0],
  ] as const)(
    "with --grammar-backend %s compiles %i grammar and leaves nothing behind",
    async (grammarBackend, compiled) => {
      const engine = await Engine.load(model, { offline: true, threads: 2, maxTotalTokens: 1024, grammarBackend });
      const config = { port: 0, disableDocs: true };
      const server = await startServer({ engine, tokenizer: engine.tokenizer, config, logger: silent });
      expect((await fetch(`${server.url}/health`)).status).toBe(200);
      const { grammar, numRunningReqs, pages } = engine.stats();
      expect(grammar.compiled).toBe(compiled);
      expect(numRunningReqs).toBe(0);
      expect(pages.inUse).toBe(0);
      await server.close();
      await engine.close();
    },
  );
});
