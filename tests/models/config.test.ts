import { describe, expect, it } from "vitest";
import { modelConfig } from "../../src/models/read-config.js";
import { fakeCheckpoint, LLAMA, LLAMA_GGUF_TENSORS, LLAMA_METADATA } from "./fake-checkpoint.js";

const fromJson = (changes: Record<string, unknown> = {}) =>
  modelConfig(fakeCheckpoint({ config: { ...LLAMA, ...changes } }));
const MISTRAL = { architectures: ["MistralForCausalLM"], model_type: "mistral" };
const QWEN2 = { architectures: ["Qwen2ForCausalLM"], model_type: "qwen2" };
const fails = (code: string, message: RegExp) =>
  expect.objectContaining({ code, message: expect.stringMatching(message) });

describe("config.json", () => {
  it("gets transformers' defaults for what it leaves out", () => {
    expect(fromJson()).toEqual({
      architecture: "LlamaForCausalLM",
      modelType: "llama",
      vocabSize: 10,
      hiddenSize: 8,
      intermediateSize: 6,
      layers: 1,
      heads: 2,
      kvHeads: 2,
      headDim: 4,
      normEps: 1e-6,
      activation: "silu",
      rope: { theta: 10_000, scaling: { type: "default" } },
      contextLength: 32,
      tieWordEmbeddings: false,
      attentionBias: false,
      mlpBias: false,
      sliding: null,
      dtype: null,
    });
  });

  it("takes null for absent", () => {
    const nulls = { num_key_value_heads: null, head_dim: null, rope_scaling: null, sliding_window: null, dtype: null };
    expect(fromJson(nulls)).toEqual(fromJson());
  });

  it.each([
    [{ torch_dtype: "bfloat16" }, { dtype: "bfloat16" }],
    [{ dtype: "float16", torch_dtype: "bfloat16" }, { dtype: "float16" }],
    [
      { num_key_value_heads: 1, head_dim: 16 },
      { kvHeads: 1, headDim: 16 },
    ],
    [{ hidden_act: "gelu" }, { activation: "gelu_erf" }],
    [{ hidden_act: "gelu_pytorch_tanh" }, { activation: "gelu_tanh" }],
    [
      { attention_bias: true, mlp_bias: true, tie_word_embeddings: true },
      { attentionBias: true, mlpBias: true, tieWordEmbeddings: true },
    ],
    [{ pretraining_tp: 1, partial_rotary_factor: 1, use_cache: false, unsloth_fixed: true }, {}],
  ])("reads %j", (changes, expected) => {
    expect(fromJson(changes)).toMatchObject(expected);
  });

  describe("rotary parameters", () => {
    const llama3 = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 16 };
    const read = { factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalContextLength: 16 };
    it.each<[string, Record<string, unknown>, object]>([
      ["rope_theta at the top", { rope_theta: 5e5 }, { theta: 5e5 }],
      [
        "rope_theta inside rope_parameters",
        { rope_theta: 1, rope_parameters: { rope_theta: 5e5, rope_type: "default" } },
        { theta: 5e5 },
      ],
      [
        "the old key `type`",
        { rope_scaling: { type: "linear", factor: 2 } },
        { scaling: { type: "linear", factor: 2 } },
      ],
      [
        "llama3 in rope_scaling",
        { rope_scaling: { rope_type: "llama3", ...llama3 } },
        { scaling: { type: "llama3", ...read } },
      ],
      [
        "llama3 in rope_parameters",
        { rope_parameters: { rope_type: "llama3", rope_theta: 7, ...llama3 } },
        { theta: 7, scaling: { type: "llama3", ...read } },
      ],
      [
        "yarn with its defaults",
        { rope_scaling: { rope_type: "yarn", factor: 4 } },
        {
          scaling: {
            type: "yarn",
            factor: 4,
            originalContextLength: 32,
            betaFast: 32,
            betaSlow: 1,
            attentionFactor: 0.1 * Math.log(4) + 1,
            truncate: true,
          },
        },
      ],
      [
        "yarn without factor: the ratio of the context lengths",
        { rope_scaling: { rope_type: "yarn", original_max_position_embeddings: 8 } },
        { scaling: expect.objectContaining({ factor: 4, originalContextLength: 8 }) },
      ],
      [
        "yarn with everything said",
        {
          rope_scaling: {
            type: "yarn",
            factor: 4,
            attention_factor: 1.5,
            beta_fast: 16,
            beta_slow: 2,
            truncate: false,
            finetuned: true,
          },
        },
        {
          scaling: {
            type: "yarn",
            factor: 4,
            originalContextLength: 32,
            betaFast: 16,
            betaSlow: 2,
            attentionFactor: 1.5,
            truncate: false,
          },
        },
      ],
      [
        "yarn with mscale and mscale_all_dim: their ratio",
        { rope_scaling: { type: "yarn", factor: 4, mscale: 1, mscale_all_dim: 1 } },
        { scaling: expect.objectContaining({ attentionFactor: 1 }) },
      ],
    ])("%s", (_name, changes, expected) => {
      expect(fromJson(changes).rope).toMatchObject(expected);
    });
  });

  describe("sliding windows", () => {
    it.each<[string, Record<string, unknown>, object | null]>([
      ["Mistral with one", { ...MISTRAL, sliding_window: 16 }, { window: 16 }],
      ["Mistral without the key has 4096", MISTRAL, { window: 4096 }],
      ["Mistral with null has none", { ...MISTRAL, sliding_window: null }, null],
      ["Qwen2 names one that is off", { ...QWEN2, sliding_window: 16, max_window_layers: 1 }, null],
      ["Qwen2 with it switched off", { ...QWEN2, use_sliding_window: false, sliding_window: 16 }, null],
      [
        "Qwen2 with it on",
        { ...QWEN2, use_sliding_window: true, sliding_window: 16, max_window_layers: 0 },
        { window: 16, maxWindowLayers: 0 },
      ],
      [
        "Qwen2 with layer types",
        { ...QWEN2, use_sliding_window: true, sliding_window: 16, layer_types: ["sliding_attention"] },
        { layerTypes: ["sliding_attention"] },
      ],
    ])("%s", (_name, changes, expected) => {
      const { sliding } = fromJson(changes);
      if (expected === null) expect(sliding).toBeNull();
      else expect(sliding).toMatchObject(expected);
    });
  });

  it.each<[Record<string, unknown>, string, RegExp]>([
    [
      { hidden_size: undefined },
      "MALFORMED_FILE",
      /hidden_size in .*config\.json must be a positive integer, got nothing/,
    ],
    [{ hidden_size: "8" }, "MALFORMED_FILE", /hidden_size .* got "8"/],
    [{ hidden_size: 9 }, "MALFORMED_FILE", /hidden_size .* multiple of num_attention_heads/],
    [{ num_hidden_layers: 1e9 }, "MALFORMED_FILE", /num_hidden_layers .* from 1 to 1024/],
    [{ num_key_value_heads: 3 }, "MALFORMED_FILE", /num_key_value_heads .* divisor/],
    [{ head_dim: 5 }, "MALFORMED_FILE", /head_dim .* even/],
    [{ rms_norm_eps: 0 }, "MALFORMED_FILE", /rms_norm_eps/],
    [{ tie_word_embeddings: 1 }, "MALFORMED_FILE", /tie_word_embeddings .* true or false/],
    [{ architectures: [] }, "MALFORMED_FILE", /architectures/],
    [{ hidden_act: "relu" }, "UNSUPPORTED_MODEL", /hidden_act = "relu" .* known are silu/],
    [{ pretraining_tp: 2 }, "UNSUPPORTED_MODEL", /pretraining_tp = 2/],
    [{ partial_rotary_factor: 0.5 }, "UNSUPPORTED_MODEL", /partial_rotary_factor/],
    [
      { quantization_config: { quant_method: "awq" } },
      "UNSUPPORTED_MODEL",
      /quantization_config = \{"quant_method":"awq"\}/,
    ],
    [{ auto_map: { AutoModel: "modeling_qwen.Qwen2Model" } }, "UNSUPPORTED_MODEL", /auto_map/],
    [{ is_causal: false }, "UNSUPPORTED_MODEL", /is_causal/],
    [
      { rope_scaling: { rope_type: "longrope", factor: 2 } },
      "UNSUPPORTED_MODEL",
      /rope_scaling\.rope_type = "longrope"/,
    ],
    [{ rope_scaling: { type: "dynamic", factor: 2 } }, "UNSUPPORTED_MODEL", /rope_scaling\.type = "dynamic"/],
    [{ rope_scaling: { type: "linear" } }, "MALFORMED_FILE", /rope_scaling\.factor/],
    [{ rope_scaling: { type: "linear", factor: -1 } }, "MALFORMED_FILE", /rope_scaling\.factor .* got -1/],
    [{ rope_scaling: [2] }, "MALFORMED_FILE", /rope_scaling .* an object/],
    [
      { rope_parameters: { full_attention: { rope_theta: 1 } } },
      "UNSUPPORTED_MODEL",
      /rope_parameters\.full_attention/,
    ],
    [
      { rope_scaling: { rope_type: "llama3", factor: 8, low_freq_factor: 4, high_freq_factor: 4 } },
      "MALFORMED_FILE",
      /high_freq_factor .* more than/,
    ],
    [{ ...MISTRAL, sliding_window: 0 }, "MALFORMED_FILE", /sliding_window/],
    [{ ...QWEN2, use_sliding_window: true, layer_types: ["local"] }, "MALFORMED_FILE", /layer_types/],
  ])("refuses %j", (changes, code, message) => {
    expect(() => fromJson(changes)).toThrow(fails(code, message));
  });

  it("must be there", () => {
    expect(() => modelConfig(fakeCheckpoint({ config: null }))).toThrow(
      fails("FILE_NOT_FOUND", /config\.json is missing/),
    );
  });
});

describe("GGUF metadata", () => {
  const fromGguf = (
    changes: Record<string, string | number | boolean | number[]> = {},
    tensors: Record<string, number[]> = {},
    values = {},
  ) =>
    modelConfig(
      fakeCheckpoint({
        format: "gguf",
        metadata: { ...LLAMA_METADATA, ...changes },
        tensors: { ...LLAMA_GGUF_TENSORS, ...tensors },
        values,
      }),
    );

  it("takes the vocabulary from the embedding, and tying and biases from the tensors", () => {
    expect(fromGguf()).toEqual({
      architecture: "llama",
      modelType: "llama",
      vocabSize: 10,
      hiddenSize: 8,
      intermediateSize: 6,
      layers: 1,
      heads: 2,
      kvHeads: 1,
      headDim: 4,
      normEps: 1e-5,
      activation: "silu",
      rope: { theta: 10_000, scaling: { type: "default" } },
      contextLength: 32,
      tieWordEmbeddings: true,
      attentionBias: false,
      mlpBias: false,
      sliding: null,
      dtype: null,
    });
    const more = { "output.weight": [10, 8], "blk.0.attn_q.bias": [8], "blk.0.ffn_gate.bias": [6] };
    expect(fromGguf({}, more)).toMatchObject({ tieWordEmbeddings: false, attentionBias: true, mlpBias: true });
  });

  it.each<[Record<string, string | number | boolean>, object]>([
    [
      { "llama.attention.key_length": 6, "llama.attention.value_length": 6, "llama.rope.dimension_count": 6 },
      { headDim: 6 },
    ],
    [
      { "llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4 },
      { rope: { theta: 10_000, scaling: { type: "default" } } },
    ],
    [{ "llama.rope.scaling.factor": 4 }, { rope: { theta: 10_000, scaling: { type: "linear", factor: 4 } } }],
    [{ "llama.rope.scale_linear": 2 }, { rope: { theta: 10_000, scaling: { type: "linear", factor: 2 } } }],
    [
      {
        "llama.rope.scaling.type": "yarn",
        "llama.rope.scaling.factor": 4,
        "llama.rope.scaling.original_context_length": 8,
        "llama.rope.scaling.attn_factor": 2,
      },
      {
        rope: {
          scaling: { type: "yarn", factor: 4, originalContextLength: 8, attentionFactor: 2 * (0.1 * Math.log(4) + 1) },
        },
      },
    ],
    [{ "llama.attention.sliding_window": 16 }, { sliding: { window: 16 } }],
    [{ "llama.expert_count": 0, "llama.vocab_size": 10, "llama.tensor_data_layout": "Meta AI original pth" }, {}],
  ])("reads %j", (changes, expected) => {
    expect(fromGguf(changes)).toMatchObject(expected);
  });

  it("divides frequencies by rope_freqs.weight", () => {
    const { scaling } = fromGguf({}, { "rope_freqs.weight": [2] }, { "rope_freqs.weight": [1, 8] }).rope;
    expect(scaling).toEqual({ type: "factors", factors: Float32Array.of(1, 8) });
  });

  it.each<[Record<string, string | number | boolean | number[]>, Record<string, number[]>, string, RegExp]>([
    [
      { "llama.attention.head_count_kv": [1, 2] },
      {},
      "MALFORMED_FILE",
      /llama\.attention\.head_count_kv .* got \[1,2\]/,
    ],
    [{ "llama.expert_count": 8 }, {}, "UNSUPPORTED_MODEL", /llama\.expert_count = 8/],
    [{ "llama.attention.causal": false }, {}, "UNSUPPORTED_MODEL", /llama\.attention\.causal/],
    [{ "llama.attention.value_length": 2 }, {}, "UNSUPPORTED_MODEL", /value_length/],
    [{ "llama.rope.dimension_count": 2 }, {}, "UNSUPPORTED_MODEL", /dimension_count = 2 .* all 4 columns/],
    [{ "llama.final_logit_softcapping": 30 }, {}, "UNSUPPORTED_MODEL", /final_logit_softcapping = 30/],
    [{ "llama.rope.scaling.type": "longrope" }, {}, "UNSUPPORTED_MODEL", /longrope/],
    [
      { "llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2 },
      { "rope_freqs.weight": [2] },
      "UNSUPPORTED_MODEL",
      /rope_freqs/,
    ],
    [{}, { "rope_freqs.weight": [3] }, "TENSOR_MISMATCH", /rope_freqs\.weight .* has 3 values .* is 2/],
    [{ "general.type": "adapter" }, {}, "UNSUPPORTED_MODEL", /general\.type = "adapter"/],
  ])("refuses %j with %j", (changes, tensors, code, message) => {
    expect(() => fromGguf(changes, tensors)).toThrow(fails(code, message));
  });

  it("needs an embedding", () => {
    expect(() => modelConfig(fakeCheckpoint({ format: "gguf", metadata: LLAMA_METADATA }))).toThrow(
      fails("TENSOR_MISMATCH", /token_embd\.weight/),
    );
  });
});
