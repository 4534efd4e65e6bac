/**
 * The tokenizer: @huggingface/tokenizers encodes, a table of pieces decodes. One class for every source; what differs
 * is in the {@link TokenizerSpec} it is made from.
 */
import { createHash } from "node:crypto";
import { Tokenizer as LibraryTokenizer } from "@huggingface/tokenizers";
import { SglangError } from "../core/errors.js";
import { type BytePairModel, fillBytePairs } from "./byte-pairs.js";
import { type ChatTemplateSet, createChatTemplate } from "./chat-template.js";
import { cleanUp } from "./clean-up.js";
import { PieceStream } from "./piece-stream.js";
import { createPieces, type Pieces } from "./pieces.js";
import type { ChatTemplate, DecodeOptions, Tokenizer } from "./tokenizer.js";
import { asObject, malformed, type TokenizerSpec } from "./tokenizer-spec.js";

const ENCODER = new TextEncoder();

/** The library, as far as it is used here. */
interface Library {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
  readonly model: BytePairModel & { readonly merges?: readonly [string, string][] };
}

export class HfTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
  readonly padTokenId: number | null;
  readonly chatTemplate: ChatTemplate | null;
  /** What each token decodes to; {@link createDetokenizer} reads it. */
  readonly pieces: Pieces;
  readonly #library: Library;
  readonly #tokens: readonly (string | undefined)[];
  readonly #spec: TokenizerSpec;
  /** Made when first asked for. */
  #ids: ReadonlyMap<string, number> | null = null;
  readonly #added: ReadonlySet<number>;

  /** @throws SglangError MALFORMED_FILE or UNSUPPORTED_MODEL when the library can't read the spec. */
  constructor(spec: TokenizerSpec) {
    checkSpec(spec);
    this.#library = createLibrary(spec);
    this.#spec = spec;
    this.#tokens = spec.tokens;
    this.#added = new Set(spec.added.map((token) => token.id));
    this.pieces = createPieces(spec);
    this.vocabSize = spec.tokens.length;
    this.bosTokenId = spec.bosTokenId;
    this.eosTokenIds = spec.eosTokenIds;
    this.padTokenId = spec.padTokenId;
    const templates: ChatTemplateSet = { templates: spec.chatTemplates, variables: spec.templateVariables };
    this.chatTemplate = spec.chatTemplates.length === 0 ? null : createChatTemplate(templates);
  }

  encode(text: string, addSpecialTokens = true): number[] {
    return this.#library.encode(text, { add_special_tokens: addSpecialTokens }).ids;
  }

  /**
   * As transformers decodes with a fast tokenizer: `spacesBetweenSpecialTokens` is accepted and changes nothing there
   * either. Bytes that are not UTF-8 become U+FFFD as the WHATWG decoder does it (one per broken sequence).
   * Ids above the vocabulary (a model's padded embedding) decode to nothing.
   * @throws SglangError INVALID_REQUEST for a negative or fractional id.
   */
  decode(ids: readonly number[], options: DecodeOptions = {}): string {
    for (const id of ids) this.#checkId(id);
    const stream = new PieceStream(this.pieces, options.skipSpecialTokens ?? true);
    const text = stream.push(ids) + stream.flush();
    return this.pieces.cleanUp ? cleanUp(text) : text;
  }

  tokenBytes(id: number): Uint8Array {
    this.#checkId(id);
    return this.#added.has(id) ? ENCODER.encode(this.#tokens[id] ?? "") : this.pieces.bytes(id);
  }

  isSpecial(id: number): boolean {
    return this.pieces.isSpecial(id);
  }

  idToToken(id: number): string | null {
    return this.#tokens[id] ?? null;
  }

  tokenToId(token: string): number | null {
    this.#ids ??= idsOf(this.#spec);
    return this.#ids.get(token) ?? null;
  }

  vocabularyDigest(): string {
    const { tokens, added, json, eosTokenIds } = this.#spec;
    const hash = createHash("sha256");
    hash.update(JSON.stringify([json.decoder ?? null, added, eosTokenIds, tokens.length]));
    // No token and an empty one are alike: neither has bytes.
    hash.update(tokens.join("\u0000\u0000"));
    return hash.digest("hex");
  }

  #checkId(id: number): void {
    if (!Number.isInteger(id) || id < 0) {
      throw new SglangError("INVALID_REQUEST", `A token id must be an integer of at least 0, got ${String(id)}.`, {
        field: "input_ids",
        found: String(id),
      });
    }
  }
}

function idsOf({ tokens, added }: TokenizerSpec): Map<string, number> {
  const ids = new Map<string, number>();
  for (let id = 0; id < tokens.length; id++) {
    const token = tokens[id];
    if (token !== undefined) ids.set(token, id);
  }
  for (const token of added) ids.set(token.content, token.id);
  return ids;
}

/** Also run, in the same words, by the worker of encoder-pool.ts. */
function createLibrary(spec: TokenizerSpec): Library {
  let library: Library;
  try {
    library = new LibraryTokenizer(spec.json, {}) as unknown as Library;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new SglangError(
      "UNSUPPORTED_MODEL",
      `tokenizer.json can't be read by this version: ${reason}.`,
      { field: "tokenizer.json" },
      { cause: error },
    );
  }
  if (spec.merges !== undefined) fillBytePairs(library.model, spec.tokens, spec.merges, spec.added);
  if (spec.mergeRanks !== undefined) {
    const { merges = [], bpe_ranks: ranks } = library.model;
    for (let i = 0; i < merges.length; i++) ranks.set(JSON.stringify(merges[i]), spec.mergeRanks[i]!);
  }
  return library;
}

/** What the library takes on trust and would answer with an undefined id. */
function checkSpec(spec: TokenizerSpec): void {
  const model = asObject(spec.json.model) ?? {};
  const isKnown = (token: string) => spec.tokens.includes(token);
  if (model.type === "WordPiece" && !isKnown(String(model.unk_token))) {
    throw malformed("tokenizer.json model.unk_token", "a token of the vocabulary", model.unk_token);
  }
  for (const token of templateTokens(spec.json.post_processor)) {
    if (!isKnown(token)) throw malformed("tokenizer.json post_processor", "tokens of the vocabulary", token);
  }
}

function templateTokens(value: unknown): string[] {
  const config = asObject(value);
  if (config === undefined) return [];
  if (Array.isArray(config.processors)) return config.processors.flatMap(templateTokens);
  if (config.type === "BertProcessing" || config.type === "RobertaProcessing") {
    return [config.cls, config.sep].flatMap((pair) => (Array.isArray(pair) ? [String(pair[0])] : []));
  }
  const items = [config.single, config.pair].flatMap((side) => (Array.isArray(side) ? side : []));
  return items.flatMap((item) => {
    const special = asObject(asObject(item)?.SpecialToken);
    return special === undefined ? [] : [String(special.id)];
  });
}
