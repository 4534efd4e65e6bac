/** Small vocabularies made in code: byte-level BPE, SentencePiece with scores, WordPiece. */
import fc from "fast-check";
import type { Metadata, TokenizerSource } from "../../src/core/model-files.js";
import { toByteLevel } from "../../src/tokenizer/byte-level.js";
import { GPT2_PATTERN } from "../../src/tokenizer/pre-tokenizers.js";
import type { Json } from "../../src/tokenizer/tokenizer-spec.js";

export const SAMPLE = `The quick brown fox doesn't jump over the lazy dog, and the dog doesn't mind. The lighthouse keeper
wrote one line in the log every hour; they'll read 2026 lines in 365 days. def f(x):
    return x + 1  # the the the
春天来了,西湖边的柳树发芽,白堤上游人如织,春天的西湖。 naïve café Привет мир 😀😀 🎉`;

/** Texts that tell tokenizers apart. */
export const TRICKY = [
  "",
  " ",
  "   ",
  "\n\n\n",
  "a",
  "The quick brown fox",
  " leading space",
  "trailing space ",
  "don't DON'T we'll they've",
  "2026 365,25 1e10 ١٢٣ ½ Ⅷ",
  "春天来了,西湖边的柳树",
  "naïve café e\u0301 a\u0308",
  "😀🎉👨‍👩‍👧",
  "tab\tand\r\nline\u0085next\u00a0nbsp\u3000wide\ufeffbom\u2028sep",
  "def f(x):\n    return x + 1",
  "...!!!???,,, (a) [b] {c} <d> $e ^f |g ~h `i",
  "\u0000\u0007\u001b[31m\u007f",
  "Привет, мир! Ελληνικά ΣΊΣΥΦΟΣ",
  "a_b snake_case camelCase HTTPServer İstanbul ß ﬁ",
  "<|end|> and <|start|>user",
];

/** Any text: ASCII, the whole of Unicode but lone surrogates. */
export const anyText = fc
  .array(
    fc.oneof(
      fc.integer({ min: 0, max: 0x7f }),
      fc.integer({ min: 0x80, max: 0xd7ff }),
      fc.integer({ min: 0xe000, max: 0x10ffff }),
    ),
    { maxLength: 20 },
  )
  .map((points) => String.fromCodePoint(...points));

/** Learns `count` merges from a text's words, commonest pair first (ties: first seen). */
function learnMerges(words: readonly string[], count: number): [string, string][] {
  const split = words.map((word) => Array.from(word));
  const merges: [string, string][] = [];
  while (merges.length < count) {
    const counts = new Map<string, number>();
    for (const word of split) {
      for (let i = 0; i + 1 < word.length; i++) {
        const key = `${word[i]}\u0000${word[i + 1]}`;
        counts.set(key, (counts.get(key) ?? 0) + 1);
      }
    }
    let best = "";
    for (const [key, n] of counts) if (n > (counts.get(best) ?? 0)) best = key;
    if (best === "") break;
    const [left, right] = best.split("\u0000") as [string, string];
    merges.push([left, right]);
    for (const word of split) {
      for (let i = 0; i + 1 < word.length; i++)
        if (word[i] === left && word[i + 1] === right) word.splice(i, 2, left + right);
    }
  }
  return merges;
}

const BYTE_WORDS = (SAMPLE.match(new RegExp(GPT2_PATTERN, "gu")) ?? []).map(toByteLevel);
export const BYTE_MERGES = learnMerges(BYTE_WORDS, 300);
const BYTE_ALPHABET = Array.from({ length: 256 }, (_, byte) => byteChar(byte));
/** Ids 0..255 are the bytes, then the merges, then three added tokens. */
export const BYTE_TOKENS = [...new Set([...BYTE_ALPHABET, ...BYTE_MERGES.map(([left, right]) => left + right)])];
export const END = BYTE_TOKENS.length;
export const START = END + 1;
export const TOOL = END + 2;

function byteChar(byte: number): string {
  const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  if (printable) return String.fromCharCode(byte);
  let n = 0;
  for (let b = 0; b < byte; b++) if (!((b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae)) n++;
  return String.fromCharCode(256 + n);
}

/** tokenizer.json of a byte-level BPE; `overrides` replace top-level fields. */
export function byteLevelJson(overrides: Json = {}): Json {
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [
      addedToken(END, "<|end|>", true),
      addedToken(START, "<|start|>", true),
      addedToken(TOOL, "<tool>", false),
    ],
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(BYTE_TOKENS.map((token, id) => [token, id])),
      merges: BYTE_MERGES.map(([left, right]) => `${left} ${right}`),
    },
    ...overrides,
  };
}

export function addedToken(id: number, content: string, special: boolean): Json {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special };
}

export function huggingFace(
  tokenizer: Json,
  overrides: Partial<Extract<TokenizerSource, { kind: "huggingface" }>> = {},
): TokenizerSource {
  return { kind: "huggingface", tokenizer, config: {}, generationConfig: {}, modelConfig: {}, ...overrides };
}

/** GGUF metadata of the same byte-level BPE; null takes a key away. */
export function byteLevelGguf(overrides: Record<string, unknown> = {}): TokenizerSource {
  return gguf({
    model: "gpt2",
    pre: "gpt-2",
    tokens: [...BYTE_TOKENS, "<|end|>", "<|start|>", "<tool>"],
    token_type: Int32Array.from([...BYTE_TOKENS.map(() => 1), 3, 3, 4]),
    merges: BYTE_MERGES.map(([left, right]) => `${left} ${right}`),
    eos_token_id: END,
    ...overrides,
  });
}

/** Keys get the prefix `tokenizer.ggml.`, except those that begin with `tokenizer.`. */
export function gguf(fields: Record<string, unknown>): TokenizerSource {
  const metadata: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fields)) {
    if (value !== null) metadata[key.startsWith("tokenizer.") ? key : `tokenizer.ggml.${key}`] = value;
  }
  return { kind: "gguf", metadata: metadata as Metadata };
}

const SPM_WORDS = SAMPLE.split(/(?=[ \n])/).map((word) => word.replaceAll(" ", "\u2581"));
const SPM_CHARS = [...new Set(Array.from(SPM_WORDS.join("")).filter((char) => char !== "\n"))];
const SPM_PIECES = [
  ...new Set(learnMerges(SPM_WORDS, 200).map(([left, right]) => left + right)),
  "\u2581\u2581",
  "\u2581\u2581\u2581",
  "aaa",
  "aa",
];
/** <unk> <s> </s>, 256 bytes, pieces, characters, and one user-defined token. */
export const SPM_TOKENS = [
  "<unk>",
  "<s>",
  "</s>",
  ...Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`),
  ...new Set([...SPM_PIECES, ...SPM_CHARS]),
  "<mark>",
];
/** Scores fall with the id; every third piece shares its neighbour's score, so ties happen. */
export const SPM_SCORES = SPM_TOKENS.map((_, id) => (id < 259 ? 0 : -Math.floor((id - 259) / 3) * 3));

export function sentencePieceGguf(overrides: Record<string, unknown> = {}): TokenizerSource {
  return gguf({
    model: "llama",
    tokens: SPM_TOKENS,
    scores: Float32Array.from(SPM_SCORES),
    token_type: Int32Array.from(
      SPM_TOKENS.map((token, id) => (id === 0 ? 2 : id < 3 ? 3 : id < 259 ? 6 : token === "<mark>" ? 4 : 1)),
    ),
    bos_token_id: 1,
    eos_token_id: 2,
    unknown_token_id: 0,
    ...overrides,
  });
}

/** As the converter writes WordPiece: word starts get U+2581, "##" goes. */
export const BERT_TOKENS = [
  "[PAD]",
  "[UNK]",
  "[CLS]",
  "[SEP]",
  "\u2581the",
  "\u2581quick",
  "\u2581fox",
  "\u2581jump",
  "ed",
  "s",
  "\u2581,",
  "\u2581.",
  "\u2581'",
  "\u2581cafe",
  "\u2581春",
  "\u2581天",
  "\u2581un",
  "able",
  "\u2581do",
];

export function bertGguf(overrides: Record<string, unknown> = {}): TokenizerSource {
  return gguf({
    model: "bert",
    tokens: BERT_TOKENS,
    token_type: Int32Array.from(BERT_TOKENS.map((token) => (token.startsWith("[") ? 3 : 1))),
    bos_token_id: 2,
    seperator_token_id: 3,
    unknown_token_id: 1,
    padding_token_id: 0,
    ...overrides,
  });
}
