/** Packed once, mapped later: the bytes of a matrix out of the addon and in again. */
import { copyFileSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { DTYPES } from "../../src/core/dtype.js";
import type { MatrixSource, NativeWeight } from "../../src/native/addon.js";
import { addonPath } from "../../src/native/load.js";
import { addon, noise, runtime, writeTemporary } from "./support.js";

const rt = runtime();
const COLUMNS = 512;
const ROWS = 70;
/** Rows of random bits whose scales are small numbers. */
function quantised(type: "Q5_0" | "Q8_0" | "Q4_K" | "F16"): MatrixSource {
  const { block: blockSize, bytes: blockBytes } = DTYPES[type];
  const bytes = new Uint8Array((ROWS * COLUMNS * blockBytes) / blockSize);
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 2654435761) >>> 24;
  for (let block = 0; block < bytes.length; block += blockBytes)
    for (let at = block; at < block + (type === "F16" ? blockBytes : type === "Q4_K" ? 4 : 2); at += 2)
      bytes[at + 1] = 0x2c;
  return { file: addon.mapFile(writeTemporary(bytes)), offset: 0, type: DTYPES[type].ggml, rows: ROWS };
}
const product = (weight: NativeWeight) => addon.matmul(rt, weight, noise(3 * COLUMNS, 9), 3);

describe("a stored matrix", () => {
  it.each(["Q5_0", "Q8_0", "Q4_K", "F16"] as const)("of %s gives the same bits as when it was packed", async (type) => {
    const options = { columns: COLUMNS, sources: [quantised(type), quantised(type)] };
    const packed = await addon.packMatrix(rt, options);
    const { bytes, checksum } = await addon.packedBytes(rt, packed);
    expect(bytes.length).toBe(addon.weightInfo(packed).bytes);
    const file = addon.mapFile(writeTemporary(Buffer.concat([new Uint8Array(128), bytes])));
    const stored = await addon.packMatrix(rt, {
      ...options,
      stored: { file, offset: 128, bytes: bytes.length, checksum },
    });
    addon.closeFile(file); // The weight keeps it mapped.
    expect(addon.weightInfo(stored)).toEqual(addon.weightInfo(packed));
    expect(product(stored)).toEqual(product(packed));
  });

  it("lends bytes that stay when the weight is closed", async () => {
    const packed = await addon.packMatrix(rt, { columns: COLUMNS, sources: [quantised("Q8_0")] });
    const { bytes } = await addon.packedBytes(rt, packed);
    const before = Buffer.from(bytes);
    addon.closeWeight(packed);
    expect(before.equals(bytes)).toBe(true);
  });

  it("is refused when a bit has changed, when it is another matrix's, and when it lies askew", async () => {
    const options = { columns: COLUMNS, sources: [quantised("Q5_0")] };
    const { bytes, checksum } = await addon.packedBytes(rt, await addon.packMatrix(rt, options));
    const whole = { offset: 0, bytes: bytes.length, checksum };
    const load = (content: Uint8Array, change: object = {}) =>
      addon.packMatrix(rt, {
        ...options,
        stored: { file: addon.mapFile(writeTemporary(content)), ...whole, ...change },
      });
    const flipped = Buffer.from(bytes);
    flipped[flipped.length >> 1] ^= 4;
    await expect(load(flipped)).rejects.toThrow("are damaged");
    await expect(load(bytes, { bytes: bytes.length - 64 })).rejects.toThrow("not those of this packed matrix");
    await expect(load(Buffer.concat([new Uint8Array(1), bytes]), { offset: 1 })).rejects.toThrow("not aligned");
    await expect(async () => load(bytes, { offset: 64 })).rejects.toThrow("reach beyond");
    await expect(async () => load(bytes, { checksum: "xyz" })).rejects.toThrow("must be 16 hexadecimal digits");
    await expect(async () => load(bytes, { file: 3 })).rejects.toThrow("options.stored.file must be a file handle");
  });

  it("has no bytes to lend itself: they are read-only", async () => {
    const options = { columns: COLUMNS, sources: [quantised("Q8_0")] };
    const { bytes, checksum } = await addon.packedBytes(rt, await addon.packMatrix(rt, options));
    const file = addon.mapFile(writeTemporary(bytes));
    const stored = await addon.packMatrix(rt, {
      ...options,
      stored: { file, offset: 0, bytes: bytes.length, checksum },
    });
    expect(() => addon.packedBytes(rt, stored)).toThrow("mapped from a file");
    expect(() => addon.packedBytes(rt, addon.uploadVector(noise(4, 1)))).toThrow(
      "weight must be a matrix, got a vector",
    );
  });
});

describe("the layout of packed weights", () => {
  it("has a name that does not change from call to call, nor between two copies of the addon", () => {
    expect(addon.packedLayout()).toMatch(/^[0-9a-f]{16}$/);
    expect(addon.packedLayout()).toBe(addon.packedLayout());
    const path = addonPath();
    const copy = writeTemporary(readFileSync(path)).replace(/\.bin$/, ".node");
    copyFileSync(path, copy);
    const other = { exports: {} as typeof addon };
    process.dlopen(other, copy);
    expect(other.exports.packedLayout()).toBe(addon.packedLayout());
  });

  it("is checked with XXH64 as others compute it", () => {
    const text = (s: string) => addon.xxh64(new TextEncoder().encode(s));
    // Vectors of the reference implementation.
    expect(text("")).toBe("ef46db3751d8e999");
    expect(text("a")).toBe("d24ec4f1a98c6e5b");
    expect(text("abc")).toBe("44bc2cf5ad770999");
    expect(text("Nobody inspects the spammish repetition")).toBe("fbcea83c8a378bf1");
  });
});
