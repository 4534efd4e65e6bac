/**
 * KV pages as files, one per page, in a folder of their own for each model, KV type, layout and page size:
 * `<folder>/<identity>/<key>.kv`. A file is
 *
 *   "SGLKV1\n\0"  8 bytes | SHA-256 of identity, key and bytes  32 | the page's bytes
 *
 * Files are written under another name and renamed, so that a name stands for a whole file. What does not have the right
 * size or digest is deleted, counted and computed again. The oldest files by last use go when the folder is over its limit.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { readFile, rename, rm, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { SglangError } from "../core/errors.js";
import { logger } from "../core/logger.js";
import type { StorageStats, StorageTier } from "./kv-tier.js";

const MAGIC = Buffer.from("SGLKV1\n\0", "latin1");
const HEADER = MAGIC.length + 32;
const SUFFIX = ".kv";
const TEMPORARY = /\.tmp$/;
/** Writes at the same time; more are refused: a page that is not kept is computed again. */
const MAX_WRITES = 64;

export interface KvFilesOptions {
  folder: string;
  identity: string;
  pageBytes: number;
  maxBytes: number;
}

export class KvFiles implements StorageTier {
  readonly #options: KvFilesOptions;
  readonly #folder: string;
  /** Least recently used first. */
  readonly #keys = new Set<string>();
  #writes = new Set<Promise<void>>();
  readonly #counts = { reads: 0, writes: 0, corrupt: 0 };

  /** @throws SglangError INVALID_ARGUMENT when the folder cannot be made or read */
  constructor(options: KvFilesOptions) {
    this.#options = options;
    const name = createHash("sha256").update(options.identity).digest("hex").slice(0, 32);
    this.#folder = join(options.folder, name);
    try {
      mkdirSync(this.#folder, { recursive: true });
      const found = readdirSync(this.#folder).flatMap((file) => {
        const path = join(this.#folder, file);
        // Left by a process that died. One that writes just now loses a page that nobody has read yet.
        if (TEMPORARY.test(file)) rmSync(path, { force: true });
        if (!file.endsWith(SUFFIX)) return [];
        return [
          { key: file.slice(0, -SUFFIX.length), usedAt: statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0 },
        ];
      });
      for (const { key } of found.sort((a, b) => a.usedAt - b.usedAt)) this.#keys.add(key);
    } catch (cause) {
      throw new SglangError(
        "INVALID_ARGUMENT",
        `--hicache-storage-dir: ${this.#folder} cannot be used: ${(cause as Error).message}`,
        { field: "--hicache-storage-dir", file: this.#folder },
        { cause },
      );
    }
  }

  get stats(): StorageStats {
    return { pages: this.#keys.size, bytes: this.#keys.size * this.#fileBytes, ...this.#counts };
  }

  has(key: string): boolean {
    return this.#keys.has(key);
  }

  async read(key: string, into: Uint8Array): Promise<boolean> {
    const path = this.#path(key);
    let file: Buffer;
    try {
      file = await readFile(path);
    } catch (error) {
      this.#keys.delete(key);
      // Another process may have made room.
      if ((error as NodeJS.ErrnoException).code !== "ENOENT")
        logger.warn(`${path} cannot be read: ${(error as Error).message}`);
      return false;
    }
    const bytes = file.subarray(HEADER);
    const whole = file.length === this.#fileBytes && file.subarray(0, MAGIC.length).equals(MAGIC);
    if (!whole || !file.subarray(MAGIC.length, HEADER).equals(this.#digest(key, bytes))) {
      this.#counts.corrupt++;
      this.#keys.delete(key);
      logger.warn(`${path} is damaged or not what its name says; it is deleted and computed again.`);
      await rm(path, { force: true }).catch(() => {});
      return false;
    }
    into.set(bytes);
    this.#counts.reads++;
    this.#keys.delete(key);
    this.#keys.add(key);
    const now = new Date();
    utimes(path, now, now).catch(() => {});
    return true;
  }

  write(key: string, bytes: Uint8Array): Promise<void> {
    if (this.#writes.size >= MAX_WRITES || this.#keys.has(key)) return Promise.resolve();
    const writing = this.#write(key, bytes);
    const tracked = writing.catch(() => {}).finally(() => this.#writes.delete(tracked));
    this.#writes.add(tracked);
    return writing;
  }

  async close(): Promise<void> {
    while (this.#writes.size > 0) await Promise.all(this.#writes);
  }

  get #fileBytes(): number {
    return HEADER + this.#options.pageBytes;
  }

  #path(key: string): string {
    return join(this.#folder, `${key}${SUFFIX}`);
  }

  #digest(key: string, bytes: Uint8Array): Buffer {
    return createHash("sha256").update(`${this.#options.identity}\0${key}\0`).update(bytes).digest();
  }

  async #write(key: string, bytes: Uint8Array): Promise<void> {
    const room = Math.floor(this.#options.maxBytes / this.#fileBytes);
    if (room < 1) return;
    const temporary = join(this.#folder, `.${key}.${process.pid}.${randomBytes(4).toString("hex")}.tmp`);
    try {
      await writeFile(temporary, Buffer.concat([MAGIC, this.#digest(key, bytes), bytes]));
      await rename(temporary, this.#path(key));
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => {});
      throw error;
    }
    this.#counts.writes++;
    this.#keys.add(key);
    for (const oldest of this.#keys) {
      if (this.#keys.size <= room) break;
      this.#keys.delete(oldest);
      await rm(this.#path(oldest), { force: true });
    }
  }
}
