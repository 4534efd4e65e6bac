import { writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { ModelFile } from "../../src/weights/file-reader.js";
import { parseGguf } from "../../src/weights/gguf.js";
import { ggufParts, openGguf } from "../../src/weights/gguf-split.js";
import { encodeGguf, type GgufContents, type GgufValue, writeGguf } from "../../src/weights/gguf-writer.js";
import {
  caught,
  entry,
  expectError,
  info,
  put,
  type RawGguf,
  rawGguf,
  TYPE,
  temporaryFolder,
  text,
  u8,
  u32,
  u64,
} from "./small-files.js";

const folder = temporaryFolder();

function parse(content: Uint8Array) {
  const file = new ModelFile(put(folder, "model.gguf", content));
  try {
    return parseGguf(file);
  } finally {
    file.close();
  }
}
const parseContents = (contents: GgufContents) => parse(Buffer.concat(encodeGguf(contents)));

describe("parseGguf", () => {
  it("reads metadata, and tensors in row-major shape at their place in the file", () => {
    const bytes = rawGguf({
      entries: [
        entry("general.architecture", TYPE.string, text("llama")),
        entry("llama.block_count", TYPE.u32, u32(7)),
      ],
      infos: [info("a.weight", [64, 3], 2, 0), info("a.bias", [3], 0, 128)],
      data: new Uint8Array(140),
    });
    const model = parse(bytes);
    expect({ ...model.metadata }).toEqual({ "general.architecture": "llama", "llama.block_count": 7 });
    const dataStart = bytes.length - 140;
    const file = join(folder, "model.gguf");
    expect(model.tensors).toEqual([
      { name: "a.weight", dtype: "Q4_0", shape: [3, 64], file, offset: dataStart, byteLength: 3 * 2 * 18 },
      { name: "a.bias", dtype: "F32", shape: [3], file, offset: dataStart + 128, byteLength: 12 },
    ]);
    expect(model).toMatchObject({ version: 3, alignment: 32 });
    expect(Math.ceil(model.headerBytes / 32) * 32).toBe(dataStart);
  });

  it("reads version 2, which has the same layout", () => {
    const model = parse(rawGguf({ version: u32(2), entries: [entry("a", TYPE.bool, u8(1))] }));
    expect(model).toMatchObject({ version: 2, metadata: { a: true } });
  });

  it("honours general.alignment", () => {
    const model = parse(
      rawGguf({
        entries: [entry("general.alignment", TYPE.u32, u32(128))],
        infos: [info("x", [4], 0, 128)],
        data: new Uint8Array(144),
        alignment: 128,
      }),
    );
    expect(model.tensors[0].offset % 128).toBe(0);
    expect(model.alignment).toBe(128);
  });

  it("reads tensors that lie in another order than they are listed, and with gaps", () => {
    const model = parse(
      rawGguf({ infos: [info("late", [8], 0, 96), info("early", [8], 0, 0)], data: new Uint8Array(128) }),
    );
    expect(model.tensors.map(({ name }) => name)).toEqual(["late", "early"]);
    expect(model.tensors[0].offset - model.tensors[1].offset).toBe(96);
  });

  it("gives a scalar the shape [] and a 4-D tensor all its sizes reversed", () => {
    const model = parse(
      rawGguf({ infos: [info("s", [], 0, 0), info("t", [5, 4, 3, 2], 1, 32)], data: new Uint8Array(32 + 240) }),
    );
    expect(model.tensors.map(({ shape }) => shape)).toEqual([[], [2, 3, 4, 5]]);
    expect(model.tensors.map(({ byteLength }) => byteLength)).toEqual([4, 240]);
  });

  it("keeps keys that are names of Object.prototype apart from it", () => {
    const model = parse(
      rawGguf({ entries: [entry("constructor", TYPE.bool, u8(0)), entry("__proto__", TYPE.u8, u8(5))] }),
    );
    expect(Object.entries(model.metadata)).toEqual([
      ["constructor", false],
      ["__proto__", 5],
    ]);
    expect(model.metadata.toString).toBeUndefined();
  });

  it("reads a header of many windows without touching the data behind it", () => {
    const tokens = Array.from({ length: 150_000 }, (_, i) => `token ${i} é`);
    const data = new Uint8Array(16 * 2 ** 20);
    const path = join(folder, "long.gguf");
    const pieces = encodeGguf({
      metadata: { tokens, scores: new Float32Array(300_001).fill(0.5) },
      tensors: [{ name: "x", type: "F32", shape: [data.length / 4], bytes: data }],
    });
    writeFileSync(path, Buffer.concat(pieces));
    const read = vi.spyOn(ModelFile.prototype, "read");
    const file = new ModelFile(path);
    const model = parseGguf(file);
    const total = read.mock.calls.reduce((sum, [, length]) => sum + length, 0);
    read.mockRestore();
    file.close();
    expect(model.metadata.tokens).toEqual(tokens);
    expect(model.metadata.scores).toHaveLength(300_001);
    expect(model.headerBytes).toBeGreaterThan(3 * 2 ** 20);
    expect(total).toBeLessThan(model.headerBytes + 4 * 2 ** 20);
  });

  const one = (...parts: Parameters<typeof entry>): RawGguf => ({ entries: [entry(...parts)] });
  const tensor = (...parts: Parameters<typeof info>): RawGguf => ({
    infos: [info(...parts)],
    data: new Uint8Array(256),
  });
  const nested = (depth: number): Buffer =>
    depth === 0 ? Buffer.concat([u32(TYPE.u8), u64(0)]) : Buffer.concat([u32(TYPE.array), u64(1), nested(depth - 1)]);

  it.each<[string, RawGguf, RegExp]>([
    ["a file of another kind", { magic: "GGML" }, /not a GGUF file/],
    ["a count of tensors beyond the file", { tensorCount: 1000 }, /truncated: the number of tensors/],
    [
      "a count of tensors beyond the limit",
      { tensorCount: 2n ** 63n },
      /number of tensors is 9223372036854776000, more/,
    ],
    ["a count of entries beyond the file", { entryCount: 1000 }, /truncated: the number of metadata entries/],
    ["a count of entries beyond the limit", { entryCount: 2n ** 32n }, /metadata entries is 4294967296, more than/],
    ["a key twice", { entries: [entry("a", TYPE.u8, u8(1)), entry("a", TYPE.u8, u8(2))] }, /key a is there twice/],
    ["a value of unknown type", one("a", 13, u8(1)), /value a has the unknown type 13/],
    ["an array of unknown type", one("a", TYPE.array, u32(99), u64(0)), /items of a has the unknown type 99/],
    ["a truth value that is neither", one("a", TYPE.bool, u8(2)), /truth value a is 2/],
    ["a text that is longer than the file", one("a", TYPE.string, u64(1000)), /truncated: a needs/],
    ["a text that is not UTF-8", one("a", TYPE.string, u64(2), Buffer.from([0xc3, 0x28])), /a is not valid UTF-8/],
    [
      "an array that is longer than the file",
      one("a", TYPE.array, u32(4), u64(9_000_000)),
      /truncated: the length of a/,
    ],
    ["an array beyond the limit", one("a", TYPE.array, u32(0), u64(2n ** 40n)), /length of a is 1099511627776, more/],
    ["arrays in arrays in arrays", one("a", TYPE.array, nested(4)), /a nests arrays deeper than 4/],
    [
      "an alignment of 3",
      one("general.alignment", TYPE.u32, u32(3)),
      /general.alignment must be a power of two, got 3/,
    ],
    [
      "an alignment of 0",
      one("general.alignment", TYPE.u32, u32(0)),
      /general.alignment must be a power of two, got 0/,
    ],
    ["an alignment that is a text", one("general.alignment", TYPE.string, text("32")), /must be a power of two/],
    ["five dimensions", tensor("x", [1, 1, 1, 1, 1], 0, 0), /tensor x has 5 dimensions/],
    ["a dimension of 0", tensor("x", [0, 4], 0, 0), /every dimension must be at least 1/],
    [
      "sizes whose product overflows",
      tensor("x", [2n ** 62n, 2n ** 62n, 2n ** 62n], 0, 0),
      /tensor x: the shape must be/,
    ],
    ["a row that is no whole number of blocks", tensor("x", [48], 2, 0), /multiple of 32 for Q4_0, got 48/],
    ["an offset between alignments", tensor("x", [4], 0, 16), /offset must be a multiple of 32, got 16/],
    ["a tensor that ends behind the file", tensor("x", [16], 0, 224), /truncated: tensor x/],
    ["an offset beyond 2^53", tensor("x", [4], 0, 2n ** 63n), /truncated: tensor x/],
    ["a name longer than the limit", tensor("x".repeat(300), [4], 0, 0), /name in tensor info 0 is 300, more than/],
    [
      "a tensor twice",
      { infos: [info("x", [8], 0, 0), info("x", [8], 0, 32)], data: new Uint8Array(64) },
      /tensor x is there twice/,
    ],
    [
      "tensors that overlap",
      { infos: [info("y", [9], 0, 0), info("x", [8], 0, 32)], data: new Uint8Array(64) },
      /tensors y and x overlap/,
    ],
  ])("refuses %s", (_name, raw, message) => {
    expectError(
      caught(() => parse(rawGguf(raw))),
      "MALFORMED_FILE",
      message,
    );
  });

  it.each<[string, RawGguf, RegExp]>([
    ["version 1", { version: u32(1) }, /version 1 is not supported/],
    ["version 0", { version: u32(0) }, /version 0 is not known/],
    ["version 4", { version: u32(4) }, /version 4 is not known/],
    ["a big-endian file", { version: Buffer.from([0, 0, 0, 3]) }, /big-endian/],
    ["a type that ggml knows and we don't", tensor("x", [256], 16, 0), /tensor x has type IQ2_XXS \(ggml id 16\)/],
    ["MXFP4 by its name", tensor("x", [256], 39, 0), /tensor x has type MXFP4/],
    ["a type that nobody knows", tensor("x", [256], 99, 0), /tensor x has the unknown ggml type 99/],
  ])("says that %s is not supported", (_name, raw, message) => {
    expectError(
      caught(() => parse(rawGguf(raw))),
      "UNSUPPORTED_MODEL",
      message,
    );
  });

  it.each([
    ["nothing", "", /it is empty/],
    ["a Git LFS pointer", "version https://git-lfs.github.com/spec/v1\n", /Git LFS pointer/],
    ["a web page", "<!DOCTYPE html><html>", /web page/],
    ["a zip", "PK\x03\x04aaaa", /zip or a PyTorch/],
    ["safetensors", '\x10\0\0\0\0\0\0\0{"a": 1}', /looks like a safetensors file/],
  ])("recognises %s", (_name, content, message) => {
    expectError(
      caught(() => parse(Buffer.from(content, "latin1"))),
      "MALFORMED_FILE",
      message,
    );
  });

  it("fails on every prefix of a valid file with an error that names the file", () => {
    const whole = rawGguf({
      entries: [
        entry("general.architecture", TYPE.string, text("llama")),
        entry("list", TYPE.array, u32(TYPE.string), u64(2), text("a"), text("b")),
      ],
      infos: [info("x", [8], 0, 0)],
      data: new Uint8Array(32),
    });
    for (let length = 0; length < whole.length; length++) {
      const error = caught(() => parse(whole.subarray(0, length)));
      expect(error.code).toBe("MALFORMED_FILE");
      expect(error.details.file).toBe(join(folder, "model.gguf"));
    }
  });
});

describe("writeGguf", () => {
  it("writes every value type so that it is read back", () => {
    const metadata: Record<string, GgufValue> = {
      u8: { type: "u8", value: 200 },
      i8: { type: "i8", value: -100 },
      u16: { type: "u16", value: 60_000 },
      i16: { type: "i16", value: -30_000 },
      u32: 4_000_000_000,
      i32: -5,
      f32: { type: "f32", value: 10_000 },
      fraction: 0.25,
      f64: { type: "f64", value: 0.1 },
      yes: true,
      no: false,
      text: "a\u0000b \u{1f600} \uFFFD",
      u64: { type: "u64", value: 7 },
      wide: 2n ** 60n,
      narrow: -(2n ** 60n),
      texts: ["a", "", "ü"],
      truths: [true, false],
      numbers: [1, 2, 3],
      mixed: [-1, 4_000_000_000],
      nothing: [],
      nested: [["a"], ["b", "c"]],
      u8s: new Uint8Array([1, 2]),
      i8s: new Int8Array([-1]),
      u16s: new Uint16Array([65_535]),
      i16s: new Int16Array([-1]),
      u32s: new Uint32Array([2 ** 32 - 1]),
      i32s: new Int32Array([-3]),
      f32s: new Float32Array([0.5, Number.NaN]),
      f64s: new Float64Array([0.1]),
      u64s: new BigUint64Array([2n ** 63n]),
      i64s: new BigInt64Array([-1n]),
      floats: { type: "array", items: "f32", value: [1, 2] },
    };
    const { type: _type, ...rest } = { type: 0, ...parseContents({ metadata, tensors: [] }).metadata };
    expect(rest).toEqual({
      ...Object.fromEntries(
        Object.entries(metadata).map(([key, value]) => [
          key,
          typeof value === "object" && "value" in value ? value.value : value,
        ]),
      ),
      numbers: new Uint32Array([1, 2, 3]),
      mixed: new BigInt64Array([-1n, 4_000_000_000n]),
      floats: new Float32Array([1, 2]),
    });
  });

  it("reads back what it wrote, for any metadata and tensors", () => {
    const value = fc.oneof(
      fc.string({ unit: "grapheme" }),
      fc.boolean(),
      fc.integer(),
      fc.float({ noNaN: true }).filter((x) => !Number.isInteger(x)),
      fc.bigInt(-(2n ** 63n), 2n ** 64n - 1n).filter((x) => !Number.isSafeInteger(Number(x))),
      fc.array(fc.string()).map((list) => list),
      fc.float32Array(),
      fc.int32Array(),
    );
    const key = fc.string({ maxLength: 20 }).filter((name) => name !== "general.alignment" && name !== "__proto__");
    const tensors = fc
      .uniqueArray(fc.string({ minLength: 1, maxLength: 20 }), { maxLength: 4 })
      .chain((names) =>
        fc.tuple(
          ...names.map((name) =>
            fc.record({ name: fc.constant(name), shape: fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 4 }) }),
          ),
        ),
      );
    fc.assert(
      fc.property(fc.dictionary(key, value), tensors, fc.constantFrom(8, 32, 64), (plain, list, alignment) => {
        const contents = {
          metadata: { ...plain, "general.alignment": alignment },
          tensors: list.map(({ name, shape }, i) => {
            const bytes = new Uint8Array(shape.reduce((product, n) => product * n, 4)).fill(i + 1);
            return { name, type: "F32" as const, shape, bytes };
          }),
        };
        const whole = Buffer.concat(encodeGguf(contents));
        const model = parse(whole);
        expect({ ...model.metadata }).toEqual(contents.metadata);
        expect(model.tensors.map(({ name, shape }) => ({ name, shape }))).toEqual(list);
        for (const [i, { offset, byteLength }] of model.tensors.entries()) {
          expect(offset % alignment).toBe(0);
          expect(whole.subarray(offset, offset + byteLength).every((byte) => byte === i + 1)).toBe(true);
        }
      }),
      { numRuns: 150 },
    );
  });

  it("refuses bytes that don't fit the shape, values that don't fit their type, and mixed arrays", () => {
    const tensor = { name: "x", type: "Q8_0" as const, shape: [2, 32], bytes: new Uint8Array(68) };
    const encode = (metadata: Record<string, GgufValue>, t = tensor) =>
      caught(() => encodeGguf({ metadata, tensors: [t] }));
    expectError(encode({}, { ...tensor, bytes: new Uint8Array(67) }), "INVALID_ARGUMENT", /tensor x must be 68 bytes/);
    expectError(encode({}, { ...tensor, shape: [64, 1] }), "INVALID_ARGUMENT", /tensor x must be/);
    expectError(encode({ a: { type: "u8", value: 256 } }), "INVALID_ARGUMENT", /must be a u8/);
    expectError(encode({ a: ["x", 1] }), "INVALID_ARGUMENT", /of one type, got string and u32/);
    expectError(encode({ "general.alignment": 24 }), "INVALID_ARGUMENT", /power of two/);
  });
});

describe("openGguf", () => {
  /** Writes three parts; `changes[i]` goes over the metadata of part i, undefined removes, `tensor` renames its tensor. */
  const parts = async (stem: string, changes: Record<number, Record<string, GgufValue | undefined>> = {}) => {
    for (let i = 0; i < 3; i++) {
      const { tensor = `t${i}`, ...entries } = {
        "split.no": { type: "u16", value: i },
        "split.count": { type: "u16", value: 3 },
        "split.tensors.count": { type: "i32", value: 3 },
        ...(i === 0 ? { "general.name": "whole" } : {}),
        ...changes[i],
      } as Record<string, GgufValue | undefined>;
      await writeGguf(join(folder, `${stem}-0000${i + 1}-of-00003.gguf`), {
        metadata: Object.fromEntries(
          Object.entries(entries).filter((item): item is [string, GgufValue] => item[1] !== undefined),
        ),
        tensors: [{ name: String(tensor), type: "F32", shape: [2], bytes: new Uint8Array(8).fill(i) }],
      });
    }
    return join(folder, `${stem}-00001-of-00003.gguf`);
  };
  const open = (path: string) => {
    const model = openGguf(path);
    for (const file of model.files) file.close();
    return model;
  };

  it("takes metadata from the first part and tensors from all, whichever part is named", async () => {
    await parts("good");
    for (const part of [1, 3]) {
      const model = open(join(folder, `good-0000${part}-of-00003.gguf`));
      expect(model.metadata["general.name"]).toBe("whole");
      expect(model.tensors.map(({ name }) => name)).toEqual(["t0", "t1", "t2"]);
      expect(model.tensors.map(({ file }) => file)).toEqual(ggufParts(join(folder, "good-00002-of-00003.gguf")));
    }
  });

  it("names missing parts", async () => {
    await writeGguf(join(folder, "lone-00002-of-00003.gguf"), { metadata: {}, tensors: [] });
    const error = caught(() => open(join(folder, "lone-00002-of-00003.gguf")));
    expectError(error, "FILE_NOT_FOUND", /2 of the 3 parts .*lone-00001-of-00003\.gguf, .*lone-00003-of-00003\.gguf/);
  });

  it.each<[string, Record<number, Record<string, GgufValue | undefined>>, RegExp]>([
    ["a count that contradicts the name", { 1: { "split.count": 4 } }, /split.count is 4 but its name says 3/],
    ["parts without counts", { 0: { "split.count": undefined } }, /split.count is 1 but its name says 3 parts/],
    ["a number that contradicts the name", { 2: { "split.no": 1 } }, /split.no is 1 but its name says 2/],
    ["a tensor in two parts", { 2: { tensor: "t0" } }, /tensor t0 is also in/],
    ["a wrong number of tensors", { 0: { "split.tensors.count": 9 } }, /count is 9 but the parts hold 3/],
  ])("refuses %s", async (_name, changes, message) => {
    const first = await parts("bad", changes);
    expectError(
      caught(() => open(first)),
      "MALFORMED_FILE",
      message,
    );
  });

  it("refuses a renamed part and takes a single file that says it is one of one", async () => {
    const path = join(folder, "renamed.gguf");
    await writeGguf(path, { metadata: { "split.count": 3 }, tensors: [] });
    expectError(
      caught(() => open(path)),
      "MALFORMED_FILE",
      /split.count is 3 but its name says 1 part;/,
    );
    await writeGguf(path, { metadata: { "split.count": 1, "split.no": 0 }, tensors: [] });
    expect(open(path).tensors).toEqual([]);
  });

  it.each([
    ["a-00001-of-00002.gguf", 2],
    ["a-00003-of-00002.gguf", 1],
    ["a-00000-of-00000.gguf", 1],
    ["a-1-of-2.gguf", 1],
  ])("counts the parts of %s as %i", (name, count) => {
    expect(ggufParts(name)).toHaveLength(count);
  });
});
