/** Vocabularies on disk: what is read is what was made; what is damaged, foreign or too much is dropped. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { setLogLevel } from "../../src/core/logger.js";
import { GrammarCompiler, Vocabulary } from "../../src/grammar/index.js";
import { cachedVocabulary, listVocabularies, pruneVocabularies } from "../../src/runtime/vocabulary-cache.js";
import type { Tokenizer } from "../../src/tokenizer/tokenizer.js";
import { byteVocabulary } from "../grammar/vocabularies.js";

let folder: string;
beforeEach(() => {
  setLogLevel("silent");
  folder = join(mkdtempSync(join(tmpdir(), "vocabulary-")), "vocabularies");
});
afterEach(() => {
  setLogLevel("info");
  rmSync(join(folder, ".."), { recursive: true, force: true });
});

/** Counts how often its tokens were read. */
function tokenizer(digest: string | null = "a") {
  const source = byteVocabulary();
  const counts = { reads: 0 };
  const fake = {
    ...source,
    tokenBytes: (id: number) => {
      counts.reads++;
      return source.tokenBytes(id);
    },
    ...(digest !== null && { vocabularyDigest: () => digest }),
  } as unknown as Tokenizer;
  return { fake, counts };
}
const options = { model: "m", minTokens: 0 };
const open = (from: Tokenizer, more: object = {}) =>
  cachedVocabulary(from, from.vocabSize, { ...options, folder, ...more });

describe("a vocabulary on disk", () => {
  it("is read at the next start, the same in every field", async () => {
    const { fake, counts } = tokenizer();
    const made = await open(fake);
    const { reads } = counts;
    const read = await open(fake);
    expect(counts.reads).toBe(reads);
    expect(read.data).toEqual(made.data);
    const masks = [made, read].map((vocabulary) => {
      const matcher = new GrammarCompiler(vocabulary).compile({ kind: "json" }).matcher();
      matcher.acceptText('{"a": "');
      return [...matcher.mask()];
    });
    expect(masks[1]).toEqual(masks[0]);
  });

  it.each([
    ["a bit is wrong", (file: Buffer) => file.writeUInt8(file.readUInt8(file.length - 9) ^ 1, file.length - 9)],
    ["it is cut off", (file: Buffer) => file.subarray(0, 100)],
    ["it is something else", () => Buffer.from("hello")],
  ])("is made again when %s", async (_, damage) => {
    const { fake, counts } = tokenizer();
    const made = await open(fake);
    const path = join(folder, readdirSync(folder)[0]);
    const file = readFileSync(path);
    const changed = damage(file);
    writeFileSync(path, changed instanceof Buffer ? changed : file);
    expect((await listVocabularies(folder))[0].model).toBeNull();
    const { reads } = counts;
    expect((await open(fake)).data).toEqual(made.data);
    expect(counts.reads).toBeGreaterThan(reads);
    expect((await listVocabularies(folder))[0].model).toBe("m");
  });

  it("goes by the tokenizer and the width of masks", async () => {
    await open(tokenizer("a").fake);
    await open(tokenizer("b").fake);
    await cachedVocabulary(tokenizer("a").fake, 100, { ...options, folder });
    expect(await listVocabularies(folder)).toHaveLength(3);
  });

  it("is not kept without a folder, a digest, or enough tokens", async () => {
    await open(tokenizer().fake, { folder: null });
    await open(tokenizer(null).fake, {});
    await open(tokenizer().fake, { minTokens: 1000 });
    expect(await listVocabularies(folder)).toEqual([]);
  });

  it("is made all the same where nothing can be written", async () => {
    const file = join(folder, "..", "file");
    writeFileSync(file, "");
    const made = await open(tokenizer().fake, { folder: join(file, "inside") });
    expect(made.data).toEqual(new Vocabulary(byteVocabulary()).data);
  });

  it("leaves when others are used more recently", async () => {
    for (let i = 0; i < 20; i++) {
      await open(tokenizer(`tokenizer ${i}`).fake);
      for (const { path } of await listVocabularies(folder)) {
        const { lastUsed } = (await listVocabularies(folder)).find((entry) => entry.path === path) ?? { lastUsed: 0 };
        utimesSync(path, new Date(lastUsed - 1000), new Date(lastUsed - 1000));
      }
    }
    expect(await listVocabularies(folder)).toHaveLength(16);
    expect(await pruneVocabularies(folder, 0)).toHaveLength(16);
    expect(readdirSync(folder)).toEqual([]);
  });
});
