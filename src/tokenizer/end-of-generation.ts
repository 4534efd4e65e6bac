/**
 * Which tokens of a GGUF vocabulary end an answer. The file names one or a few; the turn ends that models are known to
 * emit are added when they are control tokens, as llama.cpp does, because many files leave them out.
 */
import { CONTROL, type GgufVocabulary } from "./gguf-vocabulary.js";

/** llama.cpp's list (src/llama-vocab.cpp), without the fill-in-the-middle tokens. */
const TURN_ENDS: ReadonlySet<string> = new Set([
  "<|eot_id|>",
  "<|im_end|>",
  "<|end|>",
  "<|return|>",
  "<|call|>",
  "<end_of_turn>",
  "<|endoftext|>",
  "<|eom_id|>",
  "<EOT>",
  "_<EOT>",
  "[EOT]",
  "[EOS]",
  "<|end_of_text|>",
  "<end_of_utterance>",
  "<eos>",
  "</s>",
  "<\uff5cend\u2581of\u2581sentence\uff5c>",
]);

/** Ids that end an answer, the file's own first. */
export function endOfGenerationIds(vocabulary: GgufVocabulary): number[] {
  const ids = new Set<number>();
  for (const role of ["eos", "eot", "eom"] as const) {
    const id = vocabulary.id(role);
    if (id !== null) ids.add(id);
  }
  const found = new Map<string, number>();
  vocabulary.tokens.forEach((token, id) => {
    if (TURN_ENDS.has(token) && vocabulary.types[id] === CONTROL) found.set(token, id);
  });
  // In the harmony format <|end|> only separates messages; <|return|> and <|call|> end the answer.
  if (found.has("<|return|>") && found.has("<|call|>")) {
    const end = found.get("<|end|>");
    if (end !== undefined) ids.delete(end);
    found.delete("<|end|>");
  }
  for (const id of found.values()) ids.add(id);
  return [...ids];
}
