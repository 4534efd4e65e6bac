import { Tokenizer as RustTokenizer } from "tokenizers";
import { describe, expect, it } from "vitest";
import { fromByteLevel, toByteLevel } from "../../src/tokenizer/byte-level.js";
import { loadTokenizer } from "../../src/tokenizer/index.js";
import { PRE_TOKENIZERS } from "../../src/tokenizer/pre-tokenizers.js";
import type { Json } from "../../src/tokenizer/tokenizer-spec.js";
import { byteLevelGguf, byteLevelJson, TRICKY } from "./fixtures.js";

describe("the rule named", () => {
  it.each(Object.keys(PRE_TOKENIZERS))("%s cuts as Oniguruma does in the Rust implementation", async (name) => {
    const rule = PRE_TOKENIZERS[name]!;
    const json = byteLevelJson({
      normalizer: rule.nfc === true ? { type: "NFC" } : null,
      pre_tokenizer: {
        type: "Sequence",
        pretokenizers: [
          ...rule.patterns.map((pattern) => ({
            type: "Split",
            pattern: { Regex: pattern },
            behavior: "Isolated",
            invert: false,
          })),
          { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
        ],
      },
      model: { ...(byteLevelJson().model as Json), ignore_merges: rule.ignoreMerges === true },
    });
    const rust = RustTokenizer.fromString(JSON.stringify(json));
    const ours = loadTokenizer(byteLevelGguf({ pre: name }));
    for (const text of [...TRICKY, TRICKY.join(" "), TRICKY.join("\n")]) {
      expect(ours.encode(text, false), JSON.stringify(text)).toEqual((await rust.encode(text)).getIds());
    }
  });
});

describe("the byte alphabet", () => {
  it("writes every byte as one character and reads it back", () => {
    for (let point = 0; point < 0x800; point++) {
      const text = String.fromCodePoint(point);
      expect(fromByteLevel(toByteLevel(text))).toEqual(new TextEncoder().encode(text));
    }
    expect(toByteLevel(" \n你")).toBe("\u0120\u010aä½ł");
  });

  it("takes an entry outside the alphabet as text", () => {
    expect(fromByteLevel("你")).toEqual(new TextEncoder().encode("你"));
  });
});
