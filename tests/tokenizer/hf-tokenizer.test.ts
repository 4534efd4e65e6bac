import fc from "fast-check";
import { Tokenizer as RustTokenizer } from "tokenizers";
import { describe, expect, it } from "vitest";
import { loadTokenizer } from "../../src/tokenizer/index.js";
import type { Json } from "../../src/tokenizer/tokenizer-spec.js";
import { addedToken, anyText, BYTE_TOKENS, byteLevelJson, END, huggingFace, START, TOOL, TRICKY } from "./fixtures.js";

const SPLIT = (pattern: Json, behavior: string, invert = false): Json => ({ type: "Split", pattern, behavior, invert });
const BYTES: Json = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false };
const IN_SEQUENCE = (...steps: Json[]): Json => ({ type: "Sequence", pretokenizers: [...steps, BYTES] });

describe("encoding equals the Rust implementation with", () => {
  const cases: [string, Json][] = [
    ["ByteLevel and its own regex", {}],
    ["a prefix space", { pre_tokenizer: { ...BYTES, add_prefix_space: true } }],
    [
      "single digits of every script",
      { pre_tokenizer: IN_SEQUENCE({ type: "Digits", individual_digits: true }, { ...BYTES, use_regex: true }) },
    ],
    ["runs of digits", { pre_tokenizer: IN_SEQUENCE({ type: "Digits", individual_digits: false }) }],
    ["isolated punctuation", { pre_tokenizer: IN_SEQUENCE({ type: "Punctuation", behavior: "Isolated" }) }],
    ["contiguous punctuation", { pre_tokenizer: IN_SEQUENCE({ type: "Punctuation", behavior: "Contiguous" }) }],
    ["Whitespace", { pre_tokenizer: IN_SEQUENCE({ type: "Whitespace" }) }],
    ["WhitespaceSplit", { pre_tokenizer: IN_SEQUENCE({ type: "WhitespaceSplit" }) }],
    ["CharDelimiterSplit", { pre_tokenizer: IN_SEQUENCE({ type: "CharDelimiterSplit", delimiter: "o" }) }],
    [
      "a split merged with the previous piece",
      { pre_tokenizer: IN_SEQUENCE(SPLIT({ Regex: "[,e]" }, "MergedWithPrevious")) },
    ],
    ["a split merged with the next piece", { pre_tokenizer: IN_SEQUENCE(SPLIT({ String: " " }, "MergedWithNext")) }],
    ["a contiguous split", { pre_tokenizer: IN_SEQUENCE(SPLIT({ Regex: "[aeiou]" }, "Contiguous")) }],
    ["a removed split", { pre_tokenizer: IN_SEQUENCE(SPLIT({ Regex: "\\s" }, "Removed")) }],
    ["an inverted removed split", { pre_tokenizer: IN_SEQUENCE(SPLIT({ Regex: "\\p{L}+|\\s" }, "Removed", true)) }],
    ["NFC", { normalizer: { type: "NFC" } }],
    [
      "NFKD and a replacement with dollars",
      {
        normalizer: {
          type: "Sequence",
          normalizers: [{ type: "NFKD" }, { type: "Replace", pattern: { String: "a" }, content: "$&$$" }],
        },
      },
    ],
    ["ignore_merges", { model: { ...(byteLevelJson().model as Json), ignore_merges: true } }],
    [
      "bos and eos",
      {
        post_processor: {
          type: "TemplateProcessing",
          single: [
            { SpecialToken: { id: "<|start|>", type_id: 0 } },
            { Sequence: { id: "A", type_id: 0 } },
            { SpecialToken: { id: "<|end|>", type_id: 0 } },
          ],
          pair: [{ Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }],
          special_tokens: {
            "<|start|>": { id: "<|start|>", ids: [START], tokens: ["<|start|>"] },
            "<|end|>": { id: "<|end|>", ids: [END], tokens: ["<|end|>"] },
          },
        },
      },
    ],
  ];
  it.each(cases)("%s", async (_, overrides) => {
    const json = byteLevelJson(overrides);
    const ours = loadTokenizer(huggingFace(json));
    const rust = RustTokenizer.fromString(JSON.stringify(json));
    for (const text of TRICKY) {
      expect(ours.encode(text), JSON.stringify(text)).toEqual((await rust.encode(text)).getIds());
    }
  });

  it("a Metaspace vocabulary, split and unsplit", async () => {
    for (const split of [true, false]) {
      for (const scheme of ["always", "first", "never"]) {
        const metaspace = { type: "Metaspace", replacement: "\u2581", prepend_scheme: scheme, split };
        const vocab: [string, number][] = [
          ["<unk>", 0],
          ["\u2581", -2],
          ["\u2581the", -3],
          ["the", -4],
          ["e\u2581d", -1],
          ["\u2581d", -5],
          ["og", -6],
          ["t", -7],
          ["h", -7],
          ["e", -7],
          ["d", -7],
          ["o", -7],
          ["g", -7],
        ];
        const json = {
          ...byteLevelJson({
            added_tokens: [addedToken(0, "<unk>", true)],
            pre_tokenizer: metaspace,
            decoder: metaspace,
          }),
          model: { type: "Unigram", unk_id: 0, vocab, byte_fallback: false },
        };
        const ours = loadTokenizer(huggingFace(json));
        const rust = RustTokenizer.fromString(JSON.stringify(json));
        for (const text of ["the dog", " the  dog", "dog the", "the", "dothe<unk>the dog"]) {
          const ids = (await rust.encode(text)).getIds();
          expect(ours.encode(text), `${split} ${scheme} ${text}`).toEqual(ids);
          expect(ours.decode(ids)).toBe(await rust.decode(ids, true));
        }
      }
    }
  });
});

describe("decoding", () => {
  const tokenizer = loadTokenizer(huggingFace(byteLevelJson()));

  it("gives back every text that was encoded", () => {
    fc.assert(
      fc.property(anyText, (text) => {
        expect(tokenizer.decode(tokenizer.encode(text), { skipSpecialTokens: false })).toBe(text);
      }),
    );
  });

  it("equals the Rust implementation for any ids, broken characters included", async () => {
    const rust = RustTokenizer.fromString(JSON.stringify(byteLevelJson()));
    const ids = fc.array(fc.nat({ max: END + 2 }), { minLength: 1, maxLength: 30 });
    await fc.assert(
      fc.asyncProperty(ids, fc.boolean(), async (list, skip) => {
        expect(tokenizer.decode(list, { skipSpecialTokens: skip })).toBe(await rust.decode(list, skip));
      }),
    );
  });

  it("skips special tokens and keeps added ones that are not special", () => {
    expect(tokenizer.decode([START, TOOL, END])).toBe("<tool>");
    expect(tokenizer.decode([START, TOOL, END], { skipSpecialTokens: false })).toBe("<|start|><tool><|end|>");
    expect([START, TOOL, END, 5].map((id) => tokenizer.isSpecial(id))).toEqual([true, false, true, false]);
  });

  it("says nothing for ids above the vocabulary and refuses what is no id", () => {
    expect(tokenizer.decode([END + 100])).toBe("");
    expect(() => tokenizer.decode([-1])).toThrow(expect.objectContaining({ code: "INVALID_REQUEST" }));
    expect(() => tokenizer.decode([1.5])).toThrow(/integer/);
  });
});

describe("a token", () => {
  const tokenizer = loadTokenizer(huggingFace(byteLevelJson()));

  it("stands for its bytes; a special one for its text", () => {
    for (let byte = 0; byte < 256; byte++) expect([...tokenizer.tokenBytes(byte)]).toEqual([byte]);
    expect(new TextDecoder().decode(tokenizer.tokenBytes(START))).toBe("<|start|>");
    expect(tokenizer.tokenBytes(END + 100)).toHaveLength(0);
  });

  it("has a name both ways", () => {
    expect(tokenizer.idToToken(START)).toBe("<|start|>");
    expect(tokenizer.tokenToId("<|start|>")).toBe(START);
    expect(tokenizer.idToToken(END + 100)).toBeNull();
    expect(tokenizer.tokenToId("no such token")).toBeNull();
    expect(tokenizer.vocabSize).toBe(BYTE_TOKENS.length + 3);
  });

  it("of an old merge list or a new one gives the same ids", () => {
    const model = byteLevelJson().model as Json;
    const pairs = (model.merges as string[]).map((merge) => merge.split(" "));
    const other = loadTokenizer(huggingFace(byteLevelJson({ model: { ...model, merges: pairs } })));
    for (const text of TRICKY) expect(other.encode(text)).toEqual(tokenizer.encode(text));
  });
});

describe("the ids that end an answer", () => {
  it.each<[string, Parameters<typeof huggingFace>[1], number[]]>([
    ["tokenizer_config's eos_token", { config: { eos_token: "<|end|>" } }, [END]],
    ["an AddedToken object", { config: { eos_token: { content: "<|end|>", special: true } } }, [END]],
    ["generation_config's id", { generationConfig: { eos_token_id: TOOL } }, [TOOL]],
    ["generation_config's list", { generationConfig: { eos_token_id: [END, TOOL] } }, [END, TOOL]],
    ["config.json's id", { modelConfig: { eos_token_id: START } }, [START]],
    ["a nested text_config's", { modelConfig: { text_config: { eos_token_id: START } } }, [START]],
    [
      "all of them once",
      {
        config: { eos_token: "<|end|>" },
        generationConfig: { eos_token_id: [TOOL, END] },
        modelConfig: { eos_token_id: TOOL },
      },
      [END, TOOL],
    ],
    ["none", {}, []],
  ])("are %s", (_, files, expected) => {
    expect(loadTokenizer(huggingFace(byteLevelJson(), files)).eosTokenIds).toEqual(expected);
  });

  it("are refused when they are no ids", () => {
    expect(() => loadTokenizer(huggingFace(byteLevelJson(), { generationConfig: { eos_token_id: "two" } }))).toThrow(
      /generation_config.json eos_token_id must be a token id or a list/,
    );
  });
});

it("tokenizer_config.json names bos and pad, adds tokens, and makes them special", () => {
  const tokenizer = loadTokenizer(
    huggingFace(byteLevelJson(), {
      config: {
        bos_token: "<|start|>",
        pad_token: "<tool>",
        added_tokens_decoder: { [END + 3]: { content: "<extra>", special: true } },
      },
    }),
  );
  expect(tokenizer.bosTokenId).toBe(START);
  expect(tokenizer.padTokenId).toBe(TOOL);
  expect(tokenizer.isSpecial(TOOL)).toBe(true);
  expect(tokenizer.encode("<extra>")).toEqual([END + 3]);
  expect(tokenizer.decode([END + 3])).toBe("");
});

describe("clean_up_tokenization_spaces", () => {
  const json = {
    ...byteLevelJson({ added_tokens: [], pre_tokenizer: { type: "WhitespaceSplit" }, decoder: null }),
    model: {
      type: "WordPiece",
      vocab: { "[UNK]": 0, do: 1, "n't": 2, go: 3, ".": 4 },
      unk_token: "[UNK]",
      continuing_subword_prefix: "##",
      max_input_chars_per_word: 100,
    },
  };
  it("joins punctuation when the config asks for it", () => {
    expect(
      loadTokenizer(huggingFace(json, { config: { clean_up_tokenization_spaces: true } })).decode([1, 2, 3, 4]),
    ).toBe("don't go.");
    expect(loadTokenizer(huggingFace(json)).decode([1, 2, 3, 4])).toBe("do n't go .");
  });
  it("never touches BPE text, as in transformers 5", () => {
    const tokenizer = loadTokenizer(huggingFace(byteLevelJson(), { config: { clean_up_tokenization_spaces: true } }));
    expect(tokenizer.decode(tokenizer.encode("a . b"))).toBe("a . b");
  });
});

describe("is refused by name:", () => {
  it.each<[string, Json, RegExp]>([
    ["no model", { model: null }, /tokenizer.json model must be an object/],
    [
      "an unknown normalizer",
      { normalizer: { type: "Precompiled" } },
      /normalizer is Precompiled; this version of the tokenizer takes Sequence/,
    ],
    ["an unknown pre-tokenizer", { pre_tokenizer: { type: "UnicodeScripts" } }, /pre_tokenizer is UnicodeScripts/],
    ["an unknown decoder", { decoder: { type: "CTC" } }, /decoder is CTC/],
    [
      "an inverted contiguous split",
      { pre_tokenizer: SPLIT({ Regex: "a" }, "Contiguous", true) },
      /Contiguous with invert/,
    ],
    [
      "an unknown model",
      { model: { type: "WordLevel", vocab: {} } },
      /model.type is WordLevel; .* takes BPE, WordPiece, Unigram/,
    ],
    [
      "a vocabulary that is none",
      { model: { merges: [], vocab: 3 } },
      /model.vocab must be an object or a list, found 3/,
    ],
    [
      "Unigram without an unknown token",
      { model: { type: "Unigram", vocab: [] } },
      /model.unk_id must be the id of the unknown token/,
    ],
    [
      "a vocabulary of strings",
      { model: { type: "BPE", merges: [], vocab: { a: "b" } } },
      /model.vocab\["a"\] must be a token id/,
    ],
    ["dropout", { model: { ...(byteLevelJson().model as Json), dropout: 0.1 } }, /dropout is 0.1/],
    [
      "a post-processor with a strange token",
      {
        post_processor: { type: "TemplateProcessing", single: [{ SpecialToken: { id: "<s>", type_id: 0 } }], pair: [] },
      },
      /post_processor must be tokens of the vocabulary, found "<s>"/,
    ],
    [
      "an added token without an id",
      { added_tokens: [{ content: "<x>" }] },
      /added_tokens must be entries with a content and an id/,
    ],
  ])("%s", (_, overrides, message) => {
    expect(() => loadTokenizer(huggingFace(byteLevelJson(overrides)))).toThrow(message);
  });
});
