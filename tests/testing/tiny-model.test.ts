import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { openModel } from "../../src/models/open.js";
import { type TinyModelOptions, writeTinyModel } from "../../src/testing/index.js";
import { loadTokenizer } from "../../src/tokenizer/index.js";
import { openCheckpoint } from "../../src/weights/checkpoint.js";

const root = mkdtempSync(join(tmpdir(), "sglang-tiny-"));
afterAll(() => rmSync(root, { recursive: true }));
let count = 0;
const write = (options: TinyModelOptions = {}) => writeTinyModel(join(root, String(count++)), options);

describe("writeTinyModel", () => {
  it("writes the files of a Hugging Face checkpoint", async () => {
    const { path } = await write();
    expect(readdirSync(path).sort()).toEqual([
      "config.json",
      "generation_config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
  });

  it.each<TinyModelOptions>([{}, { format: "gguf", dtype: "Q8_0" }])(
    "gives equal bytes for equal options (%j)",
    async (options) => {
      const bytes = async (seed: number) => {
        const { path } = await write({ ...options, seed });
        return readFileSync(options.format === "gguf" ? path : join(path, "model.safetensors"));
      };
      expect((await bytes(1)).equals(await bytes(1))).toBe(true);
      expect((await bytes(1)).equals(await bytes(2))).toBe(false);
    },
  );

  it("gives a tensor the same numbers whatever else the model has", async () => {
    const name = "model.layers.0.mlp.up_proj.weight";
    const read = async (options: TinyModelOptions) =>
      (await openCheckpoint((await write(options)).path)).readFloat32(name);
    expect(await read({ tie: true, layers: 1, architecture: "qwen2" })).toEqual(await read({ layers: 3 }));
  });

  const shapes: TinyModelOptions[] = [
    { architecture: "llama", attentionBias: true, mlpBias: true, tie: true },
    { architecture: "mistral", slidingWindow: 9, headDim: 16, heads: 6, kvHeads: 3 },
    { architecture: "qwen2", slidingWindow: 9, vocabSize: 500, layers: 4, intermediate: 96, contextLength: 64 },
  ];
  const forms: TinyModelOptions[] = [
    ...(["F32", "F16", "BF16"] as const).map((dtype) => ({ dtype })),
    ...(["F32", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"] as const).map((dtype) => ({
      dtype,
      format: "gguf" as const,
    })),
  ];
  const withoutWindow = ({ slidingWindow: _, ...rest }: TinyModelOptions) => rest;
  it.each(
    shapes.flatMap((shape) =>
      forms.map((form) => ({ ...(form.format === "gguf" ? withoutWindow(shape) : shape), ...form })),
    ),
  )("writes a model that opens with all its tensors read: %j", async (options) => {
    const { path, vocabSize, config } = await write(options);
    const { config: read, dtypes } = await openModel(await openCheckpoint(path));
    expect(read).toMatchObject({
      vocabSize,
      heads: config.num_attention_heads,
      headDim: config.head_dim,
      layers: config.num_hidden_layers,
    });
    expect(Object.keys(dtypes)).toContain(options.dtype);
  });

  it("refuses quantised safetensors", async () => {
    await expect(write({ dtype: "Q8_0" })).rejects.toThrow(/Q8_0 needs format: "gguf"/);
  });
  it("refuses a GGUF file with a sliding window, which llama.cpp's keys can't place", async () => {
    await expect(write({ architecture: "mistral", slidingWindow: 9, format: "gguf" })).rejects.toThrow(
      /sliding window/,
    );
  });
});

describe.each<TinyModelOptions>([{}, { format: "gguf" }])("the tiny tokenizer (%j)", (options) => {
  const open = async () => {
    const model = await write(options);
    return { model, tokenizer: await loadTokenizer((await openCheckpoint(model.path)).tokenizer!) };
  };

  it("brings any text back", async () => {
    const { tokenizer } = await open();
    for (const text of ["Hello world", " the user said: it's 123 days!\n\n", "Grüße 🙂 \u0000\u00ad tab\t", "a  b   c"])
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
  });
  it("merges common words into one token", async () => {
    const { tokenizer } = await open();
    expect(tokenizer.encode(" the world").length).toBe(2);
    expect(tokenizer.encode("xyzzy").length).toBe(5);
  });
  it("ends answers with its special tokens", async () => {
    const { model, tokenizer } = await open();
    expect([...tokenizer.eosTokenIds].sort()).toEqual([...model.eosTokenIds].sort());
    expect(tokenizer.tokenToId("<|im_end|>")).toBe(model.eosTokenIds[0]);
    expect(tokenizer.encode("<|im_end|>")).toEqual([model.eosTokenIds[0]]);
  });
  it("renders ChatML", async () => {
    const { tokenizer } = await open();
    expect(tokenizer.chatTemplate!.render([{ role: "user", content: "hi" }])).toBe(
      "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    );
  });
});
