/** What a page or an edge function gets of the language: small, without Node, and working. */
import { createContext, runInContext } from "node:vm";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as lang from "../../src/lang/index.js";
import { type RunningServer, startServer } from "../../src/server/server.js";
import { FakeEngine, fakeTokenizer } from "../server/fake-engine.js";
import { silent } from "../server/harness.js";
import { bundle } from "./bundle.js";

const BACKENDS = ["aiSdkBackend", "anthropicBackend", "endpointBackend", "engineBackend", "openaiBackend"];
const LIMIT = 25 * 1024;

describe("the bundle of sglang-ts/lang without backends", () => {
  it("is at most 25 KB gzipped", async () => {
    const names = Object.keys(lang).filter((name) => !BACKENDS.includes(name));
    expect(names).toContain("program");
    const { code, lazy } = await bundle(`export { ${names.join(", ")} } from "sglang-ts/lang";`);
    expect(code).not.toMatch(/chat\/completions|anthropic/);
    const bytes = gzipSync(code, { level: 9 }).length;
    console.log(`sglang-ts/lang for browsers: ${(bytes / 1024).toFixed(1)} KB gzipped, chunks on demand: ${lazy.size}`);
    expect(bytes).toBeLessThanOrEqual(LIMIT);
  });
});

/** What every edge runtime has (WinterTC's minimum common API), and nothing of Node. */
const EDGE_GLOBALS = [
  ..."AbortController AbortSignal Blob DOMException Event EventTarget FormData Headers ReadableStream Request".split(
    " ",
  ),
  ..."Response TextDecoder TextDecoderStream TextEncoder TransformStream URL URLSearchParams atob btoa".split(" "),
  ..."clearTimeout crypto fetch performance queueMicrotask setTimeout structuredClone".split(" "),
];

describe("an edge runtime", () => {
  let server: RunningServer;
  beforeAll(async () => {
    server = await startServer({
      engine: new FakeEngine({ answer: () => ({ pieces: ["Lis", "bon"] }) }),
      tokenizer: fakeTokenizer,
      config: { port: 0 },
      logger: silent,
    });
  });
  afterAll(() => server.close());

  it("runs a program over HTTP, with a fork, and streams it", async () => {
    const { code } = await bundle(
      `import { endpointBackend, gen, program } from "sglang-ts/lang";
       const capital = program(async (s, country) => {
         s.user\`What is the capital of \${country}?\`;
         const [a, b] = await s.fork(2, (f) => f.assistant(gen("city", { maxTokens: 8 })));
         return { a, b };
       });
       export const run = async (baseUrl) => {
         const backend = endpointBackend(baseUrl);
         const { value } = await capital.run("Portugal", { backend });
         const types = new Set();
         for await (const { type } of capital.stream("Portugal", { backend })) types.add(type);
         return JSON.stringify({ value, types: [...types] });
       };`,
      "iife",
    );
    const globals = Object.fromEntries(EDGE_GLOBALS.map((name) => [name, Reflect.get(globalThis, name)]));
    const context = createContext(globals, { codeGeneration: { strings: false, wasm: false } });
    expect(runInContext("typeof process + typeof Buffer + typeof require", context)).toBe("undefined".repeat(3));
    runInContext(`${code}; globalThis.bundle = bundle;`, context);
    const { value, types } = JSON.parse(await runInContext(`bundle.run(${JSON.stringify(server.url)})`, context));
    expect(value).toEqual({ a: "Lisbon", b: "Lisbon" });
    expect(types).toEqual(expect.arrayContaining(["text", "started", "delta", "done", "fork", "join", "usage"]));
  });
});
