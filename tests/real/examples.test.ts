/** The examples on a real model, SmolLM2-135M in this process: they run, and what is certain of their results holds. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, isIPv4 } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { main as quickStart } from "../../examples/01-quick-start.js";
import { main as fewShot } from "../../examples/02-few-shot.js";
import { main as multiTurn } from "../../examples/03-multi-turn.js";
import { main as selectMethods } from "../../examples/04-select.js";
import { main as person } from "../../examples/05-person-schema.js";
import { main as address } from "../../examples/06-regex-ip-address.js";
import { main as expansion } from "../../examples/07-parallel-expansion.js";
import { main as treeOfThought } from "../../examples/08-tree-of-thought.js";
import { main as skeleton } from "../../examples/09-skeleton-of-thought.js";
import { main as judge } from "../../examples/10-judge.js";
import { main as rag } from "../../examples/12-rag.js";
import { main as page } from "../../examples/13-stream-to-page.js";
import { main as batch } from "../../examples/15-batch-jsonl.js";
import { setLogLevel } from "../../src/core/logger.js";
import type { Backend } from "../../src/lang/backends/backend.js";
import { engineBackend } from "../../src/lang/backends/engine.js";
import { Engine } from "../../src/runtime/engine.js";

describe("examples on SmolLM2", () => {
  let engine: Engine;
  let backend: Backend;
  beforeAll(async () => {
    setLogLevel("warn");
    engine = await Engine.load("smollm2-135m", { offline: true, randomSeed: 1, contextLength: 2048 });
    backend = engineBackend(engine);
  });
  afterAll(() => engine.close());

  it("01 quick start", async () => {
    const { city, sea } = await quickStart(backend);
    expect(city.length).toBeGreaterThan(0);
    expect(["yes", "no"]).toContain(sea);
  });

  it("02 few-shot knows its capitals", async () => {
    const answers = (await fewShot(backend)).map((answer) => String(answer).trim());
    expect(answers).toEqual(["Madrid", "Tokyo", "Lima"]);
  });

  it("03 multi-turn", async () => {
    expect((await multiTurn(backend)).at(-1)).toMatch(/^assistant: \S/);
  });

  it("04 select", async () => {
    for (const { choice, scores } of await selectMethods(backend)) {
      expect(choice).toMatch(/^the /);
      expect(scores).toHaveLength(3);
    }
  });

  it("05 person schema", async () => {
    expect(await person(backend)).toMatch(/^\D+ was -?\d+ when she published, as /);
  });

  it("06 regex IP address", async () => {
    expect(isIPv4(await address(backend))).toBe(true);
  });

  it("07 parallel expansion", async () => {
    expect((await expansion(backend)).details.length).toBeGreaterThanOrEqual(2);
  });

  it("08 tree of thought", async () => {
    const { answer, grade } = await treeOfThought(backend);
    expect(answer.length).toBeGreaterThan(0);
    expect([1, 2, 3, 4, 5]).toContain(grade);
  });

  it("09 skeleton of thought", async () => {
    expect((await skeleton(backend)).length).toBeGreaterThan(0);
  });

  it("10 judge", async () => {
    expect((await judge(backend)).grade).toMatch(/^[A-F]$/);
  });

  it("13 streaming to a page", async () => {
    const server = await page(backend, 0);
    const { port } = server.address() as AddressInfo;
    const events = await (await fetch(`http://127.0.0.1:${port}/events`)).text();
    server.close();
    expect(events.split("\n\n").length).toBeGreaterThan(20);
  });

  it("15 batch over JSONL", async () => {
    const folder = await mkdtemp(join(tmpdir(), "sglang-example-"));
    const path = join(folder, "reviews.jsonl");
    await writeFile(path, ["Great!", "Awful.", "It is a book."].map((text) => JSON.stringify({ text })).join("\n"));
    const counts = await batch(backend, path);
    expect(Object.values(counts).reduce((a, b) => a + b)).toBe(3);
    expect(counts).not.toHaveProperty("failed");
    await rm(folder, { recursive: true });
  });

  it("12 RAG finds by embeddings of a real engine", async () => {
    const embedder = await Engine.load("smollm2-135m", { offline: true, isEmbedding: true, contextLength: 512 });
    const folder = await mkdtemp(join(tmpdir(), "sglang-example-"));
    const told =
      "The native room is the only door to the addon, and only graph and runtime may import the native room.";
    const texts = [told, "A cake needs flour, eggs and sugar.", "The tide follows the moon.", "Bees dance."];
    await writeFile(join(folder, "notes.md"), texts.join("\n\n"));
    try {
      const embed = async (text: string) => (await embedder.embed({ prompt: { text } })).embedding;
      const { found, answer } = await rag(backend, embed, pathToFileURL(`${folder}/`));
      expect(found).toHaveLength(3);
      expect(found).toContain(told);
      expect(answer.length).toBeGreaterThan(0);
    } finally {
      await embedder.close();
      await rm(folder, { recursive: true });
    }
  });
});
