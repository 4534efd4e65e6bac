import fc from "fast-check";
import { Tokenizer as RustTokenizer } from "tokenizers";
import { describe, expect, it } from "vitest";
import { loadTokenizer } from "../../src/tokenizer/index.js";
import {
  anyText,
  BERT_TOKENS,
  BYTE_TOKENS,
  bertGguf,
  byteLevelGguf,
  byteLevelJson,
  END,
  gguf,
  huggingFace,
  SPM_SCORES,
  SPM_TOKENS,
  START,
  sentencePieceGguf,
  TOOL,
  TRICKY,
} from "./fixtures.js";

describe("a byte-level vocabulary", () => {
  it("tokenizes as the tokenizer.json it came from", () => {
    const fromGguf = loadTokenizer(byteLevelGguf());
    const fromJson = loadTokenizer(huggingFace(byteLevelJson()));
    for (const text of TRICKY) expect(fromGguf.encode(text)).toEqual(fromJson.encode(text));
    for (let id = 0; id < fromGguf.vocabSize; id++) expect(fromGguf.tokenBytes(id)).toEqual(fromJson.tokenBytes(id));
  });

  it("keeps the bytes of all tokens in one array", () => {
    const tokenizer = loadTokenizer(byteLevelGguf());
    const ids = Array.from({ length: tokenizer.vocabSize }, (_, id) => id).filter((id) => !tokenizer.isSpecial(id));
    const first = ids.map((id) => [...tokenizer.tokenBytes(id)]);
    const again = ids.map((id) => tokenizer.tokenBytes(id));
    expect(again.map((bytes) => [...bytes])).toEqual(first);
    const buffers = new Set(again.filter((_, i) => ids[i] !== TOOL).map(({ buffer }) => buffer));
    expect(buffers.size).toBe(1);
  });

  it("finds control and user-defined tokens in the text; only control tokens are special", () => {
    const tokenizer = loadTokenizer(byteLevelGguf());
    expect(tokenizer.encode("<|start|><tool><|end|>")).toEqual([START, TOOL, END]);
    expect(tokenizer.decode([START, TOOL, END])).toBe("<tool>");
  });

  it.each<[string, Record<string, unknown>, number[]]>([
    ["gpt-2 adds nothing", {}, [65]],
    ["add_bos_token adds bos", { bos_token_id: START, add_bos_token: true }, [START, 65]],
    ["add_eos_token adds eos", { add_eos_token: true }, [65, END]],
    ["llama-bpe adds bos unasked", { pre: "llama-bpe", bos_token_id: START }, [START, 65]],
    ["llama-bpe without bos adds none", { pre: "llama-bpe" }, [65]],
    ["add_bos_token false wins", { pre: "llama-bpe", bos_token_id: START, add_bos_token: false }, [65]],
  ])("%s", (_, overrides, expected) => {
    const tokenizer = loadTokenizer(byteLevelGguf(overrides));
    expect(tokenizer.encode("A")).toEqual(expected);
    expect(tokenizer.encode("A", false)).toEqual([65]);
  });

  it("merges of which the left part begins with a space are cut at the right space", () => {
    const tokenizer = loadTokenizer(gguf({ model: "gpt2", pre: "gpt-2", tokens: [" ", "a", " a"], merges: ["  a"] }));
    expect(tokenizer.vocabSize).toBe(3);
  });

  it("keeps tokens called __proto__ and constructor", () => {
    const tokens = [...BYTE_TOKENS, "__proto__", "constructor", "_p"];
    const tokenizer = loadTokenizer(gguf({ model: "gpt2", pre: "gpt-2", tokens, merges: [] }));
    expect(tokenizer.tokenToId("__proto__")).toBe(BYTE_TOKENS.length);
    expect(tokenizer.tokenToId("constructor")).toBe(BYTE_TOKENS.length + 1);
    expect(tokenizer.encode("constructor")).toEqual([..."constructor"].map((char) => char.charCodeAt(0)));
  });

  it("llama-bpe takes a whole word before merging", () => {
    const tokens = [...BYTE_TOKENS, "zqx"];
    const source = (pre: string) => gguf({ model: "gpt2", pre, tokens, merges: [] });
    expect(loadTokenizer(source("llama-bpe")).encode("zqx")).toEqual([BYTE_TOKENS.length]);
    expect(loadTokenizer(source("gpt-2")).encode("zqx")).toEqual([..."zqx"].map((char) => char.charCodeAt(0)));
  });
});

describe("the ids that end an answer", () => {
  const special = (token: string, type: number) => ({
    tokens: [...BYTE_TOKENS, "<|end|>", "<|start|>", "<tool>", token],
    token_type: [...BYTE_TOKENS.map(() => 1), 1, 3, 4, type],
  });
  it.each<[string, Record<string, unknown>, number[]]>([
    ["eos", { eos_token_id: TOOL, ...special("x", 1) }, [TOOL]],
    ["eos, eot and eom", { eos_token_id: 1, eot_token_id: 2, eom_token_id: 3, ...special("x", 1) }, [1, 2, 3]],
    ["a known turn end that is a control token", { eos_token_id: TOOL, ...special("<|im_end|>", 3) }, [TOOL, TOOL + 1]],
    ["not its text in the ordinary vocabulary", { eos_token_id: TOOL, ...special("<|im_end|>", 1) }, [TOOL]],
    ["none when the file names none", { eos_token_id: null, ...special("x", 1) }, []],
  ])("are %s", (_, overrides, expected) => {
    expect(loadTokenizer(byteLevelGguf(overrides)).eosTokenIds).toEqual(expected);
  });

  it("leave out <|end|> where <|return|> and <|call|> end the answer", () => {
    const tokens = [...BYTE_TOKENS, "<|end|>", "<|return|>", "<|call|>"];
    const source = gguf({
      model: "gpt2",
      pre: "gpt-4o",
      tokens,
      token_type: [...BYTE_TOKENS.map(() => 1), 3, 3, 3],
      merges: [],
      eos_token_id: END + 1,
    });
    expect(loadTokenizer(source).eosTokenIds).toEqual([END + 1, END + 2]);
  });
});

/** SentencePiece's algorithm as its definition reads: join the best adjacent pair until there is none. */
function sentencePiece(text: string): number[] {
  const ids = new Map(SPM_TOKENS.map((token, id) => [token, id]));
  const symbols = Array.from(`\u2581${text.replaceAll(" ", "\u2581")}`);
  for (;;) {
    let best = -1;
    for (let i = 0; i + 1 < symbols.length; i++) {
      const id = ids.get(symbols[i]! + symbols[i + 1]!);
      if (id === undefined || id < 259) continue;
      if (best === -1 || SPM_SCORES[id]! > SPM_SCORES[ids.get(symbols[best]! + symbols[best + 1]!)!]!) best = i;
    }
    if (best === -1) break;
    symbols.splice(best, 2, symbols[best]! + symbols[best + 1]!);
  }
  return symbols.flatMap((symbol) => ids.get(symbol) ?? [...new TextEncoder().encode(symbol)].map((byte) => byte + 3));
}

describe("a SentencePiece vocabulary", () => {
  const tokenizer = loadTokenizer(sentencePieceGguf());

  it("merges by score, leftmost first, with bytes for what it does not know", () => {
    for (const text of TRICKY.filter((text) => text !== ""))
      expect(tokenizer.encode(text, false), text).toEqual(sentencePiece(text));
    const words = fc.array(fc.constantFrom("the ", " the", "aaaaa", "  ", "dog ", "春天", "é", "a", "he", "\n", "😀"), {
      minLength: 1,
      maxLength: 12,
    });
    fc.assert(
      fc.property(words, (parts) => {
        expect(tokenizer.encode(parts.join(""), false)).toEqual(sentencePiece(parts.join("")));
      }),
      { numRuns: 300 },
    );
  });

  it("adds bos, and a space before the first word that decoding takes away again", () => {
    const ids = tokenizer.encode("the dog");
    expect(ids[0]).toBe(1);
    expect(tokenizer.idToToken(ids[1]!)).toMatch(/^\u2581/);
    expect(tokenizer.decode(ids)).toBe("the dog");
  });

  it("encodes and decodes to the same text", () => {
    fc.assert(
      fc.property(
        anyText,
        (text) => tokenizer.decode(tokenizer.encode(text, false), { skipSpecialTokens: false }) === text,
      ),
    );
  });

  it("adds no space where the file says so", () => {
    const bare = loadTokenizer(sentencePieceGguf({ add_space_prefix: false, add_bos_token: false }));
    expect(bare.idToToken(bare.encode("the dog")[0]!)).not.toMatch(/^\u2581/);
    expect(bare.decode(bare.encode(" the dog"))).toBe(" the dog");
  });

  it("knows the bytes of byte tokens and of spaces", () => {
    expect([...tokenizer.tokenBytes(3 + 0xe4)]).toEqual([0xe4]);
    expect(new TextDecoder().decode(tokenizer.tokenBytes(SPM_TOKENS.indexOf("\u2581the")))).toBe(" the");
    expect(new TextDecoder().decode(tokenizer.tokenBytes(1))).toBe("<s>");
  });

  it("decodes as the Rust implementation where bytes are whole characters", async () => {
    const vocab = Object.fromEntries(SPM_TOKENS.map((token, id) => [token, id]));
    const rust = RustTokenizer.fromString(
      JSON.stringify({
        ...byteLevelJson({ added_tokens: [], pre_tokenizer: null }),
        model: { type: "BPE", vocab, merges: [], unk_token: "<unk>", fuse_unk: true, byte_fallback: true },
        decoder: {
          type: "Sequence",
          decoders: [
            { type: "Replace", pattern: { String: "\u2581" }, content: " " },
            { type: "ByteFallback" },
            { type: "Fuse" },
            { type: "Strip", content: " ", start: 1, stop: 0 },
          ],
        },
      }),
    );
    for (const text of TRICKY.filter((text) => text !== "")) {
      const ids = tokenizer.encode(text, false);
      expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(await rust.decode(ids, false));
    }
  });
});

describe("a WordPiece vocabulary", () => {
  const tokenizer = loadTokenizer(bertGguf());
  const names = (text: string) => tokenizer.encode(text).map((id) => tokenizer.idToToken(id));

  it("puts back the ## of inner pieces and wraps a text in [CLS] and [SEP]", () => {
    expect(names("The quick fox jumped, jumps.")).toEqual([
      "[CLS]",
      "the",
      "quick",
      "fox",
      "jump",
      "##ed",
      ",",
      "jump",
      "##s",
      ".",
      "[SEP]",
    ]);
    expect(names("unable Café 春天 xyz")).toEqual(["[CLS]", "un", "##able", "cafe", "春", "天", "[UNK]", "[SEP]"]);
  });

  it("joins pieces and punctuation when decoding", () => {
    expect(tokenizer.decode(tokenizer.encode("the fox jumped, jumps."))).toBe("the fox jumped, jumps.");
  });

  it("keeps capitals when the vocabulary has them", () => {
    const cased = loadTokenizer(
      bertGguf({
        tokens: [...BERT_TOKENS, "\u2581The"],
        token_type: [...BERT_TOKENS, "The"].map((token) => (token.startsWith("[") ? 3 : 1)),
      }),
    );
    expect(cased.idToToken(cased.encode("The")[1]!)).toBe("The");
  });
});

describe("chat templates", () => {
  it("come from the metadata, tool_use among them", () => {
    const tokenizer = loadTokenizer(
      byteLevelGguf({
        "tokenizer.chat_template": "plain {{ eos_token }}",
        "tokenizer.chat_templates": ["tool_use"],
        "tokenizer.chat_template.tool_use": "tools {{ tools | length }}",
      }),
    );
    expect(tokenizer.chatTemplate?.source).toBe("plain {{ eos_token }}");
    expect(tokenizer.chatTemplate?.render([])).toBe("plain <|end|>");
    expect(tokenizer.chatTemplate?.render([], { tools: [{ type: "function", function: { name: "f" } }] })).toBe(
      "tools 1",
    );
  });

  it("are null when there is none", () => {
    expect(loadTokenizer(byteLevelGguf()).chatTemplate).toBeNull();
  });
});

describe("is refused by name:", () => {
  it.each<[string, Record<string, unknown>, RegExp]>([
    ["no tokenizer", { model: null }, /tokenizer.ggml.model must be a string/],
    [
      "an unknown model",
      { model: "rwkv" },
      /tokenizer.ggml.model is "rwkv"; this version of the tokenizer takes gpt2, llama, bert/,
    ],
    ["an unknown pre-tokenizer", { pre: "mystery" }, /tokenizer.ggml.pre is "mystery".*known are default, llama-bpe/],
    ["no tokens", { tokens: null }, /tokenizer.ggml.tokens must be a list of strings/],
    ["no merges", { merges: null }, /tokenizer.ggml.merges must be a list of strings/],
    ["a merge of one token", { merges: ["ab"] }, /tokenizer.ggml.merges\[0\] must be two tokens/],
    ["types for fewer tokens", { token_type: [1, 1] }, /tokenizer.ggml.token_type must be a list of \d+ numbers/],
    ["an eos outside the vocabulary", { eos_token_id: 99999 }, /tokenizer.ggml.eos_token_id must be an id below/],
    ["bos wanted but not named", { add_bos_token: true }, /tokenizer.ggml.bos_token_id must be present/],
    ["scores missing", { model: "llama" }, /tokenizer.ggml.scores must be a list of numbers/],
  ])("%s", (_, overrides, message) => {
    expect(() => loadTokenizer(byteLevelGguf(overrides))).toThrow(message);
  });

  it("a missing pre-tokenizer name falls back to llama.cpp's default rule", () => {
    expect(loadTokenizer(byteLevelGguf({ pre: null })).encode("A")).toEqual([65]);
  });
});
