import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadTokenizer, type Tokenizer } from "../../src/tokenizer/index.js";
import { openCheckpoint } from "../../src/weights/checkpoint.js";
import { resolveModel } from "../../src/weights/resolve.js";

/** Made by tokenizer_corpus.py with Hugging Face's Rust tokenizers. */
interface Golden {
  vocabSize: number;
  tokens: number;
  sha256: string;
  counts: number[];
  hashes: string[];
  decodedHashes: string[];
}

const MODELS = ["smollm2-135m", "qwen2.5-coder-0.5b"];
const data = (name: string) => readFileSync(new URL(`data/${name}`, import.meta.url), "utf8");
const corpus = data("corpus.txt")
  .trimEnd()
  .split("\n")
  .map((line) => JSON.parse(line) as string);
const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

/** A GGUF file in the folder SGLANG_TEST_MODELS, else one that was downloaded before; or why there is none. */
async function findModel(name: string): Promise<{ path: string } | { missing: string }> {
  const folder = process.env.SGLANG_TEST_MODELS;
  if (folder !== undefined && existsSync(folder)) {
    const file = readdirSync(folder).find((entry) => entry.startsWith(name) && entry.endsWith(".gguf"));
    if (file !== undefined) return { path: join(folder, file) };
  }
  try {
    return { path: (await resolveModel(name, { offline: true })).path };
  } catch (error) {
    return { missing: error instanceof Error ? error.message : String(error) };
  }
}

const found = await Promise.all(MODELS.map(async (name) => ({ name, at: await findModel(name) })));

describe.each(found)("the tokenizer of $name on 1,000 lines", ({ name, at }) => {
  if ("missing" in at) {
    it.skip(`needs the model: put its GGUF file in the folder SGLANG_TEST_MODELS names (${at.missing})`, () => {});
    return;
  }
  const golden = JSON.parse(data(`tokenizer-${name}.json`)) as Golden;
  let loaded: Promise<Tokenizer> | undefined;
  const open = () => {
    loaded ??= openCheckpoint(at.path).then((checkpoint) => loadTokenizer(checkpoint.tokenizer!));
    return loaded;
  };

  it("gives the ids of the reference implementation, line by line", async () => {
    const tokenizer = await open();
    const ids = corpus.map((line) => tokenizer.encode(line, false));
    const differing = ids.flatMap((line, i) =>
      sha256(line.join(",")).slice(0, 12) === golden.hashes[i]
        ? []
        : [`line ${i}: ${line.length} ids, not ${golden.counts[i]}`],
    );
    expect(differing).toEqual([]);
    expect(sha256(ids.flat().join(","))).toBe(golden.sha256);
    expect(ids.flat()).toHaveLength(golden.tokens);
    expect(tokenizer.vocabSize).toBe(golden.vocabSize);
  });

  it("decodes them to the text of the reference implementation", async () => {
    const tokenizer = await open();
    const differing = corpus.flatMap((line, i) => {
      const text = tokenizer.decode(tokenizer.encode(line, false), { skipSpecialTokens: false });
      return sha256(text).slice(0, 12) === golden.decodedHashes[i] ? [] : [i];
    });
    expect(differing).toEqual([]);
  });

  it("encodes decoded text to the same ids", async () => {
    const tokenizer = await open();
    const differing = corpus.flatMap((line, i) => {
      const ids = tokenizer.encode(line, false);
      const again = tokenizer.encode(tokenizer.decode(ids, { skipSpecialTokens: false }), false);
      return again.join() === ids.join() ? [] : [i];
    });
    expect(differing).toEqual([]);
  });

  it("ends an answer at <|im_end|>, and renders a chat", async () => {
    const tokenizer = await open();
    expect(tokenizer.eosTokenIds[0]).toBe(tokenizer.tokenToId("<|im_end|>"));
    expect(tokenizer.chatTemplate?.render([{ role: "user", content: "hi" }])).toMatch(
      /<\|im_start\|>user\nhi<\|im_end\|>\n<\|im_start\|>assistant\n$/,
    );
  });
});
