import { mkdirSync, readFileSync, truncateSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../src/weights/checkpoint.js";
import { encodeGguf, type GgufContents } from "../../src/weights/gguf-writer.js";
import { quantize } from "../../src/weights/quantize.js";
import { type TensorToWrite, writeSafetensors } from "../../src/weights/safetensors.js";
import { caught, expectError, put, rawSafetensors, temporaryFolder } from "./small-files.js";

const values = Float32Array.from({ length: 64 }, (_, i) => Math.fround(Math.sin(i)));
const contents: GgufContents = {
  metadata: { "general.architecture": "llama", "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": ["a", "b"] },
  tensors: [
    { name: "q.weight", type: "Q8_0", shape: [2, 32], bytes: quantize("Q8_0", values) },
    { name: "n.weight", type: "F32", shape: [64], bytes: quantize("F32", values) },
  ],
};
const gguf = (over: Partial<GgufContents> = {}) => Buffer.concat(encodeGguf({ ...contents, ...over }));

/** Opening fails; the error. */
const refused = (path: string) =>
  openCheckpoint(path).then(
    () => {
      throw new Error("nothing was thrown");
    },
    (error: unknown) => error,
  );

/** A folder with config.json and these files; texts and objects are written as they are, lists as safetensors. */
async function modelFolder(files: Record<string, string | object | TensorToWrite[]> = {}): Promise<string> {
  const folder = temporaryFolder();
  put(folder, "config.json", { model_type: "llama" });
  for (const [name, content] of Object.entries(files)) {
    if (Array.isArray(content)) await writeSafetensors(join(folder, name), content);
    else put(folder, name, content);
  }
  return folder;
}
const tensor = (name: string, value = 1): TensorToWrite => ({
  name,
  dtype: "F32",
  shape: [2],
  data: new Float32Array(2).fill(value),
});
const index = (weight_map: unknown) => ({ metadata: { total_size: 1 }, weight_map });
const A = "model-00001-of-00002.safetensors";
const B = "model-00002-of-00002.safetensors";
const INDEX = "model.safetensors.index.json";

describe("openCheckpoint", () => {
  it("opens a GGUF file", async () => {
    const path = put(temporaryFolder(), "m.gguf", gguf());
    const checkpoint = await openCheckpoint(path);
    expect(checkpoint).toMatchObject({ format: "gguf", path, files: [path], config: null, generationConfig: {} });
    expect(checkpoint.metadata["general.architecture"]).toBe("llama");
    expect(checkpoint.tokenizer).toEqual({ kind: "gguf", metadata: checkpoint.metadata });
    expect([...checkpoint.tensors.keys()]).toEqual(["q.weight", "n.weight"]);
    checkpoint.close();
  });

  it("has no tokenizer for a GGUF file that has none", async () => {
    const without: GgufContents["metadata"][] = [{}, { "tokenizer.ggml.model": "none" }];
    for (const metadata of without) {
      const checkpoint = await openCheckpoint(put(temporaryFolder(), "m.gguf", gguf({ metadata })));
      expect(checkpoint.tokenizer).toBeNull();
      checkpoint.close();
    }
  });

  it("opens the one GGUF model of a folder, in one file or in parts", async () => {
    const folder = temporaryFolder();
    const path = put(folder, "m.gguf", gguf());
    put(folder, "README.md", "");
    const checkpoint = await openCheckpoint(folder);
    expect(checkpoint).toMatchObject({ path: folder, files: [path] });
    checkpoint.close();

    const split = temporaryFolder();
    for (const i of [0, 1]) {
      const metadata = { "split.no": i, "split.count": 2 };
      put(split, `m-0000${i + 1}-of-00002.gguf`, gguf({ metadata, tensors: [contents.tensors[i]] }));
    }
    const parts = await openCheckpoint(split);
    expect(parts.files).toEqual([1, 2].map((i) => join(split, `m-0000${i}-of-00002.gguf`)));
    expect(parts.readFloat32("n.weight")).toEqual(values);
    parts.close();
  });

  it("lists the models of a folder with several and says how to name one", async () => {
    const folder = temporaryFolder();
    put(folder, "b.gguf", gguf());
    put(folder, "a.gguf", gguf());
    expectError(
      await refused(folder),
      "FILE_NOT_FOUND",
      new RegExp(`has 2 GGUF models: a.gguf, b.gguf; name one, like ${join(folder, "a.gguf")}`),
    );
  });

  it("opens a folder with config.json and model.safetensors", async () => {
    const folder = await modelFolder({
      "model.safetensors": [tensor("w", 3)],
      "tokenizer.json": { version: "1.0" },
      "tokenizer_config.json": { chat_template: "old", bos_token: "<s>", pad_token: null },
      "special_tokens_map.json": { bos_token: "<other>", eos_token: { content: "</s>" }, pad_token: "<pad>" },
      "generation_config.json": { eos_token_id: [1, 2] },
      "chat_template.jinja": "new",
    });
    const checkpoint = await openCheckpoint(folder);
    expect(checkpoint).toMatchObject({
      format: "safetensors",
      path: folder,
      files: [join(folder, "model.safetensors")],
    });
    expect(checkpoint.metadata).toEqual({});
    expect(checkpoint.config).toEqual({ model_type: "llama" });
    expect(checkpoint.generationConfig).toEqual({ eos_token_id: [1, 2] });
    expect(checkpoint.tokenizer).toEqual({
      kind: "huggingface",
      tokenizer: { version: "1.0" },
      // What tokenizer_config.json says stands, even null; what it does not name comes from special_tokens_map.json.
      config: { chat_template: "old", bos_token: "<s>", pad_token: null, eos_token: { content: "</s>" } },
      chatTemplate: "new",
      generationConfig: { eos_token_id: [1, 2] },
      modelConfig: { model_type: "llama" },
    });
    expect(checkpoint.readFloat32("w")).toEqual(new Float32Array([3, 3]));
    checkpoint.close();
  });

  it("needs no tokenizer, generation config or template in a folder", async () => {
    const checkpoint = await openCheckpoint(await modelFolder({ "model.safetensors": [tensor("w")] }));
    expect(checkpoint.tokenizer).toBeNull();
    expect(checkpoint.generationConfig).toEqual({});
    checkpoint.close();
  });

  it("takes the template of chat_template.json when nothing newer is there", async () => {
    const files = {
      "model.safetensors": [tensor("w")],
      "tokenizer.json": {},
      "chat_template.json": { chat_template: "t" },
    };
    const checkpoint = await openCheckpoint(await modelFolder(files));
    expect(checkpoint.tokenizer).toMatchObject({ config: { chat_template: "t" } });
    expect(checkpoint.tokenizer).not.toHaveProperty("chatTemplate");
    checkpoint.close();
  });

  it("opens shards by their index", async () => {
    const folder = await modelFolder({ [A]: [tensor("a", 1)], [B]: [tensor("b", 2)], [INDEX]: index({ b: B, a: A }) });
    const checkpoint = await openCheckpoint(folder);
    expect(checkpoint.files).toEqual([join(folder, A), join(folder, B)]);
    expect(checkpoint.readFloat32("b")).toEqual(new Float32Array([2, 2]));
    checkpoint.close();
  });

  it("prefers safetensors to a GGUF file in the same folder", async () => {
    const folder = await modelFolder({ "model.safetensors": [tensor("w")] });
    put(folder, "export.gguf", gguf());
    const checkpoint = await openCheckpoint(folder);
    expect(checkpoint.format).toBe("safetensors");
    checkpoint.close();
  });

  it.each<[string, Record<string, string | object | TensorToWrite[]>, "FILE_NOT_FOUND" | "MALFORMED_FILE", RegExp]>([
    [
      "shards that are missing",
      { [A]: [tensor("a")], [INDEX]: index({ a: A, b: B }) },
      "FILE_NOT_FOUND",
      new RegExp(`lacks 1 of 2 weight files: ${B}`),
    ],
    [
      "a tensor that is not in its shard",
      { [A]: [tensor("a")], [INDEX]: index({ a: A, b: A }) },
      "MALFORMED_FILE",
      /says that tensor b is here, but it is not/,
    ],
    [
      "a tensor that is in another shard",
      { [A]: [tensor("a")], [B]: [tensor("b")], [INDEX]: index({ a: B, b: B, x: A }) },
      "MALFORMED_FILE",
      /tensor a is here, but it is in .*00001/,
    ],
    [
      "a tensor in two shards",
      { [A]: [tensor("a")], [B]: [tensor("a")], [INDEX]: index({ a: A, b: B }) },
      "MALFORMED_FILE",
      /tensor a is also in/,
    ],
    ["an index without map", { [INDEX]: {} }, "MALFORMED_FILE", /weight_map must be an object .*/],
    ["an index with an empty map", { [INDEX]: index({}) }, "MALFORMED_FILE", /weight_map must be/],
    ["an index that is a list", { [INDEX]: "[]" }, "MALFORMED_FILE", /must hold a JSON object/],
    ["an index that is no JSON", { [INDEX]: "{" }, "MALFORMED_FILE", /index.json: the file is not valid JSON/],
    [
      "a config that is no JSON",
      { "model.safetensors": [tensor("a")], "config.json": "nope" },
      "MALFORMED_FILE",
      /config.json: the file is not valid JSON/,
    ],
    [
      "a tokenizer that is no object",
      { "model.safetensors": [tensor("a")], "tokenizer.json": "7" },
      "MALFORMED_FILE",
      /tokenizer.json: the file must hold a JSON object/,
    ],
    [
      "a folder of PyTorch pickles",
      { "pytorch_model.bin": "" },
      "FILE_NOT_FOUND",
      /PyTorch pickles \(pytorch_model.bin\)/,
    ],
    [
      "weights under another name",
      { "weights.safetensors": [] },
      "FILE_NOT_FOUND",
      /has weights.safetensors but no model.safetensors/,
    ],
    ["a folder without weights", {}, "FILE_NOT_FOUND", /has no model: expected a .gguf file/],
  ])("refuses %s", async (_name, files, code, message) => {
    expectError(await refused(await modelFolder(files)), code, message);
  });

  it.each([
    "../m.safetensors",
    "/m.safetensors",
    "a/m.safetensors",
    "..\\m.safetensors",
    "%2e%2e%2fm.safetensors",
    "c:m.safetensors",
    "m\0.safetensors",
    "m.bin",
    "..",
    "",
    7,
    null,
  ])("refuses %j as the name of a shard", async (shard) => {
    const folder = await modelFolder({ [INDEX]: index({ a: shard }) });
    expectError(await refused(folder), "MALFORMED_FILE", /weight_map of a must be the name of a .safetensors file/);
  });

  it("refuses weights without config.json, a weight file alone, and paths that are not there", async () => {
    const folder = temporaryFolder();
    const weights = put(folder, "model.safetensors", rawSafetensors({}));
    expectError(await refused(folder), "FILE_NOT_FOUND", /weights but no config.json/);
    expectError(await refused(weights), "FILE_NOT_FOUND", /only the weights; name its folder/);
    expectError(await refused(join(folder, "none.gguf")), "FILE_NOT_FOUND", /none.gguf does not exist/);
    expectError(await refused(join(weights, "below.gguf")), "FILE_NOT_FOUND", /does not exist/);
    mkdirSync(join(folder, "sub"));
    expectError(await refused(join(folder, "sub")), "FILE_NOT_FOUND", /has no model/);
    expectError(await refused("/dev/null"), "FILE_NOT_FOUND", /is not a file/);
  });
});

describe("Checkpoint", () => {
  it("reads raw bytes as they are in the file, into a buffer of their own each time", async () => {
    const path = put(temporaryFolder(), "m.gguf", gguf());
    const checkpoint = await openCheckpoint(path);
    const { offset, byteLength } = checkpoint.tensors.get("q.weight")!;
    const bytes = checkpoint.readBytes("q.weight");
    expect(Buffer.from(bytes)).toEqual(readFileSync(path).subarray(offset, offset + byteLength));
    expect(bytes.buffer.byteLength).toBe(byteLength);
    bytes.fill(0);
    expect(Buffer.from(checkpoint.readBytes("q.weight"))).toEqual(Buffer.from(contents.tensors[0].bytes));
    checkpoint.close();
  });

  it("dequantises exactly", async () => {
    const checkpoint = await openCheckpoint(put(temporaryFolder(), "m.gguf", gguf()));
    const bytes = contents.tensors[0].bytes;
    const read = checkpoint.readFloat32("q.weight");
    // A Q8_0 block: a half, then 32 signed bytes. 1/127 as a half.
    const scale = 2 ** (((bytes[1] >> 2) & 31) - 25) * (1024 + (((bytes[1] & 3) << 8) | bytes[0]));
    for (let i = 0; i < 32; i++) expect(read[i]).toBe(Math.fround(scale * ((bytes[2 + i] << 24) >> 24)));
    expect(checkpoint.readFloat32("n.weight")).toEqual(values);
    checkpoint.close();
  });

  it("reads floats that are misaligned in the file", async () => {
    const folder = temporaryFolder();
    put(folder, "config.json", {});
    const header = {
      a: { dtype: "BF16", shape: [1], data_offsets: [0, 2] },
      b: { dtype: "F32", shape: [2], data_offsets: [2, 10] },
    };
    const data = Buffer.concat([Buffer.from([0x80, 0xbf]), Buffer.from(new Float32Array([1.5, -2]).buffer)]);
    put(folder, "model.safetensors", rawSafetensors(`${JSON.stringify(header)} `, data));
    const checkpoint = await openCheckpoint(folder);
    expect(checkpoint.readFloat32("a")).toEqual(new Float32Array([-1]));
    expect(checkpoint.readFloat32("b")).toEqual(new Float32Array([1.5, -2]));
    checkpoint.close();
  });

  it("names a tensor it does not have", async () => {
    const checkpoint = await openCheckpoint(put(temporaryFolder(), "m.gguf", gguf()));
    for (const read of [() => checkpoint.readBytes("x"), () => checkpoint.readFloat32("x")]) {
      const error = caught(read);
      expectError(error, "TENSOR_MISMATCH", /has no tensor x/);
      expect(error.details.tensor).toBe("x");
    }
    checkpoint.close();
  });

  it("says so when the file shrinks under it", async () => {
    const path = put(temporaryFolder(), "m.gguf", gguf());
    const checkpoint = await openCheckpoint(path);
    truncateSync(path, checkpoint.tensors.get("n.weight")!.offset + 10);
    expectError(
      caught(() => checkpoint.readBytes("n.weight")),
      "MALFORMED_FILE",
      /truncated: tensor n.weight/,
    );
    checkpoint.close();
  });

  it("fails after close, and closes twice", async () => {
    const checkpoint = await openCheckpoint(put(temporaryFolder(), "m.gguf", gguf()));
    checkpoint.identity();
    checkpoint.close();
    checkpoint.close();
    for (const use of [
      () => checkpoint.readBytes("q.weight"),
      () => checkpoint.readFloat32("q.weight"),
      () => checkpoint.identity(),
    ]) {
      expectError(caught(use), "ENGINE_FAILED", /was closed; open the checkpoint again/);
    }
  });

  it("has an identity that stays while the file does and changes with its size, mtime or header", async () => {
    const folder = temporaryFolder();
    const identity = async (path: string) => {
      const checkpoint = await openCheckpoint(path);
      const id = checkpoint.identity();
      expect(checkpoint.identity()).toBe(id);
      checkpoint.close();
      return id;
    };
    const path = put(folder, "m.gguf", gguf());
    const first = await identity(path);
    expect(first).toMatch(/^[0-9a-f]{64}$/);
    expect(await identity(path)).toBe(first);
    const seen = new Set([first]);
    utimesSync(path, 1, 1);
    seen.add(await identity(path));
    // put() sets the first mtime again, so only the header or the size differ.
    put(folder, "m.gguf", gguf({ metadata: { ...contents.metadata, "general.architecture": "qwen2" } }));
    seen.add(await identity(path));
    put(folder, "m.gguf", Buffer.concat([gguf(), Buffer.alloc(1)]));
    seen.add(await identity(path));
    expect(seen.size).toBe(4);
    put(folder, "m.gguf", gguf());
    expect(await identity(path)).toBe(first);
  });
});
