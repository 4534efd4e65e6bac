/**
 * tokenizer.json, rewritten so that @huggingface/tokenizers (a JavaScript port) does what the Rust implementation does.
 *
 * The port takes some steps in JavaScript's own sense: `\d` and `\w` know ASCII only, `\s` differs from Unicode's
 * White_Space, and a few options are not read at all. Each is restated here as a Split by a regular expression, which
 * the port translates with Unicode's meaning. What can't be restated is refused by name; nothing is read half.
 */
import { GPT2_PATTERN } from "./pre-tokenizers.js";
import { asObject, asString, type Json, malformed, unsupported } from "./tokenizer-spec.js";

/** @returns a new object with `json`'s fields; shares the vocabulary with it. */
export function fillLibraryGaps(json: Json): Json {
  const found = asObject(json.model);
  if (found === undefined) throw malformed("tokenizer.json model", "an object", json.model);
  const model = checkModel(found);
  return {
    ...json,
    model,
    normalizer: rewriteNormalizer(json.normalizer),
    pre_tokenizer: wordCut(json, model) ?? rewritePreTokenizer(json.pre_tokenizer),
    post_processor: json.post_processor ?? null,
    decoder: json.decoder ?? null,
    added_tokens: json.added_tokens ?? [],
  };
}

/** @returns the model with its type, which old files leave out. */
function checkModel(model: Json): Json {
  const type = asString(model.type) ?? (Array.isArray(model.merges) ? "BPE" : "none");
  if (type !== "BPE" && type !== "WordPiece" && type !== "Unigram") {
    throw unsupported("tokenizer.json model.type", type, "BPE, WordPiece, Unigram");
  }
  if (type === "Unigram" && model.byte_fallback === true) {
    throw unsupported("tokenizer.json model", "Unigram with byte_fallback", "Unigram without it, BPE, or WordPiece");
  }
  if (type === "Unigram" && !Number.isInteger(model.unk_id)) {
    throw malformed("tokenizer.json model.unk_id", "the id of the unknown token", model.unk_id);
  }
  if (type === "BPE" && typeof model.continuing_subword_prefix === "string" && model.continuing_subword_prefix !== "") {
    throw unsupported("tokenizer.json model", "BPE with continuing_subword_prefix", "BPE without it");
  }
  if (typeof model.dropout === "number" && model.dropout > 0) {
    throw unsupported("tokenizer.json model.dropout", String(model.dropout), "no dropout");
  }
  return { ...model, type };
}

const NORMALIZERS = ["BertNormalizer", "NFC", "NFD", "NFKC", "NFKD", "Strip", "StripAccents", "Lowercase", "Prepend"];

function rewriteNormalizer(value: unknown): Json | null {
  const config = asObject(value);
  if (config === undefined) return null;
  const type = asString(config.type) ?? "";
  if (type === "Sequence") {
    return { ...config, normalizers: list(config.normalizers, "normalizer").map((step) => rewriteNormalizer(step)) };
  }
  // The port hands `content` to String.replaceAll, where "$" has a meaning.
  if (type === "Replace") return { ...config, content: String(config.content ?? "").replaceAll("$", "$$$$") };
  if (NORMALIZERS.includes(type)) return config;
  throw unsupported("tokenizer.json normalizer", type, `Sequence, Replace, ${NORMALIZERS.join(", ")}`);
}

/** SentencePiece's mark for a space. */
const SPACE = "\u2581";
const PUNCTUATION = "[\\p{P}\\x21-\\x2F\\x3A-\\x40\\x5B-\\x60\\x7B-\\x7E]";

function rewritePreTokenizer(value: unknown): Json | null {
  const config = asObject(value);
  if (config === undefined) return null;
  const type = asString(config.type) ?? "";
  switch (type) {
    case "Sequence":
      return sequence(list(config.pretokenizers, "pre_tokenizer").map((step) => rewritePreTokenizer(step)));
    case "ByteLevel":
      // With a prefix space the port's own regex has to do: the space must come before the cut.
      if (config.use_regex === false || config.add_prefix_space === true) return config;
      return sequence([split(GPT2_PATTERN), { ...config, use_regex: false }]);
    case "Digits":
      return split(config.individual_digits === true ? "\\p{N}" : "\\p{N}+");
    case "Punctuation":
      return splitBy(PUNCTUATION, asString(config.behavior) ?? "Isolated", false);
    case "Whitespace":
      return { type: "Split", pattern: { Regex: "\\w+|[^\\w\\s]+" }, behavior: "Removed", invert: true };
    case "WhitespaceSplit":
      return { type: "Split", pattern: { Regex: "\\s+" }, behavior: "Removed", invert: false };
    case "CharDelimiterSplit":
      return splitBy(escapeRegex(String(config.delimiter)), "Removed", false);
    case "Split":
      return rewriteSplit(config);
    case "Metaspace":
      return rewriteMetaspace(config);
    case "BertPreTokenizer":
    case "FixedLength":
      return config;
    default:
      throw unsupported(
        "tokenizer.json pre_tokenizer",
        type,
        "Sequence, ByteLevel, Split, Metaspace, Digits, Punctuation, Whitespace, WhitespaceSplit, CharDelimiterSplit, FixedLength, BertPreTokenizer",
      );
  }
}

/**
 * SentencePiece-style BPE merges over the whole text at once, which is slow and never cached. Where no entry of the
 * vocabulary holds a space after other text, no merge can cross the start of a word, so cutting there changes nothing.
 * Gemma's Split on " " counts as no cut: its normaliser has left no space to split on.
 * @returns null when the texts are cut otherwise, or may not be cut.
 */
function wordCut(json: Json, model: Json): Json | null {
  const pre = asObject(json.pre_tokenizer);
  const uncut = pre === undefined || (pre.type === "Split" && asObject(pre.pattern)?.String === " ");
  if (!uncut || model.type !== "BPE" || model.ignore_merges === true || !marksSpaces(json.normalizer)) return null;
  const crosses = new RegExp(`[^${SPACE}]${SPACE}`);
  for (const token of Object.keys(asObject(model.vocab) ?? {})) if (crosses.test(token)) return null;
  return split(`${SPACE}*[^${SPACE}]+`);
}

function marksSpaces(normalizer: unknown): boolean {
  const config = asObject(normalizer);
  if (config === undefined) return false;
  if (Array.isArray(config.normalizers)) return config.normalizers.some(marksSpaces);
  return config.type === "Replace" && asObject(config.pattern)?.String === " " && config.content === SPACE;
}

function rewriteSplit(config: Json): Json {
  const pattern = asObject(config.pattern);
  const regex = asString(pattern?.Regex);
  const text = asString(pattern?.String);
  if (regex === undefined && text === undefined) {
    throw malformed("tokenizer.json pre_tokenizer.pattern", "{Regex} or {String}", config.pattern);
  }
  return splitBy(regex ?? escapeRegex(text!), asString(config.behavior) ?? "Isolated", config.invert === true);
}

/** `behavior` as in Rust's SplitDelimiterBehavior; with `invert` the pattern names what is kept, not the delimiter. */
function splitBy(pattern: string, behavior: string, invert: boolean): Json {
  const inside = `(?:(?!${pattern})[\\s\\S])*`;
  switch (behavior) {
    case "Isolated":
      return split(pattern);
    case "Removed":
      return { type: "Split", pattern: { Regex: pattern }, behavior: "Removed", invert };
    case "Contiguous":
      if (!invert) return split(`(?:${pattern})+`);
      break;
    case "MergedWithPrevious":
      if (!invert) return split(`${inside}(?:${pattern})`);
      break;
    case "MergedWithNext":
      if (!invert) return split(`(?:${pattern})${inside}`);
      break;
  }
  throw unsupported(
    "tokenizer.json pre_tokenizer Split",
    `${behavior}${invert ? " with invert" : ""}`,
    "Isolated, Removed, and without invert Contiguous, MergedWithPrevious, MergedWithNext",
  );
}

function rewriteMetaspace(config: Json): Json {
  const scheme = asString(config.prepend_scheme) ?? (config.add_prefix_space === false ? "never" : "always");
  const mark = asString(config.replacement) ?? SPACE;
  const metaspace = { ...config, prepend_scheme: scheme };
  if (config.split === false) return metaspace;
  const escaped = escapeRegex(mark);
  return sequence([metaspace, split(`${escaped}(?:(?!${escaped})[\\s\\S])*`)]);
}

function split(pattern: string): Json {
  return { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false };
}

function sequence(pretokenizers: (Json | null)[]): Json {
  return { type: "Sequence", pretokenizers };
}

function list(value: unknown, field: string): unknown[] {
  if (!Array.isArray(value)) throw malformed(`tokenizer.json ${field} Sequence`, "a list of steps", value);
  return value;
}

function escapeRegex(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
