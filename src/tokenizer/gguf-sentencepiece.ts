/**
 * GGUF's "llama" vocabulary (SentencePiece BPE: pieces with scores, no merge list) as a BPE model.
 *
 * SentencePiece joins, again and again, the adjacent pair whose joined text is a piece of the highest score, leftmost
 * first. A BPE model does the same when every way to cut a piece in two is a merge ranked by the piece's score; pieces
 * of one score share a rank, so that the position decides. What is no piece in the end falls back to its bytes.
 */
import type { GgufModel } from "./gguf-tokenizer.js";
import { type GgufVocabulary, NORMAL, UNUSED, USER_DEFINED } from "./gguf-vocabulary.js";
import type { Json } from "./tokenizer-spec.js";

const SPACE = "\u2581";

export function sentencePieceModel(vocabulary: GgufVocabulary): GgufModel {
  const { merges, ranks } = mergesByScore(vocabulary);
  const prefix = vocabulary.flag("add_space_prefix") ?? true;
  const unknown = vocabulary.id("unknown");
  const toMark: Json = { type: "Replace", pattern: { String: " " }, content: SPACE };
  return {
    json: {
      normalizer: prefix ? { type: "Sequence", normalizers: [{ type: "Prepend", prepend: SPACE }, toMark] } : toMark,
      pre_tokenizer: null,
      model: {
        type: "BPE",
        vocab: vocabulary.ids(),
        merges,
        unk_token: unknown === null ? null : vocabulary.tokens[unknown],
        byte_fallback: true,
        fuse_unk: true,
        ignore_merges: false,
      },
      decoder: {
        type: "Sequence",
        decoders: [
          { type: "Replace", pattern: { String: SPACE }, content: " " },
          { type: "ByteFallback" },
          { type: "Fuse" },
          ...(prefix ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
        ],
      },
    },
    mergeRanks: ranks,
    addBos: true,
    addEos: false,
  };
}

/** Every cut of every piece into two parts that merging can have made: pieces, or single characters. */
function mergesByScore(vocabulary: GgufVocabulary): { merges: [string, string][]; ranks: Uint32Array } {
  const scores = vocabulary.scores();
  const pieces = new Map<string, number>();
  vocabulary.tokens.forEach((token, id) => {
    const type = vocabulary.types[id];
    if (type === NORMAL || type === USER_DEFINED || type === UNUSED) pieces.set(token, scores[id]!);
  });
  const ordered = [...pieces].sort((a, b) => b[1] - a[1]);
  const merges: [string, string][] = [];
  const rankOf: number[] = [];
  let rank = 0;
  let previous = Number.NaN;
  for (const [piece, score] of ordered) {
    if (score !== previous) rank = merges.length;
    previous = score;
    const chars = Array.from(piece);
    let at = 0;
    for (let cut = 1; cut < chars.length; cut++) {
      at += chars[cut - 1]!.length;
      const left = piece.slice(0, at);
      const right = piece.slice(at);
      if ((cut > 1 && !pieces.has(left)) || (cut < chars.length - 1 && !pieces.has(right))) continue;
      merges.push([left, right]);
      rankOf.push(rank);
    }
  }
  return { merges, ranks: Uint32Array.from(rankOf) };
}
