/**
 * What grammars need of a tokenizer's vocabulary, kept on disk: making it takes half a second for 150,000 tokens, reading
 * it a few hundredths. `<folder>/<key>.vocabulary` is
 *
 *   "SGLVOC1\n"  8 bytes | SHA-256 of the rest  32 | a structured clone (node:v8) of `{ key, model, data }`
 *
 * A file is written under another name and renamed. What is damaged, or has another shape than this version makes, is
 * dropped and made again. The least recently used go when there are more than a few.
 */
import { createHash } from "node:crypto";
import { mkdir, readFile, rename, rm, utimes, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { deserialize, serialize } from "node:v8";
import { logger } from "../core/logger.js";
import { Vocabulary, type VocabularyData } from "../grammar/index.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { type KeptFile, listKeptFiles, removeLeftovers, temporaryPath } from "../weights/kept-files.js";

const MAGIC = Buffer.from("SGLVOC1\n", "latin1");
const HEADER = MAGIC.length + 32;
const SUFFIX = ".vocabulary";
/** Files of at most 15 MB each. */
const MAX_FILES = 16;
/** Smaller vocabularies are made faster than they are read. */
const MIN_TOKENS = 8192;

interface Kept {
  key: string;
  model: string;
  data: VocabularyData;
}

export interface VocabularyEntry extends KeptFile {
  /** Model it was made for; null: damaged. */
  model: string | null;
}

/** @param packedFolder the folder of packed weights, which this one lies beside */
export function vocabularyFolder(packedFolder: string): string {
  return join(dirname(packedFolder), "vocabularies");
}

/**
 * A tokenizer's vocabulary for grammars, from the folder when it is there.
 * @param vocabSize ids the model may sample
 * @param model shown by `sglang-ts cache`
 * @param folder null: not kept
 */
export async function cachedVocabulary(
  tokenizer: Tokenizer,
  vocabSize: number,
  { folder, model, minTokens = MIN_TOKENS }: { folder: string | null; model: string; minTokens?: number },
): Promise<Vocabulary> {
  const digest = folder === null || vocabSize < minTokens ? undefined : tokenizer.vocabularyDigest?.();
  if (folder === null || digest === undefined) return makeVocabulary(tokenizer, vocabSize);
  const key = createHash("sha256")
    .update(JSON.stringify([digest, vocabSize, SHAPE]))
    .digest("hex")
    .slice(0, 32);
  const path = join(folder, `${key}${SUFFIX}`);
  const found = await readFile(path).catch(() => null);
  const kept = found && read(found);
  if (kept?.key === key) {
    const now = new Date();
    await utimes(path, now, now).catch(() => undefined); // A read-only folder serves all the same.
    return new Vocabulary(kept.data);
  }
  if (found) logger.warn(`The vocabulary in ${path} is damaged; it is made again.`);
  const vocabulary = makeVocabulary(tokenizer, vocabSize);
  await write(folder, path, { key, model, data: vocabulary.data }).catch((error: Error) => {
    logger.warn(`The vocabulary is not kept in ${folder}: ${error.message}. The next start makes it again.`);
  });
  return vocabulary;
}

export function makeVocabulary(tokenizer: Tokenizer, vocabSize: number): Vocabulary {
  return new Vocabulary({
    vocabSize,
    eosTokenIds: tokenizer.eosTokenIds,
    tokenBytes: (id) => tokenizer.tokenBytes(id),
    isSpecial: (id) => tokenizer.isSpecial(id),
  });
}

/** Every file of the folder, most recently used first. */
export async function listVocabularies(folder: string): Promise<VocabularyEntry[]> {
  return Promise.all(
    (await listKeptFiles(folder, SUFFIX)).map(async (file) => {
      const kept = read(await readFile(file.path).catch(() => Buffer.alloc(0)));
      return { ...file, model: kept?.model ?? null };
    }),
  );
}

/** Removes all but the `keep` most recently used, and what writers that died left behind. */
export async function pruneVocabularies(
  folder: string,
  keep = MAX_FILES,
  isUseless: (entry: VocabularyEntry) => boolean = ({ model }) => model === null,
): Promise<VocabularyEntry[]> {
  const removed: VocabularyEntry[] = [];
  let kept = 0;
  for (const entry of await listVocabularies(folder)) {
    if (kept < keep && !isUseless(entry)) kept++;
    else {
      await rm(entry.path, { force: true });
      removed.push(entry);
    }
  }
  await removeLeftovers(folder);
  return removed;
}

async function write(folder: string, path: string, kept: Kept): Promise<void> {
  await mkdir(folder, { recursive: true });
  await pruneVocabularies(folder, MAX_FILES - 1);
  const body = serialize(kept);
  const temporary = temporaryPath(folder, kept.key);
  try {
    await writeFile(temporary, Buffer.concat([MAGIC, digestOf(body), body]));
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** null: damaged, or of another version. */
function read(file: Buffer): Kept | null {
  const body = file.subarray(HEADER);
  if (file.length < HEADER || !file.subarray(0, MAGIC.length).equals(MAGIC)) return null;
  if (!digestOf(body).equals(file.subarray(MAGIC.length, HEADER))) return null;
  try {
    return deserialize(body) as Kept;
  } catch {
    // Written by a Node whose format this one does not read.
    return null;
  }
}

const digestOf = (body: Uint8Array): Buffer => createHash("sha256").update(body).digest();

/** Names of all fields: data of a version with others has another key. */
const SHAPE = (() => {
  const tiny = new Vocabulary({
    vocabSize: 2,
    eosTokenIds: [0],
    tokenBytes: (id) => Uint8Array.of(id),
    isSpecial: () => false,
  });
  const namesOf = (value: object): unknown =>
    Object.entries(value).map(([name, inner]) =>
      name.toLowerCase().endsWith("trie") ? [name, namesOf(inner as object)] : name,
    );
  return JSON.stringify(namesOf(tiny.data));
})();
