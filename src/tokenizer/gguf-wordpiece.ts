/**
 * GGUF's "bert" vocabulary as WordPiece. The converter wrote a word's first piece with a leading U+2581 and took the
 * "##" off the others; here they are put back.
 */
import type { GgufModel } from "./gguf-tokenizer.js";
import { CONTROL, type GgufVocabulary, NORMAL, UNKNOWN } from "./gguf-vocabulary.js";
import { malformed } from "./tokenizer-spec.js";

const SPACE = "\u2581";
const PREFIX = "##";
const BRACKETED = /^\[[^\]]+\]$/;

export function wordPieceModel(vocabulary: GgufVocabulary): GgufModel {
  const named = vocabulary.namedIds();
  const tokens = vocabulary.tokens.map((token, id) => {
    const type = vocabulary.types[id];
    if (token.startsWith(SPACE)) return token.slice(1);
    if (type === CONTROL || type === UNKNOWN || named.has(id) || BRACKETED.test(token)) return token;
    return PREFIX + token;
  });
  const unknown = vocabulary.id("unknown") ?? tokens.indexOf("[UNK]");
  if (unknown === -1) throw malformed("tokenizer.ggml.unknown_token_id", "the id of the unknown token", undefined);
  const vocab = Object.create(null) as Record<string, number>;
  for (let id = tokens.length - 1; id >= 0; id--) vocab[tokens[id]!] = id;
  // Older files don't say; a vocabulary without capitals was made from lower-cased text.
  const lowercase =
    vocabulary.flag("normalizer.lowercase") ??
    !tokens.some(
      (token, id) => vocabulary.types[id] === NORMAL && !BRACKETED.test(token) && token !== token.toLowerCase(),
    );
  return {
    tokens,
    json: {
      normalizer: {
        type: "BertNormalizer",
        clean_text: true,
        handle_chinese_chars: true,
        strip_accents: vocabulary.flag("normalizer.strip_accents") ?? lowercase,
        lowercase,
      },
      pre_tokenizer: { type: "BertPreTokenizer" },
      model: {
        type: "WordPiece",
        vocab,
        unk_token: tokens[unknown],
        continuing_subword_prefix: PREFIX,
        max_input_chars_per_word: 100,
      },
      decoder: { type: "WordPiece", prefix: PREFIX, cleanup: true },
    },
    addBos: true,
    addEos: true,
  };
}
