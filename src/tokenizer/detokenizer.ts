/**
 * Text of an answer while it grows. SGLang decodes a window of tokens twice per step and subtracts; a table of pieces
 * makes that needless: bytes are appended and characters come out when they are complete. Constant work per token.
 *
 * The sequence that is decoded is prompt + answer: a word's leading space is left out only where that sequence begins,
 * and bytes with which the prompt ended complete the answer's first character.
 */
import { CleanUpStream } from "./clean-up.js";
import { PieceStream } from "./piece-stream.js";
import type { Pieces } from "./pieces.js";
import type { DecodeOptions, Detokenizer, Tokenizer } from "./tokenizer.js";

/**
 * @param options as for `decode`.
 * @param promptTail the prompt's ids, or its last few. It must not be cut so short that it decodes to nothing while the
 *   whole prompt does not: 8 ids after the last special token are plenty. Absent = the answer begins the sequence.
 */
export function createDetokenizer(
  tokenizer: Tokenizer,
  options: DecodeOptions = {},
  promptTail: readonly number[] = [],
): Detokenizer {
  const pieces = piecesOf(tokenizer);
  const stream = new PieceStream(pieces, options.skipSpecialTokens ?? true);
  stream.push(promptTail);
  if (!pieces.cleanUp) return { push: (ids) => stream.push(ids), flush: () => stream.flush() };
  const cleaner = new CleanUpStream();
  return {
    push: (ids) => cleaner.push(stream.push(ids)),
    flush: () => cleaner.push(stream.flush()) + cleaner.flush(),
  };
}

/** A tokenizer that is not ours (a test's fake) has no table: every token is its bytes, nothing is left out. */
function piecesOf(tokenizer: Tokenizer): Pieces {
  if ("pieces" in tokenizer) return tokenizer.pieces as Pieces;
  const bytes = (id: number): Uint8Array => tokenizer.tokenBytes(id);
  return { bytes, firstBytes: bytes, stripSpaces: 0, isSpecial: (id) => tokenizer.isSpecial(id), cleanUp: false };
}
