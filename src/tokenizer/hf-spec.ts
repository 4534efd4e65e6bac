/** Hugging Face files (tokenizer.json and the configs around it) as a {@link TokenizerSpec}. */
import type { TokenizerSource } from "../core/model-files.js";
import { fillLibraryGaps } from "./library-gaps.js";
import {
  type AddedToken,
  asObject,
  asString,
  type Json,
  malformed,
  type NamedTemplate,
  type TokenizerSpec,
  tokenIdList,
} from "./tokenizer-spec.js";

type HuggingFaceSource = Extract<TokenizerSource, { kind: "huggingface" }>;

/** Tokens that tokenizer_config.json names one by one; all of them are special. */
const NAMED_TOKENS = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/** @throws SglangError MALFORMED_FILE or UNSUPPORTED_MODEL naming the file and field. */
export function huggingFaceSpec(source: HuggingFaceSource): TokenizerSpec {
  const json = fillLibraryGaps(source.tokenizer);
  const tokens = vocabularyOf(asObject(json.model) ?? {});
  const added = addedTokens(json, source.config, tokens);
  for (const token of added) tokens[token.id] = token.content;

  const ids = new Map<string, number>();
  tokens.forEach((token, id) => {
    if (token !== undefined) ids.set(token, id);
  });
  for (const token of added) ids.set(token.content, token.id);
  const named = (field: string): number | null => ids.get(contentOf(source.config[field]) ?? "") ?? null;
  const fromConfigs = (field: string): number[] => [
    ...tokenIdList(`generation_config.json ${field}`, source.generationConfig[field]),
    ...tokenIdList(
      `config.json ${field}`,
      source.modelConfig[field] ?? asObject(source.modelConfig.text_config)?.[field],
    ),
  ];
  const eos = [named("eos_token"), ...fromConfigs("eos_token_id")].filter((id): id is number => id !== null);

  return {
    json: { ...json, added_tokens: added },
    tokens,
    added,
    bosTokenId: named("bos_token") ?? fromConfigs("bos_token_id")[0] ?? null,
    eosTokenIds: [...new Set(eos)],
    padTokenId: named("pad_token") ?? fromConfigs("pad_token_id")[0] ?? null,
    cleanUp: wantsCleanUp(source.config, asObject(json.model) ?? {}),
    chatTemplates: chatTemplates(source),
    templateVariables: templateVariables(source.config),
  };
}

/** As transformers 5: off unless asked for, and for BPE only when asked for in the strongest words. */
function wantsCleanUp(config: Json, model: Json): boolean {
  if (config.clean_up_tokenization_spaces !== true) return false;
  return (
    model.type !== "BPE" || config.clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output === true
  );
}

function vocabularyOf(model: Json): (string | undefined)[] {
  if (Array.isArray(model.vocab)) {
    return model.vocab.map((entry) => {
      const token = Array.isArray(entry) ? asString(entry[0]) : undefined;
      if (token === undefined) throw malformed("tokenizer.json model.vocab", "a list of [token, score]", entry);
      return token;
    });
  }
  const vocab = asObject(model.vocab);
  if (vocab === undefined) throw malformed("tokenizer.json model.vocab", "an object or a list", model.vocab);
  const tokens: (string | undefined)[] = [];
  for (const [token, id] of Object.entries(vocab)) {
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0) {
      throw malformed(`tokenizer.json model.vocab[${JSON.stringify(token)}]`, "a token id", id);
    }
    tokens[id] = token;
  }
  return tokens;
}

/** tokenizer.json's added tokens, with what tokenizer_config.json adds: more tokens, and which ones are special. */
function addedTokens(json: Json, config: Json, tokens: readonly (string | undefined)[]): AddedToken[] {
  const added = new Map<string, AddedToken>();
  const put = (value: Json, id: unknown, from: string): void => {
    const content = asString(value.content);
    if (content === undefined || typeof id !== "number" || !Number.isInteger(id) || id < 0) {
      throw malformed(from, "entries with a content and an id", JSON.stringify(value));
    }
    if (value.single_word === true) throw malformed(`${from} ${JSON.stringify(content)}`, "single_word false", true);
    const special = value.special === true || added.get(content)?.special === true;
    added.set(content, { ...value, id, content, special });
  };
  if (!Array.isArray(json.added_tokens)) throw malformed("tokenizer.json added_tokens", "a list", json.added_tokens);
  for (const token of json.added_tokens) put(asObject(token) ?? {}, asObject(token)?.id, "tokenizer.json added_tokens");
  for (const [id, token] of Object.entries(asObject(config.added_tokens_decoder) ?? {})) {
    put(asObject(token) ?? {}, Number(id), "tokenizer_config.json added_tokens_decoder");
  }

  const specials = new Set<string | undefined>([
    ...NAMED_TOKENS.map((field) => contentOf(config[field])),
    ...(Array.isArray(config.additional_special_tokens) ? config.additional_special_tokens.map(contentOf) : []),
    ...(Array.isArray(config.extra_special_tokens) ? config.extra_special_tokens.map(contentOf) : []),
  ]);
  specials.delete(undefined);
  for (const token of added.values()) if (specials.has(token.content)) token.special = true;
  tokens.forEach((token, id) => {
    if (token !== undefined && specials.has(token) && !added.has(token)) {
      added.set(token, { id, content: token, special: true, normalized: false });
    }
  });
  return [...added.values()].sort((a, b) => a.id - b.id);
}

function chatTemplates(source: HuggingFaceSource): NamedTemplate[] {
  if (source.chatTemplate !== undefined) return [{ name: "default", template: source.chatTemplate }];
  const value = source.config.chat_template;
  if (typeof value === "string") return [{ name: "default", template: value }];
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value))
    throw malformed("tokenizer_config.json chat_template", "a string or a list of {name, template}", value);
  return value.map((entry) => {
    const name = asString(asObject(entry)?.name);
    const template = asString(asObject(entry)?.template);
    if (name === undefined || template === undefined) {
      throw malformed("tokenizer_config.json chat_template", "a list of {name, template}", JSON.stringify(entry));
    }
    return { name, template };
  });
}

function templateVariables(config: Json): Record<string, unknown> {
  const variables: Record<string, unknown> = {};
  for (const field of NAMED_TOKENS) {
    const content = contentOf(config[field]);
    if (content !== undefined) variables[field] = content;
  }
  if (Array.isArray(config.additional_special_tokens)) {
    variables.additional_special_tokens = config.additional_special_tokens.map(contentOf);
  }
  return variables;
}

/** A token in tokenizer_config.json is its text, or an AddedToken object. */
function contentOf(value: unknown): string | undefined {
  return asString(value) ?? asString(asObject(value)?.content);
}
