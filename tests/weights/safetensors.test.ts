import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ModelFile } from "../../src/weights/file-reader.js";
import { dequantize } from "../../src/weights/quant.js";
import { parseSafetensors, type TensorToWrite, writeSafetensors } from "../../src/weights/safetensors.js";
import { caught, expectError, put, rawSafetensors, temporaryFolder } from "./small-files.js";

const folder = temporaryFolder();

function parsePath(path: string) {
  const file = new ModelFile(path);
  try {
    return parseSafetensors(file);
  } finally {
    file.close();
  }
}
const parse = (content: Uint8Array) => parsePath(put(folder, "model.safetensors", content));
const f32 = (...values: number[]) => new Uint8Array(new Float32Array(values).buffer);

describe("parseSafetensors", () => {
  it("reads tensors in the order of their data, and the metadata", () => {
    const header = {
      second: { dtype: "F16", shape: [2, 1], data_offsets: [12, 16] },
      __metadata__: { format: "pt" },
      first: { dtype: "F32", shape: [3], data_offsets: [0, 12] },
    };
    const bytes = rawSafetensors(header, new Uint8Array(16));
    const dataStart = bytes.length - 16;
    const file = join(folder, "model.safetensors");
    const model = parse(bytes);
    expect(model.tensors).toEqual([
      { name: "first", dtype: "F32", shape: [3], file, offset: dataStart, byteLength: 12 },
      { name: "second", dtype: "F16", shape: [2, 1], file, offset: dataStart + 12, byteLength: 4 },
    ]);
    expect({ ...model.metadata }).toEqual({ format: "pt" });
    expect(model.headerBytes).toBe(dataStart);
  });

  it("reads files of foreign writers: no padding, misaligned data, empty tensors, scalars", () => {
    const header = {
      a: { dtype: "BF16", shape: [1], data_offsets: [0, 2] },
      empty: { dtype: "F32", shape: [0, 4], data_offsets: [2, 2] },
      scalar: { dtype: "F32", shape: [], data_offsets: [2, 6] },
    };
    const model = parse(rawSafetensors(`${JSON.stringify(header)} `, new Uint8Array(6)));
    expect(model.tensors.map(({ shape, byteLength }) => [shape, byteLength])).toEqual([
      [[1], 2],
      [[0, 4], 0],
      [[], 4],
    ]);
  });

  it("leaves out integer buffers that are no weights, and says which", () => {
    const header = {
      "embeddings.position_ids": { dtype: "I64", shape: [1, 2], data_offsets: [0, 16] },
      "h.0.attn.bias": { dtype: "BOOL", shape: [4], data_offsets: [16, 20] },
      w: { dtype: "F32", shape: [1], data_offsets: [20, 24] },
    };
    const model = parse(rawSafetensors(header, new Uint8Array(24)));
    expect(model.tensors.map(({ name }) => name)).toEqual(["w"]);
    expect(model.skipped).toEqual([
      { name: "embeddings.position_ids", dtype: "I64" },
      { name: "h.0.attn.bias", dtype: "BOOL" },
    ]);
  });

  it("keeps a float tensor that is named like a buffer", () => {
    const header = { "x.attn.bias": { dtype: "F32", shape: [1], data_offsets: [0, 4] } };
    expect(parse(rawSafetensors(header, new Uint8Array(4))).tensors).toHaveLength(1);
  });

  it.each(["F8_E4M3", "I8", "F64", "F4", "F6_E2M3"])("says that a weight of dtype %s is not supported", (dtype) => {
    const bytes = { F64: 64, F4: 4, F6_E2M3: 6 }[dtype] ?? 8;
    const header = { "lm.weight": { dtype, shape: [2, 4], data_offsets: [0, bytes] } };
    const error = caught(() => parse(rawSafetensors(header, new Uint8Array(bytes))));
    expectError(error, "UNSUPPORTED_MODEL", new RegExp(`tensor lm.weight has dtype ${dtype}, which is not supported`));
    expect(error.details).toMatchObject({ tensor: "lm.weight", found: dtype });
  });

  const t = (shape: unknown, data_offsets: unknown, dtype: unknown = "F32") => ({ t: { dtype, shape, data_offsets } });
  const data = new Uint8Array(8);
  it.each<[string, Uint8Array, RegExp]>([
    ["an empty file", new Uint8Array(0), /0 bytes are too few; it is empty/],
    ["a file of 8 bytes", new Uint8Array(8), /8 bytes are too few/],
    ["a GGUF file", Buffer.from("GGUF\x03\0\0\0\0\0\0\0\0\0\0\0"), /does not begin with "{"; it is a GGUF file/],
    ["a Git LFS pointer", Buffer.from("version https://git-lfs.github.com/spec/v1"), /Git LFS pointer/],
    ["a header longer than the limit", rawSafetensors("{}", data, 100_000_001n), /header claims 100000001 bytes/],
    ["a header longer than the file", rawSafetensors("{}", data, 1000n), /truncated: the header needs 1008 bytes/],
    ["a header that ends early", rawSafetensors('{"a": ', data), /header is not valid JSON/],
    [
      "a header that is not UTF-8",
      Buffer.concat([rawSafetensors("{", data, 3n).subarray(0, 9), Buffer.from([0xff, 0x7d])]),
      /not valid JSON/,
    ],
    [
      "a name twice",
      rawSafetensors(`{"t":${JSON.stringify(t([1], [0, 4]).t)},"\\u0074":${JSON.stringify(t([1], [4, 8]).t)}}`, data),
      /t is there twice/,
    ],
    [
      "metadata that are not texts",
      rawSafetensors({ __metadata__: { a: 1 } }),
      /__metadata__ must be an object of texts/,
    ],
    ["an entry that is no object", rawSafetensors({ t: [] }), /tensor t: the entry must be an object/],
    [
      "an unknown key in an entry",
      rawSafetensors({ t: { ...t([2], [0, 8]).t, strides: [1] } }, data),
      /tensor t: the entry must be of/,
    ],
    [
      "an unknown dtype",
      rawSafetensors(t([2], [0, 8], "F31"), data),
      /tensor t: dtype must be a safetensors type, got "F31"/,
    ],
    [
      "a missing dtype",
      rawSafetensors({ t: { shape: [2], data_offsets: [0, 8] } }, data),
      /dtype must be .* got nothing/,
    ],
    ["a dtype from Object.prototype", rawSafetensors(t([2], [0, 8], "toString"), data), /dtype must be/],
    ["a negative size", rawSafetensors(t([-2], [0, 8]), data), /shape must be a list of at most 8 sizes, got \[-2\]/],
    ["a fractional size", rawSafetensors(t([2.5], [0, 8]), data), /shape must be/],
    ["nine dimensions", rawSafetensors(t([1, 1, 1, 1, 1, 1, 1, 1, 2], [0, 8]), data), /shape must be/],
    ["offsets in the wrong order", rawSafetensors(t([2], [8, 0]), data), /data_offsets must be \[begin, end\]/],
    ["three offsets", rawSafetensors(t([2], [0, 4, 8]), data), /data_offsets must be/],
    ["offsets that contradict the shape", rawSafetensors(t([3], [0, 8]), data), /must be 12 bytes apart for F32 \[3\]/],
    ["a product that overflows", rawSafetensors(t([2 ** 40, 2 ** 40, 0.5 * 2 ** 20], [0, 8]), data), /bytes apart/],
    ["data beyond the file", rawSafetensors(t([4], [0, 16]), data), /truncated: tensor t/],
    ["a hole before a tensor", rawSafetensors(t([1], [4, 8]), data), /tensor t starts at data byte 4 .* hole/],
    [
      "tensors that overlap",
      rawSafetensors({ ...t([2], [0, 8]), u: t([1], [4, 8]).t }, data),
      /tensor u starts at data byte 4 but the tensor before it ends at 8: they overlap/,
    ],
    [
      "bytes after the last tensor",
      rawSafetensors(t([1], [0, 4]), data),
      /4 bytes after the last tensor belong to none/,
    ],
  ])("refuses %s", (_name, bytes, message) => {
    expectError(
      caught(() => parse(bytes)),
      "MALFORMED_FILE",
      message,
    );
  });

  it("does not take keys inside entries or texts for names", () => {
    const header = '{"__metadata__":{"a":"{\\"a\\":","b":"\\\\"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}';
    expect(parse(rawSafetensors(header, new Uint8Array(4))).tensors).toHaveLength(1);
  });
});

describe("writeSafetensors", () => {
  it("writes the bytes that the reference implementation writes", async () => {
    const path = join(folder, "reference.safetensors");
    const tensors: TensorToWrite[] = [
      { name: "b", dtype: "F32", shape: [2], data: f32(1, 2) },
      { name: "a", dtype: "F16", shape: [1, 2], data: new Float32Array([1, -2]) },
      { name: "é", dtype: "BF16", shape: [1], data: new Uint16Array([0x4040]) },
      { name: "0", dtype: "F32", shape: [1], data: new Float32Array([7]) },
    ];
    await writeSafetensors(path, tensors, { format: "pt" });
    // safetensors.torch.save of the same tensors, safetensors 0.8.0.
    const header =
      '{"__metadata__":{"format":"pt"},"0":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},' +
      '"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},"é":{"dtype":"BF16","shape":[1],"data_offsets":[12,14]},' +
      '"a":{"dtype":"F16","shape":[1,2],"data_offsets":[14,18]}}   ';
    const data = "0000e0400000803f000000404040003c00c0";
    expect(readFileSync(path)).toEqual(rawSafetensors(header, Buffer.from(data, "hex")));
  });

  it("reads back what it wrote, for any names, shapes and values", async () => {
    const path = join(folder, "any.safetensors");
    const shapes = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 });
    const tensors = fc
      .uniqueArray(
        fc.string({ unit: "grapheme", maxLength: 12 }).filter((name) => name !== "__metadata__"),
        { maxLength: 5 },
      )
      .chain((names) =>
        fc.tuple(
          ...names.map((name) =>
            fc.record({
              name: fc.constant(name),
              dtype: fc.constantFrom("F32" as const, "F16" as const, "BF16" as const),
              shape: shapes,
              seed: fc.float({ noNaN: true, min: -100, max: 100 }),
            }),
          ),
        ),
      );
    await fc.assert(
      fc.asyncProperty(tensors, async (list) => {
        const written = list.map(({ name, dtype, shape, seed }) => {
          const count = shape.reduce((product, n) => product * n, 1);
          return { name, dtype, shape, data: Float32Array.from({ length: count }, (_, i) => seed * (i + 1)) };
        });
        await writeSafetensors(path, written);
        const whole = readFileSync(path);
        const { tensors: read, headerBytes } = parsePath(path);
        expect(headerBytes % 8).toBe(0);
        expect(new Set(read.map(({ name }) => name))).toEqual(new Set(list.map(({ name }) => name)));
        for (const { name, dtype, shape, offset, byteLength } of read) {
          const original = written.find((tensor) => tensor.name === name)!;
          expect({ dtype, shape }).toEqual({ dtype: original.dtype, shape: original.shape });
          const values = dequantize(dtype, whole.subarray(offset, offset + byteLength));
          if (dtype === "F32") expect(values).toEqual(original.data);
          else
            for (const [i, x] of original.data.entries())
              expect(Math.abs(values[i] - x)).toBeLessThanOrEqual(Math.abs(x) * 2 ** -8 + 2 ** -24);
        }
      }),
      { numRuns: 60 },
    );
  });

  it.each<[string, TensorToWrite[], RegExp]>([
    ["a name twice", [0, 1].map(() => ({ name: "t", dtype: "F32", shape: [1], data: f32(1) })), /t is there twice/],
    ["the reserved name", [{ name: "__metadata__", dtype: "F32", shape: [1], data: f32(1) }], /reserved name/],
    [
      "data of another size",
      [{ name: "t", dtype: "F16", shape: [2], data: f32(1, 2) }],
      /8 bytes of data, but F16 \[2\] takes 4/,
    ],
    ["a shape that is none", [{ name: "t", dtype: "F32", shape: [-1], data: f32() }], /has the shape \[-1\]/],
  ])("refuses %s and leaves the old file as it was", async (_name, tensors, message) => {
    const path = put(folder, "old.safetensors", "old");
    expectError(await writeSafetensors(path, tensors).catch((error: unknown) => error), "INVALID_ARGUMENT", message);
    expect(readFileSync(path, "utf8")).toBe("old");
  });

  it("leaves no temporary file behind, whether it succeeds or fails", async () => {
    const own = temporaryFolder();
    await writeSafetensors(join(own, "a.safetensors"), []);
    const error = await writeSafetensors(join(own, "missing", "a.safetensors"), []).catch((e: unknown) => e);
    expectError(error, "FILE_NOT_FOUND", /cannot be written/);
    // A folder in the way: the file is written and then can't be renamed.
    put(temporaryFolder(), "x", "");
    const blocked = await writeSafetensors(own, []).catch((e: unknown) => e);
    expectError(blocked, "FILE_NOT_FOUND", /cannot be written/);
    expect(readdirSync(own)).toEqual(["a.safetensors"]);
    expect(readdirSync(join(own, "..")).filter((name) => name.startsWith(`${own.split("/").at(-1)}.`))).toEqual([]);
    expect(parsePath(join(own, "a.safetensors")).tensors).toEqual([]);
  });
});
