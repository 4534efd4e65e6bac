/**
 * The tokenizer inside a GGUF file as a {@link TokenizerSpec}: `tokenizer.ggml.*` metadata turned into the
 * tokenizer.json that the model had before conversion. Kinds: "gpt2" (byte-level BPE), "llama" (SentencePiece BPE, in
 * gguf-sentencepiece.ts), "bert" (WordPiece). Defaults where a file is silent are llama.cpp's (src/llama-vocab.cpp).
 */
import type { Metadata } from "../core/model-files.js";
import { endOfGenerationIds } from "./end-of-generation.js";
import { sentencePieceModel } from "./gguf-sentencepiece.js";
import { CONTROL, GgufVocabulary, UNKNOWN, USER_DEFINED } from "./gguf-vocabulary.js";
import { wordPieceModel } from "./gguf-wordpiece.js";
import { fillLibraryGaps } from "./library-gaps.js";
import { preTokenizer } from "./pre-tokenizers.js";
import {
  type AddedToken,
  type Json,
  malformed,
  type NamedTemplate,
  type TokenizerSpec,
  unsupported,
} from "./tokenizer-spec.js";

/** What a kind contributes; the rest of the spec is common. */
export interface GgufModel {
  json: Json;
  mergeRanks?: Uint32Array;
  /** See {@link TokenizerSpec}. */
  merges?: readonly string[];
  /** Token texts, where they are not the file's. */
  tokens?: readonly string[];
  addBos: boolean;
  addEos: boolean;
}

const KINDS: Readonly<Record<string, (vocabulary: GgufVocabulary) => GgufModel>> = {
  gpt2: byteLevelModel,
  llama: sentencePieceModel,
  bert: wordPieceModel,
};

/** @throws SglangError MALFORMED_FILE or UNSUPPORTED_MODEL naming the metadata key. */
export function ggufSpec(metadata: Metadata): TokenizerSpec {
  const kind = metadata["tokenizer.ggml.model"];
  if (typeof kind !== "string") throw malformed("tokenizer.ggml.model", "a string", kind);
  if (!Object.hasOwn(KINDS, kind))
    throw unsupported("tokenizer.ggml.model", JSON.stringify(kind), Object.keys(KINDS).join(", "));
  const vocabulary = new GgufVocabulary(metadata);
  const model = KINDS[kind]!(vocabulary);
  const tokens = model.tokens ?? vocabulary.tokens;
  const added = addedTokens(vocabulary, tokens);
  const bos = vocabulary.id("bos") ?? (kind === "bert" ? vocabulary.id("cls") : null);
  const eos = vocabulary.id("eos");
  return {
    json: fillLibraryGaps({
      ...model.json,
      added_tokens: added,
      post_processor: postProcessor(vocabulary, tokens, kind, model),
    }),
    mergeRanks: model.mergeRanks,
    merges: model.merges,
    tokens,
    added,
    bosTokenId: bos,
    eosTokenIds: endOfGenerationIds(vocabulary),
    padTokenId: vocabulary.id("padding"),
    cleanUp: kind === "bert",
    chatTemplates: chatTemplates(metadata),
    templateVariables: {
      ...(bos === null ? {} : { bos_token: tokens[bos] }),
      ...(eos === null ? {} : { eos_token: tokens[eos] }),
      ...named("pad_token", vocabulary.id("padding"), tokens),
      ...named("unk_token", vocabulary.id("unknown"), tokens),
    },
  };
}

function named(name: string, id: number | null, tokens: readonly string[]): Json {
  return id === null ? {} : { [name]: tokens[id] };
}

/** Byte-level BPE: merges as in the file, words cut by the rule `tokenizer.ggml.pre` names. */
function byteLevelModel(vocabulary: GgufVocabulary): GgufModel {
  const rule = preTokenizer(vocabulary.string("pre") ?? "default");
  return {
    json: {
      normalizer: rule.nfc === true ? { type: "NFC" } : null,
      pre_tokenizer: {
        type: "Sequence",
        pretokenizers: [
          ...rule.patterns.map((pattern) => ({
            type: "Split",
            pattern: { Regex: pattern },
            behavior: "Isolated",
            invert: false,
          })),
          { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false },
        ],
      },
      model: {
        type: "BPE",
        vocab: {},
        merges: [],
        ignore_merges: rule.ignoreMerges === true,
        unk_token: null,
        byte_fallback: false,
        fuse_unk: false,
      },
      decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    },
    merges: vocabulary.merges(),
    addBos: rule.addBos === true,
    addEos: false,
  };
}

/** Control tokens are special; user-defined ones are found in the text as well, but stay visible. */
function addedTokens(vocabulary: GgufVocabulary, tokens: readonly string[]): AddedToken[] {
  const always = vocabulary.namedIds();
  const added: AddedToken[] = [];
  tokens.forEach((content, id) => {
    const type = vocabulary.types[id];
    const special = type === CONTROL || type === UNKNOWN || always.has(id);
    if (special || type === USER_DEFINED) added.push({ id, content, special, normalized: false });
  });
  return added;
}

function postProcessor(
  vocabulary: GgufVocabulary,
  tokens: readonly string[],
  kind: string,
  model: GgufModel,
): Json | null {
  const token = (
    flag: "add_bos_token" | "add_eos_token",
    byDefault: boolean,
    id: number | null,
    key: string,
  ): string | null => {
    const asked = vocabulary.flag(flag);
    if (!(asked ?? byDefault)) return null;
    if (id !== null) return tokens[id]!;
    if (asked === true) throw malformed(`tokenizer.ggml.${key}_token_id`, `present, since ${flag} is true`, undefined);
    return null;
  };
  const bert = kind === "bert";
  const first = bert ? (vocabulary.id("cls") ?? vocabulary.id("bos")) : vocabulary.id("bos");
  const last = bert ? (vocabulary.id("seperator") ?? vocabulary.id("eos")) : vocabulary.id("eos");
  const bos = token("add_bos_token", model.addBos, first, "bos");
  const eos = token("add_eos_token", model.addEos, last, "eos");
  if (bos === null && eos === null) return null;
  const special = (id: string | null): Json[] => (id === null ? [] : [{ SpecialToken: { id, type_id: 0 } }]);
  const side = (id: "A" | "B"): Json[] => [...special(bos), { Sequence: { id, type_id: 0 } }, ...special(eos)];
  return { type: "TemplateProcessing", single: side("A"), pair: [...side("A"), ...side("B")] };
}

/** `tokenizer.chat_template` is the default; others are named in `tokenizer.chat_templates`. */
function chatTemplates(metadata: Metadata): NamedTemplate[] {
  const templates: NamedTemplate[] = [];
  const add = (name: string, key: string): void => {
    const template = metadata[key];
    if (template === undefined) return;
    if (typeof template !== "string") throw malformed(key, "a string", template);
    templates.push({ name, template });
  };
  add("default", "tokenizer.chat_template");
  const names = metadata["tokenizer.chat_templates"];
  for (const name of Array.isArray(names) ? names : []) add(String(name), `tokenizer.chat_template.${String(name)}`);
  return templates;
}
