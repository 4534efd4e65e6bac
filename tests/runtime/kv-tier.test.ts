/** The second tier on a fake model: what leaves the pool comes back, from memory and from disk, and only where it belongs. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { setLogLevel } from "../../src/core/logger.js";
import type { EngineConfig } from "../../src/runtime/config.js";
import { KvFiles } from "../../src/runtime/kv-files.js";
import { WRITE_POLICIES } from "../../src/runtime/kv-tier.js";
import { collect, greedy } from "./collect.js";
import { expectedTokens, fakeEngine } from "./fake-runner.js";

beforeAll(() => setLogLevel("silent"));
afterAll(() => setLogLevel("info"));
const folders: string[] = [];
const folder = () => {
  folders.push(mkdtempSync(join(tmpdir(), "kv-tier-")));
  return folders[folders.length - 1];
};
afterEach(() => {
  for (const path of folders.splice(0)) rmSync(path, { recursive: true, force: true });
});

const PAGE = 8;
/** Room for a bit more than one prompt of 40 tokens. */
const PAGES = 7;
const prompt = (seed: number) => Array.from({ length: 40 }, (_, i) => (i * 3 + seed * 11) % 60);
const body = (seed: number, extraKey?: string) => ({
  prompt: { inputIds: prompt(seed) },
  samplingParams: { ...greedy, maxNewTokens: 3 },
  extraKey,
});
const expected = (seed: number) => expectedTokens(prompt(seed), { maxNewTokens: 3, stopIds: [] });

const tiered = (config: Partial<EngineConfig> = {}) =>
  fakeEngine(
    { pageSize: PAGE, enableHierarchicalCache: true, hicacheSize: (1000 * 4 * PAGE) / 1e9, ...config },
    { pages: PAGES, pageSize: PAGE },
  );

describe("host memory", () => {
  it.each(WRITE_POLICIES)("gives back what was evicted, with %s, and says where it was", async (hicacheWritePolicy) => {
    const { engine, runner } = tiered({ hicacheWritePolicy });
    const ask = async (seed: number) => {
      const { ids, last } = await collect(engine, body(seed));
      expect(ids).toEqual(expected(seed));
      return last.usage;
    };
    // Found for the second time: what selective waits for.
    for (let i = 0; i < 3; i++) await ask(1);
    await ask(2);
    await ask(3);
    const from = runner.steps.length;
    const usage = await ask(1);
    expect(usage).toMatchObject({ cachedTokens: 32, cachedTokensDetails: { device: 0, host: 32, storage: 0 } });
    expect(runner.steps[from].sequences[0].tokens).toEqual(prompt(1).slice(32));
    expect(engine.stats().hicache).toMatchObject({ loadedPages: 4, storage: null });
    await engine.close();
  });

  it("keeps nothing of prefixes that were never found again, with write_through_selective", async () => {
    const { engine } = tiered({ hicacheWritePolicy: "write_through_selective" });
    for (const seed of [1, 2, 3]) await collect(engine, body(seed));
    expect(engine.stats().hicache?.savedPages).toBe(0);
    await engine.close();
  });

  it("stays within its size, the least recently used pages go", async () => {
    const { engine } = tiered({ hicacheSize: (12 * 4 * PAGE) / 1e9 });
    for (const seed of [1, 2, 3, 4]) await collect(engine, body(seed));
    expect(engine.stats().hicache?.hostPages).toBeLessThanOrEqual(12);
    await engine.close();
  });

  it("never gives one tenant's pages to another", async () => {
    const { engine } = tiered();
    for (const seed of [1, 2, 3]) await collect(engine, body(seed, "a"));
    expect((await collect(engine, body(1, "b"))).last.usage.cachedTokens).toBe(0);
    expect((await collect(engine, body(1, "a"))).last.usage.cachedTokens).toBe(32);
    await engine.close();
  });

  it("is emptied with the cache", async () => {
    const { engine } = tiered();
    for (const seed of [1, 2, 3]) await collect(engine, body(seed));
    expect(await engine.flushCache()).toBe(true);
    expect(engine.stats().hicache?.hostPages).toBe(0);
    expect((await collect(engine, body(1))).last.usage.cachedTokens).toBe(0);
    await engine.close();
  });
});

describe("files", () => {
  const files = (path: string) =>
    readdirSync(path, { recursive: true, encoding: "utf8" }).filter((f) => f.endsWith(".kv"));
  const stored = (hicacheStorageDir: string, config: Partial<EngineConfig> = {}) =>
    tiered({ hicacheStorageBackend: "file", hicacheStorageDir, ...config });

  it.each(WRITE_POLICIES)("survive a restart, with %s", async (hicacheWritePolicy) => {
    const path = folder();
    const first = stored(path, { hicacheWritePolicy }).engine;
    for (let i = 0; i < 3; i++) await collect(first, body(1));
    await first.close();
    expect(files(path).length).toBeGreaterThanOrEqual(4);
    const { engine, runner } = stored(path, { hicacheWritePolicy });
    const { ids, last } = await collect(engine, body(1));
    expect(ids).toEqual(expected(1));
    expect(last.usage).toMatchObject({ cachedTokens: 32, cachedTokensDetails: { device: 0, host: 0, storage: 32 } });
    expect(runner.steps[0].sequences[0].tokens).toEqual(prompt(1).slice(32));
    await engine.close();
  });

  it("that are damaged are dropped, counted and computed again", async () => {
    const path = folder();
    const first = stored(path).engine;
    await collect(first, body(1));
    await first.close();
    const damage: ((file: string) => void)[] = [
      (file) => truncateSync(file, 20),
      (file) => writeFileSync(file, ""),
      (file) => {
        const bytes = readFileSync(file);
        bytes[bytes.length - 1] ^= 1;
        writeFileSync(file, bytes);
      },
      (file) => writeFileSync(file, readFileSync(join(path, files(path)[4]))),
    ];
    for (const [i, file] of files(path).slice(0, 4).entries()) damage[i](join(path, file));
    const { engine } = stored(path);
    // All five pages are wanted by a text that goes on.
    const longer = [...prompt(1), ...expected(1)];
    const { ids } = await collect(engine, { ...body(1), prompt: { inputIds: longer } });
    expect(ids).toEqual(expectedTokens(longer, { maxNewTokens: 3, stopIds: [] }));
    expect(engine.stats().hicache?.storage?.corrupt).toBe(4);
    await engine.close();
    const { engine: again } = stored(path);
    expect((await collect(again, body(1))).last.usage.cachedTokens).toBe(32);
    expect(again.stats().hicache?.storage?.corrupt).toBe(0);
    await again.close();
  });

  it("let requests that need none of them go on while others wait for theirs", async () => {
    const path = folder();
    const first = stored(path).engine;
    await collect(first, body(1));
    await first.close();
    const { engine } = stored(path);
    const answers = await Promise.all([1, 2, 1, 3].map((seed) => collect(engine, body(seed))));
    expect(answers.map(({ ids }) => ids)).toEqual([1, 2, 1, 3].map(expected));
    await engine.close();
  });

  it("of another model are never looked at, and half-written ones are removed", async () => {
    const path = folder();
    const options = { folder: path, pageBytes: 8, maxBytes: 1e6 };
    const mine = new KvFiles({ ...options, identity: "mine" });
    await mine.write("k", new Uint8Array(8).fill(7));
    await mine.close();
    const other = new KvFiles({ ...options, identity: "other" });
    expect(other.has("k")).toBe(false);
    // A file that was put into the wrong folder is found out by its digest.
    const [file] = files(path);
    const target = readdirSync(path).find((name) => !file.startsWith(name)) as string;
    writeFileSync(join(path, target, "k.kv"), readFileSync(join(path, file)));
    writeFileSync(join(path, target, ".k.1.ff.tmp"), "half");
    const opened = new KvFiles({ ...options, identity: "other" });
    expect(readdirSync(join(path, target))).toEqual(["k.kv"]);
    expect(await opened.read("k", new Uint8Array(8))).toBe(false);
    expect(opened.stats).toMatchObject({ corrupt: 1, pages: 0 });
    expect(await mine.read("k", new Uint8Array(8))).toBe(true);
  });

  it("stay within their size, the least recently used go", async () => {
    const tier = new KvFiles({ folder: folder(), identity: "m", pageBytes: 8, maxBytes: 3 * (8 + 40) });
    for (const key of ["a", "b", "c"]) await tier.write(key, new Uint8Array(8));
    await tier.read("a", new Uint8Array(8));
    await tier.write("d", new Uint8Array(8));
    expect(["a", "b", "c", "d"].filter((key) => tier.has(key))).toEqual(["a", "c", "d"]);
  });

  it("need a folder that can be used", () => {
    const path = join(folder(), "file");
    writeFileSync(path, "");
    expect(() => new KvFiles({ folder: path, identity: "m", pageBytes: 8, maxBytes: 1e6 })).toThrow(
      /--hicache-storage-dir/,
    );
  });
});

describe("flags that contradict each other", () => {
  it.each<[Partial<EngineConfig>, RegExp]>([
    [{ hicacheStorageBackend: "file" }, /needs --enable-hierarchical-cache/],
    [{ enableHierarchicalCache: true, disableRadixCache: true }, /needs the radix cache/],
    [{ enableHierarchicalCache: true, hicacheSize: 1e9 }, /--hicache-size/],
  ])("are refused: %o", (config, message) => {
    expect(() => fakeEngine(config)).toThrow(message);
  });
});
