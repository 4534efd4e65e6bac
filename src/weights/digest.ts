/**
 * Content digests of downloaded files: plain SHA-256, and the SHA-1 that git gives a blob (what the Hugging Face hub
 * lists for files that are not in LFS).
 */
import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";

export interface Digest {
  readonly algorithm: "sha256" | "git-sha1";
  /** Lower-case hex: 64 characters for sha256, 40 for git-sha1. */
  readonly hex: string;
}

export function sha256(hex: string): Digest {
  return { algorithm: "sha256", hex: hex.toLowerCase() };
}

/** `sha256:1d96…`: how a digest is written into sidecar files and messages. */
export function digestText(digest: Digest): string {
  return `${digest.algorithm}:${digest.hex}`;
}

/**
 * A running hash of a file's bytes.
 * @param size length of the whole file in bytes; git hashes it in front of the content.
 */
export function createDigest(algorithm: Digest["algorithm"], size: number): Hash {
  if (algorithm === "sha256") return createHash("sha256");
  return createHash("sha1").update(`blob ${size}\0`);
}

/**
 * Feeds the first `length` bytes of a file to a hash without blocking the event loop.
 * @throws the signal's reason when aborted.
 */
export async function hashInto(
  hash: Hash,
  file: string,
  length: number,
  options: { signal?: AbortSignal; onBytes?: (done: number) => void } = {},
): Promise<void> {
  if (length === 0) return;
  let done = 0;
  // 1 MiB pieces: large enough to keep the disk busy, small enough (about 1 ms of hashing) for the event loop.
  const stream = createReadStream(file, { end: length - 1, highWaterMark: 1 << 20, signal: options.signal });
  for await (const chunk of stream) {
    hash.update(chunk as Buffer);
    done += (chunk as Buffer).length;
    options.onBytes?.(done);
  }
}

/** Digest of a whole file of `size` bytes. */
export async function hashFile(
  file: string,
  size: number,
  algorithm: Digest["algorithm"],
  options: { signal?: AbortSignal; onBytes?: (done: number) => void } = {},
): Promise<Digest> {
  const hash = createDigest(algorithm, size);
  await hashInto(hash, file, size, options);
  return { algorithm, hex: hash.digest("hex") };
}
