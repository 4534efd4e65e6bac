/**
 * What a batch has done so far, one JSON line per item, so that a batch that was cut off goes on where it was.
 *
 * A line has the item's index, a digest of the item, and the value. Failed items are not written: they run again.
 */
import { SglangError } from "../core/errors.js";
import { nodeFiles } from "./node-files.js";
import type { TraceUsage } from "./trace.js";

export interface CheckpointEntry {
  index: number;
  /** Digest of the item: a checkpoint of other items is refused. */
  item: string;
  value: unknown;
  usage: TraceUsage;
}

/** Where a batch keeps what it has done; a path makes one of a JSONL file. */
export interface Checkpoint {
  /** Entries that earlier runs wrote, by index. */
  load(): Promise<Map<number, CheckpointEntry>>;
  save(entry: CheckpointEntry): Promise<void>;
}

/** 53 bits of a text, in hex: enough to see that an input file was changed. */
export function digest(value: unknown): string {
  const text = JSON.stringify(value) ?? "undefined";
  let [high, low] = [0xdeadbeef, 0x41c6ce57];
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    high = Math.imul(high ^ code, 2654435761);
    low = Math.imul(low ^ code, 1597334677);
  }
  high = Math.imul(high ^ (high >>> 16), 2246822507) ^ Math.imul(low ^ (low >>> 13), 3266489909);
  low = Math.imul(low ^ (low >>> 16), 2246822507) ^ Math.imul(high ^ (high >>> 13), 3266489909);
  return (4294967296 * (2097151 & low) + (high >>> 0)).toString(16).padStart(14, "0");
}

class FileCheckpoint implements Checkpoint {
  readonly #path: string;
  readonly #files = nodeFiles("pass a checkpoint object with load and save.");
  /** Lines are written one after another: two never mix. */
  #last: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  async load(): Promise<Map<number, CheckpointEntry>> {
    const entries = new Map<number, CheckpointEntry>();
    const text = await this.#files.readFile(this.#path, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return "";
      throw new SglangError("FILE_NOT_FOUND", `Checkpoint ${this.#path} cannot be read: ${error.message}.`, {
        file: this.#path,
      });
    });
    const lines = text.split("\n");
    // The last line has no newline when the writer was cut off in it: it counts as not written.
    const torn = lines.pop() as string;
    for (const [at, line] of lines.entries()) {
      try {
        const entry = JSON.parse(line) as CheckpointEntry;
        if (!Number.isSafeInteger(entry.index) || typeof entry.item !== "string") throw new Error("no index and item");
        entries.set(entry.index, entry);
      } catch (error) {
        const message = `Line ${at + 1} of checkpoint ${this.#path} is no entry (${(error as Error).message}); remove the line or the file.`;
        throw new SglangError("MALFORMED_FILE", message, { file: this.#path });
      }
    }
    if (torn !== "")
      await this.#files.truncate(
        this.#path,
        new TextEncoder().encode(text).length - new TextEncoder().encode(torn).length,
      );
    return entries;
  }

  save(entry: CheckpointEntry): Promise<void> {
    const line = `${JSON.stringify(entry)}\n`;
    const written = this.#last.then(() => this.#files.appendFile(this.#path, line));
    this.#last = written.catch(() => {});
    return written;
  }
}

export function openCheckpoint(checkpoint: string | Checkpoint): Checkpoint {
  return typeof checkpoint === "string" ? new FileCheckpoint(checkpoint) : checkpoint;
}
