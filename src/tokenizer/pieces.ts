/**
 * What each token stands for: the decoder of tokenizer.json as a table from id to bytes. Decoding is then joining
 * bytes, for a whole list (`decode`) as for a growing one (`createDetokenizer`), and both agree by construction.
 *
 * Every decoder of a generating model has this shape: a token's bytes depend on the token alone, except at the very
 * start of the text, where a word's leading space is left out.
 */
import { fromByteLevel } from "./byte-level.js";
import { cleanUp } from "./clean-up.js";
import { asObject, asString, type Json, type TokenizerSpec, unsupported } from "./tokenizer-spec.js";

const ENCODER = new TextEncoder();
const BYTE_TOKEN = /^<0x([0-9A-Fa-f]{2})>$/;

export interface Pieces {
  /** Bytes of a token that follows other text. Empty for an id without a token. */
  bytes(id: number): Uint8Array;
  /** Bytes of a token that is the first of the decoded list. */
  firstBytes(id: number): Uint8Array;
  /** How many spaces at the very start of the text are left out. */
  readonly stripSpaces: number;
  isSpecial(id: number): boolean;
  /** Hugging Face's clean_up_tokenization is applied to the text. */
  readonly cleanUp: boolean;
}

interface TokenRule {
  /** Text of a token, or its bytes where they are not text by themselves. `first`: nothing precedes it. */
  text(token: string, first: boolean): string | Uint8Array;
  stripSpaces: number;
}

/** @throws SglangError UNSUPPORTED_MODEL for a decoder that is not a table of pieces. */
export function createPieces(spec: TokenizerSpec): Pieces {
  const rule = tokenRule(spec.json.decoder);
  const added = new Map(spec.added.map((token) => [token.id, token]));
  const byteLevel = isType(spec.json.decoder, "ByteLevel");
  const known = new ByteLists(spec.tokens.length);
  const compute = (id: number, first: boolean): Uint8Array => {
    const token = spec.tokens[id];
    if (token === undefined) return new Uint8Array(0);
    // Added tokens are never written in the byte alphabet.
    const text = byteLevel && added.has(id) ? token : rule.text(token, first);
    return typeof text === "string" ? ENCODER.encode(text) : text;
  };
  return {
    bytes: (id) => {
      const bytes = known.get(id);
      if (bytes !== undefined) return bytes;
      return id in spec.tokens ? known.put(id, compute(id, false)) : compute(id, false);
    },
    firstBytes: (id) => compute(id, true),
    stripSpaces: rule.stripSpaces,
    isSpecial: (id) => added.get(id)?.special === true,
    cleanUp: spec.cleanUp,
  };
}

/** Bytes by id, one array for all: one object each would weigh twenty times the bytes. */
class ByteLists {
  #all = new Uint8Array(1 << 16);
  #size = 0;
  /** Where the bytes of an id begin, -1 = not there yet. */
  readonly #starts: Int32Array;
  readonly #lengths: Int32Array;

  constructor(ids: number) {
    this.#starts = new Int32Array(ids).fill(-1);
    this.#lengths = new Int32Array(ids);
  }

  get(id: number): Uint8Array | undefined {
    const start = this.#starts[id];
    if (start === undefined || start < 0) return undefined;
    return this.#all.subarray(start, start + (this.#lengths[id] as number));
  }

  put(id: number, bytes: Uint8Array): Uint8Array {
    if (this.#size + bytes.length > this.#all.length) {
      const grown = new Uint8Array(2 * (this.#size + bytes.length));
      grown.set(this.#all);
      this.#all = grown;
    }
    this.#all.set(bytes, this.#size);
    this.#starts[id] = this.#size;
    this.#lengths[id] = bytes.length;
    this.#size += bytes.length;
    return bytes;
  }
}

function tokenRule(decoder: unknown): TokenRule {
  const config = asObject(decoder);
  // Without a decoder Hugging Face joins tokens with spaces.
  if (config === undefined) return { text: (token, first) => (first ? token : ` ${token}`), stripSpaces: 0 };
  switch (config.type) {
    case "ByteLevel":
      return { text: fromByteLevel, stripSpaces: 0 };
    case "WordPiece":
      return wordPieceRule(config);
    case "Metaspace":
      return metaspaceRule(config);
    case "Sequence":
      return sequenceRule(config);
    case "Replace":
    case "ByteFallback":
    case "Fuse":
      return sequenceRule({ decoders: [config] });
    default:
      throw unsupported("tokenizer.json decoder", String(config.type), KNOWN);
  }
}

const KNOWN = "ByteLevel, WordPiece, Metaspace, or a Sequence of Replace, ByteFallback, Fuse, Strip";

function wordPieceRule(config: Json): TokenRule {
  const prefix = asString(config.prefix) ?? "##";
  const clean = config.cleanup !== false ? cleanUp : (text: string) => text;
  return {
    text: (token, first) => clean(first ? token : token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`),
    stripSpaces: 0,
  };
}

function metaspaceRule(config: Json): TokenRule {
  const mark = asString(config.replacement) ?? "\u2581";
  const scheme = asString(config.prepend_scheme) ?? (config.add_prefix_space === false ? "never" : "always");
  return {
    text: (token, first) => token.replaceAll(mark, first && scheme !== "never" ? "" : " "),
    stripSpaces: 0,
  };
}

/** SentencePiece-style: Replace and ByteFallback work on tokens; Strip after Fuse works on the start of the text. */
function sequenceRule(config: Json): TokenRule {
  const steps = Array.isArray(config.decoders) ? config.decoders.map((step) => asObject(step) ?? {}) : [];
  if (steps.length === 1 && steps[0]!.type !== "Replace" && steps[0]!.type !== "ByteFallback")
    return tokenRule(steps[0]);
  const replacements: [string, string][] = [];
  let byteFallback = false;
  let fused = false;
  let stripSpaces = 0;
  for (const step of steps) {
    if (step.type === "Replace" && !fused) {
      const from = asString(asObject(step.pattern)?.String);
      if (from === undefined) throw unsupported("tokenizer.json decoder Replace", "a regular expression", "{String}");
      replacements.push([from, asString(step.content) ?? ""]);
    } else if (step.type === "ByteFallback" && !fused) {
      byteFallback = true;
    } else if (step.type === "Fuse") {
      fused = true;
    } else if (step.type === "Strip" && fused && (step.content ?? " ") === " " && !step.stop) {
      stripSpaces += typeof step.start === "number" ? step.start : 0;
    } else {
      throw unsupported(
        "tokenizer.json decoder",
        `Sequence with ${String(step.type)} ${fused ? "after" : "before"} Fuse`,
        KNOWN,
      );
    }
  }
  return {
    stripSpaces,
    text: (token) => {
      const byte = byteFallback ? BYTE_TOKEN.exec(token) : null;
      if (byte !== null) return Uint8Array.of(Number.parseInt(byte[1]!, 16));
      return replacements.reduce((text, [from, to]) => text.replaceAll(from, to), token);
    },
  };
}

function isType(value: unknown, type: string): boolean {
  const config = asObject(value);
  if (config?.type === "Sequence" && Array.isArray(config.decoders) && config.decoders.length === 1) {
    return isType(config.decoders[0], type);
  }
  return config?.type === type;
}
