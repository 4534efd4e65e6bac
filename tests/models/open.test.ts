import { describe, expect, it } from "vitest";
import { opNodes, printGraph } from "../../src/graph/ops.js";
import { openModel, referenceModel } from "../../src/models/open.js";
import { modelConfig } from "../../src/models/read-config.js";
import { architectureClass, findArchitecture, supportedArchitectures } from "../../src/models/registry.js";
import { ourName } from "../../src/models/weight-names.js";
import type { FakeFiles } from "./fake-checkpoint.js";
import { fakeCheckpoint, LLAMA, LLAMA_GGUF_TENSORS, LLAMA_METADATA, LLAMA_TENSORS } from "./fake-checkpoint.js";

const open = (files: FakeFiles) => openModel(fakeCheckpoint(files));
const without = (tensors: Readonly<Record<string, readonly number[]>>, name: string) =>
  Object.fromEntries(Object.entries(tensors).filter(([key]) => key !== name));
const mismatch = (message: RegExp) =>
  expect.objectContaining({ code: "TENSOR_MISMATCH", message: expect.stringMatching(message) });

describe("openModel", () => {
  it("binds every weight part to its tensor and counts parameters and types", async () => {
    const { bindings, parameters, dtypes } = await open({ config: LLAMA, tensors: LLAMA_TENSORS });
    const qkv = [...bindings].find(([weight]) => weight.name.includes("q_proj,k_proj,v_proj"))!;
    expect(qkv[1].map(({ info }) => info.name)).toEqual(
      ["q", "k", "v"].map((p) => `model.layers.0.self_attn.${p}_proj.weight`),
    );
    expect(parameters).toBe(80 + 8 + 4 * 64 + 8 + 3 * 48 + 8 + 80);
    expect(dtypes).toEqual({ F32: 12 });
  });

  it("counts tied weights once, and lets a copy of the head lie in the file", async () => {
    const config = { ...LLAMA, tie_word_embeddings: true };
    const tied = await open({ config, tensors: without(LLAMA_TENSORS, "lm_head.weight") });
    expect(tied.parameters).toBe(80 + 8 + 4 * 64 + 8 + 3 * 48 + 8);
    expect((await open({ config, tensors: LLAMA_TENSORS })).parameters).toBe(tied.parameters);
  });

  it("names a tensor that is missing", async () => {
    const tensors = without(LLAMA_TENSORS, "model.layers.0.mlp.up_proj.weight");
    await expect(open({ config: LLAMA, tensors })).rejects.toThrow(
      mismatch(/layers\.0\.mlp\.up_proj\.weight .* shape \[6, 8\] but is not there/),
    );
  });
  it("names a tensor of another shape, with both shapes", async () => {
    const tensors = { ...LLAMA_TENSORS, "model.norm.weight": [7] };
    await expect(open({ config: LLAMA, tensors })).rejects.toThrow(
      mismatch(/model\.norm\.weight in \/model\/weights must have shape \[8\] but has shape \[7\]/),
    );
  });
  it("names tensors that the model does not read", async () => {
    const tensors = {
      ...LLAMA_TENSORS,
      "model.layers.0.self_attn.q_proj.bias": [8],
      "model.layers.1.mlp.up_proj.weight": [6, 8],
    };
    await expect(open({ config: LLAMA, tensors })).rejects.toThrow(
      mismatch(/does not read: model\.layers\.0\.self_attn\.q_proj\.bias, model\.layers\.1/),
    );
  });
  it("leaves old rotary buffers unread", async () => {
    const tensors = { ...LLAMA_TENSORS, "model.layers.0.self_attn.rotary_emb.inv_freq": [2] };
    await expect(open({ config: LLAMA, tensors })).resolves.toBeDefined();
  });
  it("refuses a sliding window in a Llama", async () => {
    const config = { ...LLAMA, sliding_window: 16 };
    await expect(open({ config, tensors: LLAMA_TENSORS })).rejects.toThrow(
      expect.objectContaining({ code: "UNSUPPORTED_MODEL" }),
    );
  });

  it("undoes the row order of q and k in llama GGUF files, weights and biases", async () => {
    const tensors = {
      ...LLAMA_GGUF_TENSORS,
      ...Object.fromEntries(
        ["q", "k", "v", "output"].map((p) => [`blk.0.attn_${p}.bias`, [p === "k" || p === "v" ? 4 : 8]]),
      ),
    };
    const { graph, read } = await referenceModel(fakeCheckpoint({ format: "gguf", metadata: LLAMA_METADATA, tensors }));
    const bias = graph.weights.find(({ name }) => name === "layers.0.self_attn.{q_proj,k_proj,v_proj}.bias")!;
    // Row (head, 2 i + b) of the file is row (head, b * headDim / 2 + i) of ours; values are row numbers.
    expect([...read(bias)]).toEqual([0, 2, 1, 3, 4, 6, 5, 7, 0, 2, 1, 3, 0, 1, 2, 3]);
    const matrix = graph.weights.find(({ name }) => name === "layers.0.self_attn.{q_proj,k_proj,v_proj}.weight")!;
    expect([...read(matrix)].filter((_, i) => i % 8 === 0).map((x) => x / 8)).toEqual([
      0, 2, 1, 3, 4, 6, 5, 7, 0, 2, 1, 3, 0, 1, 2, 3,
    ]);
  });
  it("keeps the row order of qwen2 GGUF files", async () => {
    const metadata = Object.fromEntries(
      Object.entries(LLAMA_METADATA).map(([key, value]) => [
        key.replace("llama.", "qwen2."),
        value === "llama" ? "qwen2" : value,
      ]),
    );
    const tensors = {
      ...LLAMA_GGUF_TENSORS,
      "blk.0.attn_q.bias": [8],
      "blk.0.attn_k.bias": [4],
      "blk.0.attn_v.bias": [4],
    };
    const { graph, read } = await referenceModel(fakeCheckpoint({ format: "gguf", metadata, tensors }));
    const bias = graph.weights.find(({ name }) => name.endsWith("}.bias"))!;
    expect([...read(bias)]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 0, 1, 2, 3]);
  });
});

describe("models", () => {
  const windows = async (config: Record<string, unknown>) => {
    const read = modelConfig(fakeCheckpoint({ config: { ...LLAMA, num_hidden_layers: 3, ...config } }));
    const graph = (await findArchitecture(read.architecture)).record(read);
    return opNodes(graph).flatMap((node) => (node.op === "attention" ? [node.attrs.window] : []));
  };
  const QWEN2 = { architectures: ["Qwen2ForCausalLM"], model_type: "qwen2", use_sliding_window: true };

  it.each<[string, Record<string, unknown>, number[]]>([
    ["Llama has none", {}, [0, 0, 0]],
    [
      "Mistral has it everywhere",
      { architectures: ["MistralForCausalLM"], model_type: "mistral", sliding_window: 9 },
      [9, 9, 9],
    ],
    ["Qwen2 has it from max_window_layers on", { ...QWEN2, sliding_window: 9, max_window_layers: 2 }, [0, 0, 9]],
    [
      "Qwen2's layer_types win",
      {
        ...QWEN2,
        sliding_window: 9,
        max_window_layers: 0,
        layer_types: ["full_attention", "sliding_attention", "full_attention"],
      },
      [0, 9, 0],
    ],
    ["a window of the whole context is none", { ...QWEN2, sliding_window: 32, max_window_layers: 0 }, [0, 0, 0]],
  ])("sliding windows: %s", async (_name, config, expected) => {
    expect(await windows(config)).toEqual(expected);
  });

  it("read as a page", async () => {
    const { graph } = await open({ config: LLAMA, tensors: LLAMA_TENSORS });
    expect(printGraph(graph)).toContain(
      "layers.0.self_attn.{q_proj,k_proj,v_proj} [tokens, 24] = linear(layers.0.input_layernorm; layers.0.self_attn.{q_proj,k_proj,v_proj}.weight 24x8)",
    );
  });

  it("are known by name, and an unknown one is refused with the list", async () => {
    for (const name of supportedArchitectures) {
      expect(architectureClass(name)).toMatch(/ForCausalLM$/);
      expect(supportedArchitectures).toContain(architectureClass(name));
    }
    for (const name of supportedArchitectures) expect(await findArchitecture(name)).toHaveProperty("record");
    for (const name of ["BertModel", "toString"])
      await expect(findArchitecture(name)).rejects.toThrow(
        expect.objectContaining({ code: "UNSUPPORTED_MODEL", message: expect.stringContaining("LlamaForCausalLM") }),
      );
  });
});

describe("ourName", () => {
  it.each([
    ["safetensors", "model.layers.3.mlp.up_proj.weight", "layers.3.mlp.up_proj.weight"],
    ["safetensors", "lm_head.weight", "lm_head.weight"],
    ["safetensors", "visual.patch_embed.weight", null],
    ["gguf", "token_embd.weight", "embed_tokens.weight"],
    ["gguf", "output.weight", "lm_head.weight"],
    ["gguf", "blk.12.attn_output.bias", "layers.12.self_attn.o_proj.bias"],
    ["gguf", "blk.0.ffn_gate_exps.weight", null],
    ["gguf", "blk.0.token_embd.weight", null],
    ["gguf", "attn_q.weight", null],
    ["gguf", "rope_freqs.weight", null],
  ] as const)("of %s %s is %s", (format, name, expected) => {
    expect(ourName(format, name)).toBe(expected);
  });
});
