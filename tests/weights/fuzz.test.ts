import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it, vi } from "vitest";
import { rowBytes } from "../../src/core/dtype.js";
import { SglangError } from "../../src/core/errors.js";
import type { TensorInfo } from "../../src/core/model-files.js";
import { ModelFile } from "../../src/weights/file-reader.js";
import { parseGguf } from "../../src/weights/gguf.js";
import { encodeGguf } from "../../src/weights/gguf-writer.js";
import { parseSafetensors } from "../../src/weights/safetensors.js";
import { put, rawSafetensors, temporaryFolder } from "./small-files.js";

const folder = temporaryFolder();

const gguf = Buffer.concat(
  encodeGguf({
    metadata: {
      "general.architecture": "llama",
      "general.alignment": 32,
      "llama.block_count": 1,
      "llama.wide": 2n ** 60n,
      "llama.eps": 0.5,
      flag: true,
      "tokenizer.ggml.tokens": ["a", "b", "é"],
      "tokenizer.ggml.scores": new Float32Array([1, 2, 3]),
      nested: [["x"], ["y"]],
    },
    tensors: [
      { name: "a.weight", type: "Q8_0", shape: [2, 32], bytes: new Uint8Array(68) },
      { name: "b.weight", type: "F32", shape: [3], bytes: new Uint8Array(12) },
      { name: "c.weight", type: "Q4_K", shape: [1, 256], bytes: new Uint8Array(144) },
    ],
  }),
);
const safetensors = rawSafetensors(
  {
    __metadata__: { format: "pt" },
    a: { dtype: "F32", shape: [2, 3], data_offsets: [0, 24] },
    b: { dtype: "BF16", shape: [4], data_offsets: [24, 32] },
    position_ids: { dtype: "I64", shape: [1], data_offsets: [32, 40] },
  },
  new Uint8Array(40),
);

const scratch = openSync(put(folder, "fuzzed", ""), "r+");
afterAll(() => closeSync(scratch));

/** Opens a file with this content. One file, written in place: some file systems flush a file that is written anew. */
function fileOf(bytes: Uint8Array): ModelFile {
  writeSync(scratch, bytes, 0, bytes.length, 0);
  ftruncateSync(scratch, bytes.length);
  return new ModelFile(join(folder, "fuzzed"));
}

/** A step that damages a file: bytes overwritten, bits flipped, a piece cut out, repeated, or put in. */
type Damage = (bytes: Buffer) => Buffer;
// Evenly over the file; fast-check would rather damage the first bytes all the time.
const position = fc.noBias(fc.integer({ min: 0, max: 2 ** 20 - 1 })).map((n) => n / 2 ** 20);
const at = (bytes: Buffer, share: number) => Math.floor(bytes.length * share);
const damage: fc.Arbitrary<Damage> = fc.oneof(
  fc.tuple(position, fc.integer({ min: 0, max: 255 })).map(([share, value]) => (bytes: Buffer) => {
    const copy = Buffer.from(bytes);
    if (copy.length > 0) copy[at(bytes, share)] = value;
    return copy;
  }),
  fc.tuple(position, fc.integer({ min: 0, max: 7 })).map(([share, bit]) => (bytes: Buffer) => {
    const copy = Buffer.from(bytes);
    if (copy.length > 0) copy[at(bytes, share)] ^= 1 << bit;
    return copy;
  }),
  // Lengths and offsets are 8 bytes: put extremes there.
  fc
    .tuple(position, fc.constantFrom(0n, 1n, 2n ** 31n, 2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n))
    .map(([share, value]) => (bytes: Buffer) => {
      const copy = Buffer.from(bytes);
      if (copy.length >= 8) copy.writeBigUInt64LE(value, Math.min(at(bytes, share), copy.length - 8));
      return copy;
    }),
  position.map((share) => (bytes: Buffer) => bytes.subarray(0, at(bytes, share))),
  fc.tuple(position, fc.integer({ min: 1, max: 40 })).map(([share, length]) => (bytes: Buffer) => {
    const from = at(bytes, share);
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(from + length)]);
  }),
  fc.tuple(position, fc.uint8Array({ minLength: 1, maxLength: 40 })).map(([share, extra]) => (bytes: Buffer) => {
    const from = at(bytes, share);
    return Buffer.concat([bytes.subarray(0, from), extra, bytes.subarray(from)]);
  }),
  fc.tuple(position, fc.integer({ min: 1, max: 200 })).map(([share, length]) => (bytes: Buffer) => {
    const from = at(bytes, share);
    return Buffer.concat([bytes.subarray(0, from + length), bytes.subarray(from)]);
  }),
);

/** What must hold of every model that is accepted. */
function checkSound(tensors: readonly TensorInfo[], size: number): void {
  const ordered = [...tensors].sort((a, b) => a.offset - b.offset);
  let end = 0;
  for (const { dtype, shape, offset, byteLength } of ordered) {
    expect(offset).toBeGreaterThanOrEqual(end);
    end = offset + byteLength;
    expect(byteLength).toBe(
      rowBytes(
        dtype,
        shape.reduce((product, n) => product * n, 1),
      ),
    );
  }
  expect(end).toBeLessThanOrEqual(size);
  expect(new Set(tensors.map(({ name }) => name)).size).toBe(tensors.length);
}

/** Parses damaged files; returns how many were accepted and refused. */
function fuzz(original: Buffer, parse: (file: ModelFile) => { tensors: readonly TensorInfo[] }, runs: number) {
  const counts = { accepted: 0, refused: 0 };
  const read = vi.spyOn(ModelFile.prototype, "read");
  fc.assert(
    fc.property(fc.array(damage, { minLength: 1, maxLength: 3 }), (steps) => {
      const bytes = steps.reduce((current, step) => step(current), original);
      const file = fileOf(bytes);
      read.mockClear();
      try {
        checkSound(parse(file).tensors, bytes.length);
        counts.accepted++;
      } catch (error) {
        if (!(error instanceof SglangError)) throw error;
        expect(["MALFORMED_FILE", "UNSUPPORTED_MODEL"]).toContain(error.code);
        expect(error.details.file).toBe(join(folder, "fuzzed"));
        counts.refused++;
      } finally {
        file.close();
      }
      // Every buffer comes from read, so this bounds what a lie about a length can cost.
      const got = read.mock.results.map(({ type, value }) => (type === "return" ? value.length : 0));
      expect(got.reduce((sum, length) => sum + length, 0)).toBeLessThanOrEqual(2 * bytes.length + 128);
    }),
    { numRuns: runs },
  );
  read.mockRestore();
  return counts;
}

describe("damaged files", () => {
  it("are refused with an SglangError or are sound: GGUF", () => {
    const before = process.memoryUsage();
    const { accepted, refused } = fuzz(gguf, parseGguf, 1500);
    const after = process.memoryUsage();
    // Both happen, or the damage is too harmless or too gross to prove anything.
    expect(accepted).toBeGreaterThan(50);
    expect(refused).toBeGreaterThan(500);
    expect(after.rss - before.rss).toBeLessThan(500 * 2 ** 20);
  });

  it("are refused with an SglangError or are sound: safetensors", () => {
    const { accepted, refused } = fuzz(safetensors, parseSafetensors, 1500);
    expect(accepted).toBeGreaterThan(10);
    expect(refused).toBeGreaterThan(500);
  });

  it("are refused at every length: both formats", () => {
    for (const [original, parse] of [
      [gguf, parseGguf],
      [safetensors, parseSafetensors],
    ] as const) {
      for (let length = 0; length < original.length; length++) {
        const file = fileOf(original.subarray(0, length));
        try {
          parse(file);
          // GGUF does not need the padding behind its last tensor.
          expect(original.length - length).toBeLessThan(32);
        } catch (error) {
          expect(error).toBeInstanceOf(SglangError);
        } finally {
          file.close();
        }
      }
    }
  });

  it("are refused when they are noise", () => {
    const prefixes = [Buffer.alloc(0), gguf.subarray(0, 8), gguf.subarray(0, 24), safetensors.subarray(0, 9)];
    fc.assert(
      fc.property(fc.constantFrom(...prefixes), fc.uint8Array({ maxLength: 200 }), (prefix, noise) => {
        const file = fileOf(Buffer.concat([prefix, noise]));
        try {
          for (const parse of [parseGguf, parseSafetensors]) expect(() => parse(file)).toThrow(SglangError);
        } finally {
          file.close();
        }
      }),
      { numRuns: 500 },
    );
  });
});
