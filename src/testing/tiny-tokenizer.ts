/**
 * A small but real byte-level BPE tokenizer: all 256 bytes, merges that build a few dozen common words, three special
 * tokens, Qwen2's splitting of text into words, and a ChatML template. Any text round-trips.
 */

/** Words that become one token; each is built by merges from left to right. A leading space belongs to the word. */
const WORDS =
  " the, of, and, to, in, a, is, that, it, for, was, on, are, as, with, his, they, at, be, this, have, from, or, one, had, by, word, but, not, what, all, were, we, when, your, can, said, there, use, an, each, which, she, do, how, their, if, will, up, about, out, many, then, them, he, like, so, some, her, would, make, you, user, assistant, system, Hello, world, ing,er,ed,es,th,ion".split(
    ",",
  );

export const SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] as const;

/** Splits text before merging, as Qwen2 does. */
const SPLIT =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

export const CHAT_TEMPLATE =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

export interface TinyTokenizer {
  /** Tokens by id: bytes, merged words, special tokens. */
  readonly tokens: readonly string[];
  readonly merges: readonly (readonly [string, string])[];
  /** Ids of {@link SPECIAL_TOKENS}, the last ones. */
  readonly specialIds: { readonly endOfText: number; readonly imStart: number; readonly imEnd: number };
}

export function tinyTokenizer(): TinyTokenizer {
  const tokens = byteAlphabet();
  const known = new Set(tokens);
  const merges: [string, string][] = [];
  for (const word of WORDS) {
    const letters = [...word.replace(" ", "\u0120")];
    letters.slice(1).reduce((left, right) => {
      const merged = left + right;
      if (!known.has(merged)) {
        merges.push([left, right]);
        tokens.push(merged);
        known.add(merged);
      }
      return merged;
    }, letters[0]);
  }
  const first = tokens.length;
  tokens.push(...SPECIAL_TOKENS);
  return { tokens, merges, specialIds: { endOfText: first, imStart: first + 1, imEnd: first + 2 } };
}

/** tokenizer.json of {@link tinyTokenizer}. */
export function tokenizerJson({ tokens, merges }: TinyTokenizer): Record<string, unknown> {
  const special = tokens.length - SPECIAL_TOKENS.length;
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: SPECIAL_TOKENS.map((content, i) => ({
      id: special + i,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "Split", pattern: { Regex: SPLIT }, behavior: "Isolated", invert: false },
        { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false },
      ],
    },
    post_processor: { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false },
    decoder: { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.slice(0, special).map((token, id) => [token, id])),
      merges: merges.map((pair) => pair.join(" ")),
    },
  };
}

/** tokenizer_config.json of {@link tinyTokenizer}. */
export function tokenizerConfig(contextLength: number): Record<string, unknown> {
  const [endOfText, , imEnd] = SPECIAL_TOKENS;
  return {
    tokenizer_class: "PreTrainedTokenizerFast",
    add_prefix_space: false,
    bos_token: null,
    eos_token: imEnd,
    pad_token: endOfText,
    unk_token: null,
    additional_special_tokens: SPECIAL_TOKENS.slice(1),
    clean_up_tokenization_spaces: false,
    model_max_length: contextLength,
    chat_template: CHAT_TEMPLATE,
  };
}

/** GPT-2's alphabet in GPT-2's order: printable bytes as themselves first, then the others as U+0100 and up. */
function byteAlphabet(): string[] {
  const printable = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xff && byte !== 0xad);
  const bytes = Array.from({ length: 256 }, (_, byte) => byte);
  const rest = bytes.filter((byte) => !printable(byte));
  return [...bytes.filter(printable), ...rest.map((_, i) => 256 + i)].map((code) => String.fromCharCode(code));
}
