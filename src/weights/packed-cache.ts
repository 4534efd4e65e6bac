/**
 * The folder of packed weights: `$SGLANG_HOME/packed/<key>.packed`, least recently used files go when it grows over its
 * limit. A file is replaced or removed whole, never changed, so a process that has one mapped keeps what it maps.
 *
 * The cache only saves time: whatever is wrong with the folder is said once and the model is packed again.
 */
import { mkdir, rm, statfs, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import { logger } from "../core/logger.js";
import { cacheFolders } from "./cache.js";
import { type KeptFile, listKeptFiles, removeLeftovers, temporaryPath } from "./kept-files.js";
import { PackedFileWriter, type PackedIndex, readPackedIndex } from "./packed-file.js";
import { formatBytes } from "./transfer.js";

const SUFFIX = ".packed";
/** Free space that is left to others. */
const DISK_RESERVE_BYTES = 1e9;
/** Packing less than this takes a few hundredths of a second. */
const MIN_FILE_BYTES = 32e6;
/** Limit of the folder when nobody names one. */
const DEFAULT_MAX_GB = 20;
/** Environment variable with the limit in gigabytes. */
export const MAX_GB_VARIABLE = "SGLANG_WEIGHT_CACHE_GB";

export interface PackedCacheOptions {
  folder: string;
  /** Bytes of all files together. */
  maxBytes: number;
  /** Smaller models are not kept. @default 32 MB */
  minBytes?: number;
}

export interface PackedEntry extends KeptFile {
  /** null: no file of packed weights, or a damaged one. */
  index: PackedIndex | null;
}

/** @param cacheDir an explicit folder for downloads holds this cache too */
export function packedFolder(options: { cacheDir?: string; env?: NodeJS.ProcessEnv } = {}): string {
  return join(dirname(cacheFolders(options).models), "packed");
}

/** Limit in gigabytes: as given, else by the environment, else 20. Nonsense in the environment is said and not followed. */
export function packedCacheLimit(given: number | null, env: NodeJS.ProcessEnv = process.env): number {
  if (given !== null) return given;
  const text = env[MAX_GB_VARIABLE];
  if (text === undefined || text === "") return DEFAULT_MAX_GB;
  const limit = Number(text);
  if (limit >= 0) return limit;
  logger.warn(
    `${MAX_GB_VARIABLE} must be a number of gigabytes >= 0, got ${JSON.stringify(text)}: ${DEFAULT_MAX_GB} is used.`,
  );
  return DEFAULT_MAX_GB;
}

/** Every file of the folder, most recently used first. */
export async function listPackedEntries(folder: string): Promise<PackedEntry[]> {
  return Promise.all(
    (await listKeptFiles(folder, SUFFIX)).map(async (file) => ({
      ...file,
      index: await readPackedIndex(file.path).catch(() => null),
    })),
  );
}

/**
 * Removes least recently used files until `maxBytes` hold the rest, and what writers that died left behind.
 * @param isUseless files that go in any case
 */
export async function prunePackedEntries(
  folder: string,
  maxBytes: number,
  isUseless: (entry: PackedEntry) => boolean | Promise<boolean> = ({ index }) => index === null,
): Promise<PackedEntry[]> {
  const removed: PackedEntry[] = [];
  let total = 0;
  for (const entry of await listPackedEntries(folder)) {
    total += entry.bytes;
    if (total <= maxBytes && !(await isUseless(entry))) continue;
    total -= entry.bytes;
    await rm(entry.path, { force: true });
    removed.push(entry);
  }
  await removeLeftovers(folder);
  return removed;
}

export class PackedCache {
  readonly #folder: string;
  readonly #maxBytes: number;
  readonly #minBytes: number;

  constructor({ folder, maxBytes, minBytes = MIN_FILE_BYTES }: PackedCacheOptions) {
    this.#folder = folder;
    this.#maxBytes = maxBytes;
    this.#minBytes = minBytes;
  }

  /** The file with this key, marked as used; null when there is none. A damaged or foreign one is dropped. */
  async find(key: string): Promise<{ path: string; index: PackedIndex } | null> {
    const path = this.#pathOf(key);
    try {
      const index = await readPackedIndex(path);
      if (index.key !== key) throw new Error("it belongs to another model");
      const now = new Date();
      await utimes(path, now, now).catch(() => undefined); // A read-only folder serves all the same.
      return { path, index };
    } catch (error) {
      // Not there, or not to be read: `create` says what is wrong with the folder.
      if ((error as NodeJS.ErrnoException).code === undefined) await this.drop(key, (error as Error).message);
      return null;
    }
  }

  /** Removes a file that can't be used and says why. */
  async drop(key: string, reason: string): Promise<void> {
    const path = this.#pathOf(key);
    logger.warn(`Packed weights in ${path} are dropped and made again: ${reason}.`);
    await rm(path, { force: true }).catch(() => undefined);
  }

  /** Makes room and begins a file; null when it would not fit, is too small to matter, or the folder can't be written. */
  async create(key: string, bytes: number): Promise<PackedFileWriter | null> {
    if (bytes < this.#minBytes) return null;
    if (bytes > this.#maxBytes) {
      logger.info(
        `Packed weights (${formatBytes(bytes)}) are not kept: the cache may hold ${formatBytes(this.#maxBytes)}.`,
      );
      return null;
    }
    try {
      await mkdir(this.#folder, { recursive: true });
      await prunePackedEntries(this.#folder, this.#maxBytes - bytes);
      const { bavail, bsize } = await statfs(this.#folder);
      if (bavail * bsize < bytes + DISK_RESERVE_BYTES) {
        throw new Error(
          `${formatBytes(bavail * bsize)} are free where ${formatBytes(bytes + DISK_RESERVE_BYTES)} are needed`,
        );
      }
      const temporary = temporaryPath(this.#folder, key);
      return await PackedFileWriter.create(this.#pathOf(key), temporary);
    } catch (error) {
      this.cannotWrite(error);
      return null;
    }
  }

  /** Says that this start's packed weights are not kept. */
  cannotWrite(error: unknown): void {
    logger.warn(
      `Packed weights are not kept in ${this.#folder}: ${(error as Error).message}. The next start packs again; --disable-weight-cache stops trying.`,
    );
  }

  #pathOf(key: string): string {
    return join(this.#folder, `${key}${SUFFIX}`);
  }
}
