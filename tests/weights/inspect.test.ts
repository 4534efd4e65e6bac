import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { encodeGguf } from "../../src/weights/gguf-writer.js";
import { formatInspection, inspectCheckpoint } from "../../src/weights/inspect.js";
import { put, rawSafetensors, temporaryFolder } from "./small-files.js";

const folder = temporaryFolder();
const path = put(
  folder,
  "m.gguf",
  Buffer.concat(
    encodeGguf({
      metadata: {
        "general.architecture": "llama",
        "llama.eps": { type: "f32", value: 1e-5 },
        "llama.wide": 2n ** 60n,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": ["<s>", "</s>", "a", "b", "c"],
        "tokenizer.ggml.scores": new Float32Array(5),
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.padding_token_id": 9,
        "tokenizer.chat_template": "{{ messages }}".repeat(10),
      },
      tensors: [
        { name: "a.weight", type: "Q8_0", shape: [4, 32], bytes: new Uint8Array(136) },
        { name: "b.weight", type: "F32", shape: [1000], bytes: new Uint8Array(4000) },
      ],
    }),
  ),
);

describe("inspectCheckpoint", () => {
  it("sums up a GGUF file", async () => {
    const data = await inspectCheckpoint(path);
    expect(data).toMatchObject({
      path,
      format: "gguf",
      architecture: "llama",
      parameters: 1128,
      tensorCount: 2,
      bytes: 4136,
    });
    expect(data.dtypes).toEqual([
      { dtype: "F32", tensors: 1, parameters: 1000, bytes: 4000 },
      { dtype: "Q8_0", tensors: 1, parameters: 128, bytes: 136 },
    ]);
    expect(data.tensors[0]).toEqual({ name: "a.weight", shape: [4, 32], dtype: "Q8_0", bytes: 136 });
    expect(data.tokenizer).toEqual({
      model: "gpt2",
      pre: "smollm",
      vocabSize: 5,
      specialTokens: [
        { role: "bos", id: 0, text: "<s>" },
        { role: "eos", id: 1, text: "</s>" },
        { role: "padding", id: 9, text: null },
      ],
    });
    expect(data.chatTemplate).toBe("{{ messages }}".repeat(10));
    expect(Object.fromEntries(data.metadata.map(({ key, value }) => [key, value]))).toMatchObject({
      "general.architecture": '"llama"',
      "llama.eps": "0.00001",
      "llama.wide": "1152921504606846976",
      "tokenizer.ggml.tokens": '["<s>", "</s>", "a", "b", ...] (5 items)',
      "tokenizer.ggml.scores": "[0, 0, 0, 0, ...] (5 items)",
      "tokenizer.chat_template": `"${"{{ messages }}".repeat(10).slice(0, 80)}"... (140 characters)`,
    });
  });

  it("is plain data that survives JSON", async () => {
    const data = await inspectCheckpoint(path);
    expect(JSON.parse(JSON.stringify(data))).toEqual(data);
  });

  it("sums up a Hugging Face folder", async () => {
    const model = temporaryFolder();
    put(model, "config.json", { architectures: ["Qwen2ForCausalLM"], model_type: "qwen2", rope: { theta: 1 } });
    const header = {
      w: { dtype: "BF16", shape: [2, 3], data_offsets: [0, 12] },
      position_ids: { dtype: "I64", shape: [1], data_offsets: [12, 20] },
    };
    put(model, "model.safetensors", rawSafetensors(header, new Uint8Array(20)));
    put(model, "tokenizer.json", {
      model: { type: "BPE", vocab: { a: 0, b: 1 } },
      pre_tokenizer: { type: "ByteLevel" },
      added_tokens: [
        { content: "<end>", id: 2 },
        { content: "b", id: 1 },
      ],
    });
    put(model, "tokenizer_config.json", {
      eos_token: { content: "<end>" },
      bos_token: null,
      pad_token: "a",
      chat_template: [
        { name: "tools", template: "t" },
        { name: "default", template: "d" },
      ],
    });
    const data = await inspectCheckpoint(model);
    expect(data).toMatchObject({
      format: "safetensors",
      architecture: "Qwen2ForCausalLM",
      files: [join(model, "model.safetensors")],
      parameters: 6,
      skipped: [{ name: "position_ids", dtype: "I64" }],
      tokenizer: { model: "BPE", pre: "ByteLevel", vocabSize: 3 },
      chatTemplate: "d",
    });
    expect(data.tokenizer?.specialTokens).toEqual([
      { role: "eos", id: 2, text: "<end>" },
      { role: "pad", id: 0, text: "a" },
    ]);
    expect(data.metadata).toContainEqual({ key: "rope", value: '{"theta":1}' });
    expect(formatInspection(data, { tensors: false, template: false })).toContain("position_ids (I64)");
  });
});

describe("formatInspection", () => {
  it("is a table of facts, types and metadata", async () => {
    const text = formatInspection(await inspectCheckpoint(path), { tensors: false, template: false });
    expect(text.split("\n\n")[0]).toBe(
      [
        `  path           ${path}`,
        "  format         gguf",
        "  architecture   llama",
        "  parameters     1.1 k (1128)",
        "  tensors        2",
        "  size           4.0 KiB of weights, 29.33 bits per weight",
        "  tokenizer      gpt2, pre smollm, 5 tokens",
        '    bos          0 "<s>"',
        '    eos          1 "</s>"',
        "    padding      9 (not in the vocabulary)",
        "  chat template  140 characters",
      ].join("\n"),
    );
    expect(text).toContain(
      "Types\n  F32   1 tensor  1.0 k parameters  3.9 KiB\n  Q8_0  1 tensor  128 parameters    136 B",
    );
    expect(text).toContain("\n\nMetadata\n  general.architecture");
    expect(text).not.toContain("a.weight");
    expect(text).not.toContain("{{ messages }}".repeat(10));
  });

  it("lists tensors and prints the template when asked", async () => {
    const text = formatInspection(await inspectCheckpoint(path), { tensors: true, template: true });
    expect(text).toContain("Tensors\n  a.weight  Q8_0  [4, 32]  136 B\n  b.weight  F32   [1000]   3.9 KiB");
    expect(text.endsWith(`Chat template\n${"{{ messages }}".repeat(10)}`)).toBe(true);
  });
});
