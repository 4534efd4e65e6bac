/** The folder of packed weights and its files. What native code does with them is tested in tests/native and tests/models. */
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { logger } from "../../src/core/logger.js";
import {
  listPackedEntries,
  PackedCache,
  packedCacheLimit,
  packedFolder,
  prunePackedEntries,
} from "../../src/weights/packed-cache.js";
import { readPackedIndex } from "../../src/weights/packed-file.js";

const folders: string[] = [];
function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "packed-test-"));
  folders.push(folder);
  return folder;
}
afterEach(() => {
  vi.restoreAllMocks();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

const cacheIn = (folder: string, maxBytes = 1e9) => new PackedCache({ folder, maxBytes, minBytes: 0 });

/** Writes a file of `bytes` bytes under `key`, last used `age` seconds ago. */
async function keep(folder: string, key: string, bytes = 5000, age = 0): Promise<string> {
  const writer = (await cacheIn(folder).create(key, bytes))!;
  await writer.add("a", new Uint8Array(10).fill(1), { checksum: "00000000000000aa", roundingError: 0.5 });
  await writer.add("b", new Uint8Array(bytes).fill(2), { checksum: "00000000000000bb", roundingError: 0 });
  await writer.finish({ key, layout: "l", model: `/models/${key}` });
  const path = join(folder, `${key}.packed`);
  const then = Date.now() / 1000 - age;
  utimesSync(path, then, then);
  return path;
}

describe("a file of packed weights", () => {
  it("holds each matrix at a multiple of 4096 and is found by its key", async () => {
    const folder = temporaryFolder();
    const path = await keep(folder, "k");
    const found = (await cacheIn(folder).find("k"))!;
    expect(found.path).toBe(path);
    expect(found.index).toEqual({
      key: "k",
      layout: "l",
      model: "/models/k",
      matrices: {
        a: { offset: 0, bytes: 10, checksum: "00000000000000aa", roundingError: 0.5 },
        b: { offset: 4096, bytes: 5000, checksum: "00000000000000bb", roundingError: 0 },
      },
    });
    const bytes = readFileSync(path);
    expect([...bytes.subarray(0, 11)]).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]);
    expect(bytes.subarray(4096, 9096).every((byte) => byte === 2)).toBe(true);
    expect(await cacheIn(folder).find("other")).toBeNull();
  });

  it("appears only when it is whole", async () => {
    const folder = temporaryFolder();
    const writer = (await cacheIn(folder).create("k", 10))!;
    await writer.add("a", new Uint8Array(10), { checksum: "0".repeat(16), roundingError: 0 });
    expect(await listPackedEntries(folder)).toEqual([]);
    await writer.abort();
    expect(readdirSync(folder)).toEqual([]);
  });

  it.each([
    ["cut short", (path: string) => truncateSync(path, 5000), "not a file of packed weights"],
    ["empty", (path: string) => truncateSync(path, 0), "too short"],
    ["of something else", (path: string) => writeFileSync(path, "x".repeat(1000)), "not a file of packed weights"],
    ["with a damaged index", (path: string) => flip(path, -60), "index is damaged"],
    ["with an impossible trailer", (path: string) => flip(path, -30), "length is wrong"],
    ["of another model", (path: string) => void copyOver(path), "belongs to another model"],
  ])("that is %s is dropped with a word, and made again", async (_what, damage, reason) => {
    const folder = temporaryFolder();
    const path = await keep(folder, "k");
    damage(path);
    await settled;
    const warn = vi.spyOn(logger, "warn").mockImplementation(() => undefined);
    expect(await cacheIn(folder).find("k")).toBeNull();
    expect(warn).toHaveBeenCalledWith(expect.stringContaining(reason));
    expect(existsSync(path)).toBe(false);
    await keep(folder, "k");
    expect(await cacheIn(folder).find("k")).not.toBeNull();
  });

  let settled: Promise<unknown> = Promise.resolve();
  function flip(path: string, at: number): void {
    const bytes = readFileSync(path);
    bytes[bytes.length + at] ^= 0x55;
    writeFileSync(path, bytes);
  }
  function copyOver(path: string): void {
    const elsewhere = temporaryFolder();
    settled = keep(elsewhere, "other").then((other) => writeFileSync(path, readFileSync(other)));
  }

  it("never makes reading its index fail in another way, whatever its bytes are", async () => {
    const folder = temporaryFolder();
    const path = await keep(folder, "k", 100);
    const whole = readFileSync(path);
    for (let at = 1; at <= 120; at++)
      for (const bit of [1, 0x80]) {
        const bytes = Buffer.from(whole);
        bytes[bytes.length - at] ^= bit;
        writeFileSync(path, bytes);
        await expect(readPackedIndex(path)).rejects.toThrow(/^(it|its) /);
      }
  });
});

describe("the folder of packed weights", () => {
  it("lies beside the models", () => {
    expect(packedFolder({ env: { SGLANG_HOME: "/x" } })).toBe("/x/packed");
    expect(packedFolder({ cacheDir: "/y" })).toBe("/y/packed");
  });

  it("loses the least recently used files when it grows over its limit", async () => {
    const folder = temporaryFolder();
    await keep(folder, "old", 50_000, 300);
    await keep(folder, "used", 50_000, 200);
    await keep(folder, "new", 50_000, 100);
    await cacheIn(folder).find("used");
    const writer = (await cacheIn(folder, 170_000).create("next", 60_000))!;
    await writer.abort();
    expect((await listPackedEntries(folder)).map(({ index }) => index?.key)).toEqual(["used", "new"]);
  });

  it("keeps nothing that is larger than the limit or too small to matter", async () => {
    const folder = temporaryFolder();
    expect(await cacheIn(folder, 1000).create("k", 1001)).toBeNull();
    expect(await new PackedCache({ folder, maxBytes: 1e9 }).create("k", 1e6)).toBeNull();
    expect(readdirSync(folder)).toEqual([]);
  });

  it("that can't be written costs a warning and no more", async () => {
    const file = join(temporaryFolder(), "file");
    writeFileSync(file, "");
    const warn = vi.spyOn(logger, "warn").mockImplementation(() => undefined);
    expect(await cacheIn(join(file, "folder")).create("k", 10)).toBeNull();
    expect(await cacheIn("/dev/null/packed").create("k", 10)).toBeNull();
    expect(warn).toHaveBeenCalledTimes(2);
    expect(warn).toHaveBeenCalledWith(expect.stringContaining("--disable-weight-cache"));
  });

  it("is pruned of damaged files, and of what writers that died left, not of files being written", async () => {
    const folder = temporaryFolder();
    await keep(folder, "good");
    writeFileSync(join(folder, "bad.packed"), "bad");
    writeFileSync(join(folder, ".k.999999999.0a0a0a0a.tmp"), "dead");
    writeFileSync(join(folder, `.k.${process.pid}.0a0a0a0a.tmp`), "alive");
    writeFileSync(join(folder, "note.txt"), "not ours");
    const removed = await prunePackedEntries(folder, 1e9);
    expect(removed.map(({ path }) => path)).toEqual([join(folder, "bad.packed")]);
    expect(readdirSync(folder).sort()).toEqual([`.k.${process.pid}.0a0a0a0a.tmp`, "good.packed", "note.txt"]);
  });

  it("has the limit of the flag, else of the environment, else 20 GB", () => {
    const warn = vi.spyOn(logger, "warn").mockImplementation(() => undefined);
    expect(packedCacheLimit(3, { SGLANG_WEIGHT_CACHE_GB: "4" })).toBe(3);
    expect(packedCacheLimit(null, { SGLANG_WEIGHT_CACHE_GB: "0.5" })).toBe(0.5);
    expect(packedCacheLimit(null, {})).toBe(20);
    expect(warn).not.toHaveBeenCalled();
    expect(packedCacheLimit(null, { SGLANG_WEIGHT_CACHE_GB: "much" })).toBe(20);
    expect(warn).toHaveBeenCalledWith(expect.stringContaining('"much"'));
  });
});
