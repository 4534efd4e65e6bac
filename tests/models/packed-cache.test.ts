/** A model packed at its first start and mapped at later ones: the same logits, whatever becomes of the file between. */
import {
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { logger } from "../../src/core/logger.js";
import { loadModel } from "../../src/models/load.js";
import type { NativeAddon, Numerics } from "../../src/native/addon.js";
import { loadAddon } from "../../src/native/load.js";
import { writeTinyModel } from "../../src/testing/index.js";
import { openCheckpoint } from "../../src/weights/checkpoint.js";
import { PackedCache } from "../../src/weights/packed-cache.js";
import { NativeStepper } from "./native-stepper.js";
import { promptOf } from "./variants.js";

const addon = loadAddon();
const root = mkdtempSync(join(tmpdir(), "packed-model-"));
afterAll(() => rmSync(root, { recursive: true }));
afterEach(() => vi.restoreAllMocks());
const PAGES = { pages: 8, pageSize: 16 };
const model = (await writeTinyModel(join(root, "model"), { format: "gguf" })).path;

/** Logits of a prompt, and how many matrices were packed and how many mapped for it. */
async function start(path: string, cache: PackedCache | null, numerics: Numerics = "f32") {
  const count = { packed: 0, mapped: 0 };
  const counting: NativeAddon = {
    ...addon,
    packMatrix: (runtime, options) => {
      count[options.stored ? "mapped" : "packed"]++;
      return addon.packMatrix(runtime, options);
    },
  };
  const runtime = addon.createRuntime({ threads: 2, tier: null, nice: 0 });
  const checkpoint = await openCheckpoint(path);
  const plan = { maxTokens: 32, maxRows: 4, kvPages: PAGES.pages, pageSize: PAGES.pageSize, kvDtype: "f32" } as const;
  const loaded = await loadModel(checkpoint, { addon: counting, runtime }, { ...plan, cache, numerics });
  checkpoint.close();
  const { roundingError } = loaded.weights;
  const { logits } = await new NativeStepper(addon, loaded, PAGES).step({
    sequences: [{ key: "A", tokens: promptOf(20) }],
  });
  loaded.close();
  addon.closeRuntime(runtime);
  return { logits: logits!, roundingError, ...count };
}

let caches = 0;
function freshCache() {
  const folder = join(root, `cache-${caches++}`);
  return { folder, cache: new PackedCache({ folder, maxBytes: 1e9, minBytes: 0 }) };
}

describe("packed weights on disk", () => {
  it("are written by the first start and mapped by the second, with the same bits", async () => {
    const { folder, cache } = freshCache();
    const without = await start(model, null);
    const first = await start(model, cache);
    const second = await start(model, cache);
    expect([first.mapped, second.packed]).toEqual([0, 0]);
    expect(second.mapped).toBe(first.packed);
    expect(first.logits).toEqual(without.logits);
    expect(second.logits).toEqual(without.logits);
    expect(readdirSync(folder)).toHaveLength(1);
  });

  it("of numerics fast are others, and say what rounding changed whether they are packed or mapped", async () => {
    const { folder, cache } = freshCache();
    const plain = await start(model, cache);
    const first = await start(model, cache, "fast");
    const second = await start(model, cache, "fast");
    expect([first.mapped, second.packed]).toEqual([0, 0]);
    expect(second).toEqual({ ...first, packed: 0, mapped: first.packed });
    expect(readdirSync(folder)).toHaveLength(2);
    expect(first.logits).not.toEqual(plain.logits);
    expect(plain.roundingError).toBeNull();
    const { all, most, name } = first.roundingError!;
    expect(all).toBeGreaterThan(0.001);
    expect(most).toBeGreaterThanOrEqual(all);
    expect(most).toBeLessThan(0.03);
    expect(name).toMatch(/./);
  });

  it("that were damaged anywhere are dropped, and packed again", async () => {
    const { folder, cache } = freshCache();
    const whole = await start(model, cache);
    const file = join(folder, readdirSync(folder)[0]);
    const bytes = readFileSync(file);
    bytes[100] ^= 1;
    writeFileSync(file, bytes);
    const warn = vi.spyOn(logger, "warn").mockImplementation(() => undefined);
    const again = await start(model, cache);
    expect(warn).toHaveBeenCalledWith(expect.stringContaining("are damaged"));
    expect(again.logits).toEqual(whole.logits);
    expect(again.packed).toBe(whole.packed);
    expect((await start(model, cache)).packed).toBe(0);
  });

  it("are another model's when the file changed, even at equal size, header and time", async () => {
    const { cache } = freshCache();
    const changed = join(root, "changed.gguf");
    copyFileSync(model, changed);
    const { atime, mtime } = statSync(changed);
    const before = await start(changed, cache);
    const bytes = readFileSync(changed);
    const { offset } = [...(await openCheckpoint(changed)).tensors.values()].find(({ name }) =>
      name.includes("attn_q.weight"),
    )!;
    for (let i = 0; i < 64; i++) bytes[offset + i] ^= 0x10;
    writeFileSync(changed, bytes);
    utimesSync(changed, atime, mtime);
    const after = await start(changed, cache);
    expect(after.packed).toBe(before.packed);
    expect(after.logits).not.toEqual(before.logits);
  });

  it("that can't be written leave the start as it is", async () => {
    const cache = new PackedCache({ folder: "/dev/null/packed", maxBytes: 1e9, minBytes: 0 });
    const warn = vi.spyOn(logger, "warn").mockImplementation(() => undefined);
    const { packed, logits } = await start(model, cache);
    expect(packed).toBeGreaterThan(0);
    expect(logits).toEqual((await start(model, null)).logits);
    expect(warn).toHaveBeenCalledOnce();
  });
});
