/**
 * Hugging Face's clean_up_tokenization: takes back the spaces that a word tokenizer put before punctuation and inside
 * contractions. As in transformers 5 it is never applied to BPE text, whose spaces are the model's own.
 */

const RULES: readonly (readonly [string, string])[] = [
  [" .", "."],
  [" ?", "?"],
  [" !", "!"],
  [" ,", ","],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];

export function cleanUp(text: string): string {
  if (!text.includes(" ")) return text;
  return RULES.reduce((cleaned, [from, to]) => cleaned.replaceAll(from, to), text);
}

/** The characters the rules look at: a tail of these, from its first space on, could still be changed by more text. */
const RULE_CHARS = " .?!,'ntmsver";
/** Rules reach back over at most this many spaces of one run: " ' " takes one and " 's" another. */
const REACH = 2;

/** Cleans a growing text: emits what is certain, holds the tail that the next words could change. */
export class CleanUpStream {
  #held = "";

  push(text: string): string {
    const all = this.#held + text;
    const cut = safeCut(all);
    this.#held = all.slice(cut);
    return cleanUp(all.slice(0, cut));
  }

  flush(): string {
    const rest = cleanUp(this.#held);
    this.#held = "";
    return rest;
  }
}

/** The largest index at which `text` can be cut so that no rule, nor two in a row, reaches across the cut. */
function safeCut(text: string): number {
  let tail = text.length;
  while (tail > 0 && RULE_CHARS.includes(text[tail - 1]!)) tail--;
  const space = text.indexOf(" ", tail);
  if (space === -1) return text.length;
  let spaces = 0;
  while (text[space + spaces] === " ") spaces++;
  return Math.max(space, space + spaces - REACH);
}
