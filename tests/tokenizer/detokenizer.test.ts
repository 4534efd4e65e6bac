import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { TokenizerSource } from "../../src/core/model-files.js";
import { createDetokenizer, loadTokenizer, type Tokenizer } from "../../src/tokenizer/index.js";
import { bertGguf, byteLevelGguf, byteLevelJson, huggingFace, sentencePieceGguf } from "./fixtures.js";

const metaspace = { type: "Metaspace", replacement: "\u2581", prepend_scheme: "always" };
const UNIGRAM = huggingFace(
  {
    ...byteLevelJson({ added_tokens: [], pre_tokenizer: metaspace, decoder: metaspace }),
    model: {
      type: "Unigram",
      unk_id: 0,
      vocab: [
        ["<unk>", 0],
        ["\u2581", -1],
        ["\u2581do", -2],
        ["n't", -3],
        ["\u2581'", -3],
        ["\u2581s", -3],
        ["\u2581.", -3],
        ["x", -3],
        ["\u2581\u2581", -4],
        ["\u2581n't", -3],
      ],
    },
  },
  { config: { clean_up_tokenization_spaces: true } },
);

const KINDS: [string, TokenizerSource][] = [
  ["byte-level", byteLevelGguf()],
  ["SentencePiece", sentencePieceGguf()],
  ["SentencePiece without the space", sentencePieceGguf({ add_space_prefix: false })],
  ["WordPiece with clean-up", bertGguf()],
  ["Unigram with clean-up", UNIGRAM],
];

/** Cuts `ids` into runs, as steps of an engine would. */
function chunked(ids: readonly number[], sizes: readonly number[]): number[][] {
  const chunks: number[][] = [];
  for (let at = 0, i = 0; at < ids.length; i++) {
    const size = sizes.length === 0 ? 1 : sizes[i % sizes.length]!;
    chunks.push(ids.slice(at, at + size));
    at += size;
  }
  return chunks;
}

function stream(
  tokenizer: Tokenizer,
  chunks: readonly number[][],
  skip: boolean,
  prompt: readonly number[] = [],
): string[] {
  const detokenizer = createDetokenizer(tokenizer, { skipSpecialTokens: skip }, prompt);
  const out = chunks.map((chunk) => detokenizer.push(chunk));
  return [...out, detokenizer.flush()];
}

describe.each(KINDS)("the text of a growing answer, %s", (_, source) => {
  const tokenizer = loadTokenizer(source);
  const ids = fc.array(fc.nat({ max: tokenizer.vocabSize - 1 }), { maxLength: 40 });
  const sizes = fc.array(fc.integer({ min: 1, max: 7 }), { maxLength: 5 });

  it("is decode's, however the ids arrive", () => {
    fc.assert(
      fc.property(ids, sizes, fc.boolean(), (list, cuts, skip) => {
        expect(stream(tokenizer, chunked(list, cuts), skip).join("")).toBe(
          tokenizer.decode(list, { skipSpecialTokens: skip }),
        );
      }),
      { numRuns: 300 },
    );
  });

  it("never ends inside a character", () => {
    fc.assert(
      fc.property(ids, (list) => {
        const parts = stream(tokenizer, chunked(list, []), false);
        for (const part of parts) expect(part).not.toMatch(/^[\udc00-\udfff]|[\ud800-\udbff]$/);
        const whole = tokenizer.decode(list, { skipSpecialTokens: false });
        // A U+FFFD that is pushed early would be one too many.
        expect(parts.join("").split("\ufffd").length).toBe(whole.split("\ufffd").length);
      }),
    );
  });
});

describe("after a prompt", () => {
  it.each(KINDS.slice(0, 3))("the answer is what decoding adds to the prompt, %s", (_, source) => {
    const tokenizer = loadTokenizer(source);
    const ids = fc.array(fc.nat({ max: tokenizer.vocabSize - 1 }), { maxLength: 20 });
    fc.assert(
      fc.property(ids, ids, fc.boolean(), (prompt, answer, skip) => {
        const before = tokenizer.decode(prompt, { skipSpecialTokens: skip });
        const both = tokenizer.decode([...prompt, ...answer], { skipSpecialTokens: skip });
        // Where the prompt ends inside a character, "what it adds" is not defined.
        fc.pre(both.startsWith(before) && !before.endsWith("\ufffd"));
        expect(before + stream(tokenizer, chunked(answer, []), skip, prompt).join("")).toBe(both);
      }),
      { numRuns: 300 },
    );
  });

  const spm = loadTokenizer(sentencePieceGguf());
  const the = spm.tokenToId("\u2581the")!;

  it("a word keeps its space, unless the prompt is nothing but special tokens", () => {
    expect(createDetokenizer(spm, {}, [the]).push([the])).toBe(" the");
    expect(createDetokenizer(spm, {}, [1]).push([the])).toBe("the");
    expect(createDetokenizer(spm).push([the])).toBe("the");
    expect(createDetokenizer(spm, { skipSpecialTokens: false }, [1]).push([the])).toBe(" the");
  });

  it("bytes with which the prompt ended complete the answer's first character", () => {
    const byte = (value: number) => value + 3;
    expect(createDetokenizer(spm, {}, [the, byte(0xe4), byte(0xbd)]).push([byte(0xa0)])).toBe("你");
  });
});

describe("a character that comes in pieces", () => {
  const tokenizer = loadTokenizer(byteLevelGguf());
  const bytes = [...new TextEncoder().encode("😀")];

  it("is held until it is whole", () => {
    const detokenizer = createDetokenizer(tokenizer);
    expect(bytes.map((byte) => detokenizer.push([byte]))).toEqual(["", "", "", "😀"]);
    expect(detokenizer.flush()).toBe("");
  });

  it("becomes U+FFFD when the answer ends before it does", () => {
    const detokenizer = createDetokenizer(tokenizer);
    expect(detokenizer.push(bytes.slice(0, 2))).toBe("");
    expect(detokenizer.flush()).toBe("\ufffd");
    expect(detokenizer.flush()).toBe("");
  });

  it("keeps a byte order mark, which is text here", () => {
    expect(createDetokenizer(tokenizer).push([0xef, 0xbb, 0xbf, 0x61])).toBe("\ufeffa");
  });
});

it("a tokenizer that is not ours is decoded by its bytes", () => {
  const fake = {
    tokenBytes: (id: number) => Uint8Array.of(id),
    isSpecial: (id: number) => id === 0,
  } as unknown as Tokenizer;
  expect(createDetokenizer(fake).push([0, 104, 105])).toBe("hi");
  expect(createDetokenizer(fake, { skipSpecialTokens: false }).push([0])).toBe("\0");
});
