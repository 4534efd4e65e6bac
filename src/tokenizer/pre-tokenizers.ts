/**
 * How byte-level BPE vocabularies cut a text into words before merging: the regular expressions that GGUF files name
 * in `tokenizer.ggml.pre`. Each is the one of the upstream tokenizer.json; llama.cpp's table (src/llama-vocab.cpp)
 * says which names mean the same. Written in Oniguruma syntax, as in tokenizer.json: the library translates `\s`,
 * `\p{..}` and `(?i:` to JavaScript with Unicode's meaning.
 */
import { SglangError } from "../core/errors.js";

export interface PreTokenizer {
  /** Applied one after the other; each cuts the pieces the one before left, matches and gaps both stay. */
  readonly patterns: readonly string[];
  /** A word that is a vocabulary entry is taken whole, whatever the merges say. */
  readonly ignoreMerges?: boolean;
  /** Prepend bos when the file does not say. */
  readonly addBos?: boolean;
  /** Upstream normalises the text to NFC first. */
  readonly nfc?: boolean;
}

/** GPT-2's own pattern; also what a ByteLevel pre-tokenizer with `use_regex` means. */
export const GPT2_PATTERN = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const SPACES = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** The family of GPT-4's pattern: contractions, words with one leading non-letter, `digits`, punctuation, spaces. */
function gpt4Pattern(digits: string): string {
  return `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${SPACES}`;
}

/** GPT-4o's pattern: words are cut where lower case turns to upper; `suffix` follows a word, `digits` are numbers. */
function gpt4oPattern(suffix: string, digits: string): string {
  const upper = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
  const lower = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
  const lead = "[^\\r\\n\\p{L}\\p{N}]?";
  return `${lead}${upper}*${lower}+${suffix}|${lead}${upper}+${lower}*${suffix}|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${SPACES}`;
}

const GPT2: PreTokenizer = { patterns: [GPT2_PATTERN] };
/** Digits one by one, then GPT-2's words. */
const STARCODER: PreTokenizer = { patterns: ["\\p{N}", GPT2_PATTERN] };
const LLAMA3_PATTERN = gpt4Pattern("\\p{N}{1,3}");
const LLAMA3: PreTokenizer = { patterns: [LLAMA3_PATTERN], ignoreMerges: true, addBos: true };
const QWEN2: PreTokenizer = { patterns: [gpt4Pattern("\\p{N}")], nfc: true };
const GPT4O: PreTokenizer = { patterns: [gpt4oPattern(`${CONTRACTIONS}?`, "\\p{N}{1,3}")] };

/** Cased letters as DeepSeek's tokenizer.json lists them; hexadecimal, since some are not stable under NFC. */
const DEEPSEEK_LETTERS = (
  "0041-005A 0061-007A 00B5 00C0-00D6 00D8-00F6 00F8-01BA 01BC-01BF 01C4-0293 0295-02AF 0370-0373 0376 0377 " +
  "037B-037D 037F 0386 0388-038A 038C 038E-03A1 03A3-03F5 03F7-0481 048A-052F 0531-0556 10A0-10C5 13A0-13F5 " +
  "13F8-13FD 1C90-1CBA 1CBD-1CBF 1D00-1D2B 1D6B-1D77 1D79-1D9A 1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 " +
  "1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 " +
  "1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 212A-212D 212F-2134 2139 213C-213F 2145-2149 214E " +
  "2183 2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2 2CF3 A640-A66D A680-A69B A722-A76F A771-A787 A78B-A78E AB70-ABBF " +
  "FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F 104B0-104D3 104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF " +
  "1E900-1E943"
)
  .replaceAll(/[0-9A-F]+/g, (hex) => `\\x{${hex}}`)
  .replaceAll(" ", "");
const DEEPSEEK3: PreTokenizer = {
  patterns: [
    "\\p{N}{1,3}",
    "[\\u4E00-\\u9FA5\\u3040-\\u309F\\u30A0-\\u30FF]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  ],
};
const CJK_RUN = "[\\u4E00-\\u9FA5\\u0800-\\u4E00\\uAC00-\\uD7FF]+";

export const PRE_TOKENIZERS: Readonly<Record<string, PreTokenizer>> = {
  default: {
    patterns: ["[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2_PATTERN, "\\p{N}+", "[0-9][0-9][0-9]"],
  },
  "llama-bpe": LLAMA3,
  llama3: LLAMA3,
  "llama-v3": LLAMA3,
  falcon3: LLAMA3,
  "falcon-h1": LLAMA3,
  pixtral: LLAMA3,
  lfm2: LLAMA3,
  dbrx: { patterns: [LLAMA3_PATTERN] },
  "smaug-bpe": { patterns: [LLAMA3_PATTERN] },
  glm4: { patterns: [LLAMA3_PATTERN] },
  "chatglm-bpe": { patterns: [LLAMA3_PATTERN] },
  qwen2: QWEN2,
  "deepseek-r1-qwen": QWEN2,
  megrez: QWEN2,
  qwen35: {
    patterns: [
      `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|${SPACES}`,
    ],
    nfc: true,
  },
  stablelm2: { patterns: [gpt4Pattern("\\p{N}")] },
  hunyuan: { patterns: [gpt4Pattern("\\p{N}")] },
  "solar-open": { patterns: [gpt4Pattern("\\p{N}")] },
  "grok-2": { patterns: [gpt4Pattern("\\p{N}")] },
  "gpt-2": GPT2,
  "phi-2": GPT2,
  gigachat: GPT2,
  mpt: GPT2,
  olmo: GPT2,
  jais: GPT2,
  exaone4: GPT2,
  trillion: GPT2,
  "granite-docling": GPT2,
  "modern-bert": GPT2,
  smollm: STARCODER,
  starcoder: STARCODER,
  refact: STARCODER,
  "command-r": STARCODER,
  codeshell: STARCODER,
  exaone: STARCODER,
  "minerva-7b": STARCODER,
  falcon: { patterns: ["[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2_PATTERN, "[0-9][0-9][0-9]"] },
  tekken: { patterns: [gpt4oPattern("", "\\p{N}")], ignoreMerges: true, addBos: true },
  "gpt-4o": GPT4O,
  llama4: GPT4O,
  kanana2: GPT4O,
  "minimax-m2": GPT4O,
  "deepseek-llm": {
    patterns: [
      "[\\r\\n]",
      `\\s?[${DEEPSEEK_LETTERS}]+`,
      "\\s?[!-/:-~\\uFF01-\\uFF0F\\uFF1A-\\uFF5E\\u2018-\\u201F\\u3000-\\u3002]+",
      "\\s+$",
      CJK_RUN,
      "\\p{N}+",
    ],
  },
  "deepseek-coder": { patterns: ["[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK_RUN, "\\p{N}"] },
  "deepseek-v3": DEEPSEEK3,
  "hunyuan-dense": DEEPSEEK3,
  bailingmoe: {
    patterns: [
      "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
    ],
  },
  "seed-coder": {
    patterns: [
      `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`,
    ],
  },
};

/** @throws SglangError UNSUPPORTED_MODEL for a name that is not in {@link PRE_TOKENIZERS}. */
export function preTokenizer(name: string): PreTokenizer {
  if (Object.hasOwn(PRE_TOKENIZERS, name)) return PRE_TOKENIZERS[name]!;
  const known = Object.keys(PRE_TOKENIZERS).join(", ");
  throw new SglangError(
    "UNSUPPORTED_MODEL",
    `tokenizer.ggml.pre is ${JSON.stringify(name)}, which this version does not know; known are ${known}. ` +
      "Use the model's safetensors folder, whose tokenizer.json spells the rule out.",
    { field: "tokenizer.ggml.pre", expected: known, found: name },
  );
}
