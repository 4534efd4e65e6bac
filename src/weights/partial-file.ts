/**
 * A file that is still arriving. Invariant: `<destination>.partial` is a prefix of the file that its sidecar
 * `<destination>.partial.json` names by digest (or, where no digest is known, by URL and ETag). So a transfer may be
 * cut anywhere and go on from any source that delivers the same bytes, and the destination appears whole or not at all.
 */
import type { Hash } from "node:crypto";
import { type FileHandle, mkdir, open, readFile, rename, rm, stat, statfs, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { SglangError } from "../core/errors.js";
import { createDigest, type Digest, digestText, hashInto } from "./digest.js";
import { formatBytes } from "./transfer.js";

/** What the bytes of a partial file are a prefix of. */
export interface PartialIdentity {
  digest?: Digest;
  /** Length of the whole file, bytes, where known. */
  size?: number;
  url?: string;
}

interface Sidecar {
  digest: string | null;
  url: string | null;
  etag: string | null;
}

/** An ETag that promises equal bytes; weak ones (W/"…") do not. */
function strong(etag: string | null): etag is string {
  return etag?.startsWith('"') === true;
}

export class PartialFile {
  readonly destination: string;
  readonly path: string;
  readonly #identity: PartialIdentity;
  readonly #file: FileHandle;
  #hash: Hash | null;
  #length: number;
  #sidecar: Sidecar;

  private constructor(
    destination: string,
    identity: PartialIdentity,
    file: FileHandle,
    length: number,
    sidecar: Sidecar,
  ) {
    this.destination = destination;
    this.path = `${destination}.partial`;
    this.#identity = identity;
    this.#file = file;
    this.#length = length;
    this.#sidecar = sidecar;
    this.#hash = length === 0 ? this.#freshHash() : null;
  }

  /** Opens what an earlier run left when it belongs to the same bytes; starts empty otherwise. */
  static async open(destination: string, identity: PartialIdentity): Promise<PartialFile> {
    await mkdir(dirname(destination), { recursive: true });
    const path = `${destination}.partial`;
    const wanted: Sidecar = {
      digest: identity.digest ? digestText(identity.digest) : null,
      url: identity.url ?? null,
      etag: null,
    };
    const kept = await readSidecar(`${path}.json`);
    const sameDigest = wanted.digest !== null && kept?.digest === wanted.digest;
    const sameUrl = kept !== null && kept.url !== null && kept.url === wanted.url && strong(kept.etag);
    const resumes = sameDigest || (wanted.digest === null && kept?.digest === null && sameUrl);
    const file = await open(path, resumes ? "a" : "w");
    let length = resumes ? (await file.stat()).size : 0;
    if (identity.size !== undefined && length > identity.size) {
      await file.truncate(0);
      length = 0;
    }
    const sidecar = resumes && sameUrl && kept !== null ? kept : wanted;
    const partial = new PartialFile(destination, identity, file, length, sidecar);
    await partial.#writeSidecar();
    return partial;
  }

  /** Bytes that are there. */
  get length(): number {
    return this.#length;
  }

  /** Strong ETag that the URL gave for these bytes, for If-Range; null when none. */
  get etag(): string | null {
    return strong(this.#sidecar.etag) ? this.#sidecar.etag : null;
  }

  async remember(etag: string | null): Promise<void> {
    if (this.#sidecar.etag === etag) return;
    this.#sidecar = { ...this.#sidecar, etag };
    await this.#writeSidecar();
  }

  async append(chunk: Uint8Array): Promise<void> {
    await this.#file.appendFile(chunk);
    this.#length += chunk.byteLength;
    this.#hash?.update(chunk);
  }

  /** Drops everything behind `length` bytes. */
  async truncate(length: number): Promise<void> {
    if (length >= this.#length) return;
    await this.#file.truncate(length);
    this.#length = length;
    this.#hash = length === 0 ? this.#freshHash() : null;
  }

  /**
   * Checks size and digest, then moves the file to its destination in one step.
   * @param onBytes called while bytes of an earlier run are hashed again
   * @throws SglangError CHECKSUM_MISMATCH; the partial file is removed, since no prefix of it can be trusted.
   */
  async finish(options: { signal?: AbortSignal; onBytes?: (done: number) => void } = {}): Promise<void> {
    try {
      await this.#check(options);
      // Data before name: after a power cut the destination is whole or absent.
      await this.#file.sync();
    } catch (error) {
      await this.keep();
      throw error;
    }
    await this.#file.close();
    await rename(this.path, this.destination);
    await rm(`${this.path}.json`, { force: true });
  }

  async #check(options: { signal?: AbortSignal; onBytes?: (done: number) => void }): Promise<void> {
    const { digest, size } = this.#identity;
    if (size !== undefined && size !== this.#length) {
      const found = this.#length;
      await this.discard();
      throw mismatch(this.destination, `${size} bytes`, `${found} bytes`);
    }
    if (!digest) return;
    const hash = this.#hash ?? createDigest(digest.algorithm, this.#length);
    if (this.#hash === null) await hashInto(hash, this.path, this.#length, options);
    this.#hash = null;
    const found = hash.digest("hex");
    if (found === digest.hex) return;
    await this.discard();
    throw mismatch(this.destination, digestText(digest), `${digest.algorithm}:${found}`);
  }

  /** Hashes the bytes of an earlier run now, so that `append` can go on hashing while bytes arrive. */
  async prepare(options: { signal?: AbortSignal; onBytes?: (done: number) => void } = {}): Promise<void> {
    if (this.#hash !== null || !this.#identity.digest) return;
    const hash = this.#freshHash();
    if (hash === null) return;
    await hashInto(hash, this.path, this.#length, options);
    this.#hash = hash;
  }

  /** Closes and keeps what is there for the next run. An empty partial file leaves nothing behind. */
  async keep(): Promise<void> {
    if (this.#length === 0) return this.discard();
    await this.#file.close();
  }

  /** Closes and deletes. */
  async discard(): Promise<void> {
    this.#length = 0;
    await this.#file.close();
    await removePartial(this.destination);
  }

  #freshHash(): Hash | null {
    const { digest, size } = this.#identity;
    // git puts the size in front of the bytes: without it the hash can't run along.
    if (!digest || (digest.algorithm === "git-sha1" && size === undefined)) return null;
    return createDigest(digest.algorithm, size ?? 0);
  }

  async #writeSidecar(): Promise<void> {
    await writeFile(`${this.path}.json`, JSON.stringify(this.#sidecar));
  }
}

/** Removes a partial file and its sidecar; fine when there is none. */
export async function removePartial(destination: string): Promise<void> {
  await rm(`${destination}.partial`, { force: true });
  await rm(`${destination}.partial.json`, { force: true });
}

/** Bytes an interrupted transfer left for this destination. */
export async function partialLength(destination: string): Promise<number> {
  return stat(`${destination}.partial`).then(
    (info) => info.size,
    () => 0,
  );
}

/**
 * @param needed bytes that are about to be written below `folder`, which must exist
 * @throws SglangError DOWNLOAD_FAILED when the disk has fewer to give.
 */
export async function assertDiskSpace(folder: string, needed: number, freeBytes = diskFree): Promise<void> {
  const free = await freeBytes(folder);
  if (free >= needed) return;
  throw new SglangError(
    "DOWNLOAD_FAILED",
    `${folder} has ${formatBytes(free)} free but ${formatBytes(needed)} are needed: free some space, or choose another ` +
      "folder with --download-dir or SGLANG_HOME.",
    { file: folder, expected: `${needed} bytes free`, found: `${free} bytes free` },
  );
}

async function diskFree(folder: string): Promise<number> {
  const info = await statfs(folder);
  return info.bavail * info.bsize;
}

function mismatch(file: string, expected: string, found: string): SglangError {
  return new SglangError(
    "CHECKSUM_MISMATCH",
    `${file} arrived damaged or is another file: expected ${expected}, found ${found}; it was removed, try again or use another --mirror.`,
    { file, expected, found },
  );
}

/** null when there is none or it can't be understood: then the partial file has no known identity and starts again. */
async function readSidecar(path: string): Promise<Sidecar | null> {
  try {
    const value = JSON.parse(await readFile(path, "utf8")) as Partial<Sidecar>;
    const text = (field: unknown) => (typeof field === "string" ? field : null);
    return { digest: text(value.digest), url: text(value.url), etag: text(value.etag) };
  } catch {
    return null;
  }
}
