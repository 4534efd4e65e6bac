import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { registerCacheCommand } from "../../src/cli/cache.js";
import { loadAddon } from "../../src/native/load.js";
import { cachedVocabulary } from "../../src/runtime/vocabulary-cache.js";
import type { Tokenizer } from "../../src/tokenizer/tokenizer.js";
import { PackedCache } from "../../src/weights/packed-cache.js";
import { byteVocabulary } from "../grammar/vocabularies.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "cache-test-"));
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true, force: true });
});

/** Runs `sglang-ts cache ...` and returns what it prints. */
async function cache(...args: string[]): Promise<string> {
  let printed = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    printed += text;
    return true;
  });
  vi.spyOn(process.stderr, "write").mockImplementation(() => true);
  const program = new Command("sglang-ts").exitOverride();
  registerCacheCommand(program);
  for (const command of program.commands) for (const verb of command.commands) verb.exitOverride();
  await program.parseAsync(["cache", ...args, "--download-dir", folder], { from: "user" });
  vi.restoreAllMocks();
  return printed;
}

async function keep(key: string, model: string, layout = loadAddon().packedLayout()): Promise<void> {
  const packed = new PackedCache({ folder: join(folder, "packed"), maxBytes: 1e9, minBytes: 0 });
  const writer = (await packed.create(key, 4000))!;
  await writer.add("m", new Uint8Array(4000), { checksum: "0".repeat(16), roundingError: 0 });
  await writer.finish({ key, layout, model });
}

describe("sglang-ts cache", () => {
  it("says that nothing is kept", async () => {
    expect(await cache()).toContain("Nothing is kept");
    expect(await cache("size")).toBe("0\n");
    expect(await cache("prune")).toBe("Nothing to remove.\n");
  });

  it("lists what is kept, for people and for programs", async () => {
    await keep("k", "/models/some.gguf");
    expect(await cache("list")).toMatch(/4\.\d kB {2}\d{4}-\d\d-\d\d \d\d:\d\d {2}\/models\/some\.gguf/);
    const [entry] = JSON.parse(await cache("list", "--json"));
    expect(entry).toMatchObject({ model: "/models/some.gguf", matrices: 1 });
    expect(await cache("size")).toBe(`${entry.bytes}\n`);
  });

  it("prunes what nothing can use: models that are gone, other layouts, damaged files", async () => {
    const model = join(folder, "model.gguf");
    writeFileSync(model, "");
    await keep("good", model);
    await keep("gone", join(folder, "gone.gguf"));
    await keep("older", model, "0123456789abcdef");
    writeFileSync(join(folder, "packed/bad.packed"), "bad");
    expect(await cache("prune")).toMatch(/^Removed 3 /);
    expect(JSON.parse(await cache("list", "--json")).map(({ model }: { model: string }) => model)).toEqual([model]);
    expect(await cache("prune", "--weight-cache-size", "0.000001")).toMatch(/^Removed 1 /);
  });

  it("shows, adds up, prunes and clears vocabularies too", async () => {
    const source = { ...byteVocabulary(), vocabularyDigest: () => "d" } as unknown as Tokenizer;
    const vocabularies = join(folder, "vocabularies");
    await cachedVocabulary(source, source.vocabSize, { folder: vocabularies, model: "some-model", minTokens: 0 });
    expect(await cache("list")).toContain("vocabulary of some-model");
    const [entry] = JSON.parse(await cache("list", "--json"));
    expect(entry).toMatchObject({ vocabularyOf: "some-model" });
    expect(await cache("size")).toBe(`${entry.bytes}\n`);
    expect(await cache("prune")).toBe("Nothing to remove.\n");
    writeFileSync(join(vocabularies, "bad.vocabulary"), "bad");
    expect(await cache("prune")).toMatch(/^Removed 1 /);
    expect(await cache("clear")).toMatch(/^Removed 1 /);
    expect(await cache("list")).toContain("Nothing is kept");
  });

  it("clears everything, and refuses a size that is none", async () => {
    await keep("k", "/models/some.gguf");
    expect(await cache("clear")).toMatch(/^Removed 1 \(4\.\d kB\)\.\n$/);
    await expect(cache("prune", "--weight-cache-size", "lots")).rejects.toThrow("Expected a number >= 0");
  });
});
