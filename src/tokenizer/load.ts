/** Opens the tokenizer of a model: `loadTokenizer(checkpoint.tokenizer)`. */
import type { TokenizerSource } from "../core/model-files.js";
import { EncoderPool } from "./encoder-pool.js";
import { ggufSpec } from "./gguf-tokenizer.js";
import { huggingFaceSpec } from "./hf-spec.js";
import { HfTokenizer } from "./hf-tokenizer.js";
import type { TokenizerSpec } from "./tokenizer-spec.js";

/** A source is converted once, for its tokenizer and its encoder pool alike. */
const SPECS = new WeakMap<TokenizerSource, TokenizerSpec>();

function specOf(source: TokenizerSource): TokenizerSpec {
  let spec = SPECS.get(source);
  if (spec === undefined) {
    spec = source.kind === "gguf" ? ggufSpec(source.metadata) : huggingFaceSpec(source);
    SPECS.set(source, spec);
  }
  return spec;
}

/**
 * @throws SglangError MALFORMED_FILE or UNSUPPORTED_MODEL naming the file or metadata key, what was expected and what
 *   was found.
 */
export function loadTokenizer(source: TokenizerSource): HfTokenizer {
  return new HfTokenizer(specOf(source));
}

/**
 * A thread that encodes texts too long for the event loop. The vocabulary is put in a form for it here, which
 * takes a few hundredths of a second: create it when the model is loaded. The first long text starts the thread.
 */
export function createEncoderPool(source: TokenizerSource): EncoderPool {
  return new EncoderPool(specOf(source));
}
