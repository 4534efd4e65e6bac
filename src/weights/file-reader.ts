/**
 * A file read by position. The only place of this room that allocates by a length found in a file,
 * so the rule "never more than the file holds" is checked once, here.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { resolve } from "node:path";
import { SglangError } from "../core/errors.js";

/** Most bytes per read call: libuv takes less than 2^31. */
const MAX_READ_BYTES = 2 ** 30;

export class ModelFile {
  /** Absolute. */
  readonly path: string;
  /** Bytes when opened. */
  readonly size: number;
  /** Nanoseconds since the epoch when opened. */
  readonly mtimeNs: bigint;
  #fd: number | null;

  /** @throws SglangError FILE_NOT_FOUND when `path` is not a readable file. */
  constructor(path: string) {
    this.path = resolve(path);
    try {
      // Without O_NONBLOCK, opening a pipe would wait for a writer for ever.
      this.#fd = openSync(this.path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    } catch (cause) {
      throw unreadable(this.path, cause);
    }
    const stat = fstatSync(this.#fd, { bigint: true });
    if (!stat.isFile()) {
      this.close();
      throw new SglangError("FILE_NOT_FOUND", `${this.path} is not a file.`, { file: this.path, expected: "a file" });
    }
    this.size = Number(stat.size);
    this.mtimeNs = stat.mtimeNs;
  }

  /**
   * `length` bytes from `offset` in a buffer of their own.
   * @throws SglangError MALFORMED_FILE when the file is shorter, OUT_OF_MEMORY when the buffer can't be had.
   */
  read(offset: number, length: number, what = "data"): Uint8Array<ArrayBuffer> {
    if (this.#fd === null) {
      throw new SglangError("ENGINE_FAILED", `${this.path} was closed; open the checkpoint again.`, {
        file: this.path,
      });
    }
    if (offset + length > this.size) throw this.truncated(offset + length, what);
    let bytes: Uint8Array<ArrayBuffer>;
    try {
      bytes = new Uint8Array(length);
    } catch (cause) {
      throw new SglangError(
        "OUT_OF_MEMORY",
        `No memory for ${length} bytes of ${what} in ${this.path}.`,
        { file: this.path },
        { cause },
      );
    }
    for (let done = 0; done < length; ) {
      const count = readSync(this.#fd, bytes, done, Math.min(length - done, MAX_READ_BYTES), offset + done);
      if (count === 0) throw this.truncated(offset + length, what);
      done += count;
    }
    return bytes;
  }

  /** The error for a file that ends before byte `end`. */
  truncated(end: number, what: string): SglangError {
    return new SglangError(
      "MALFORMED_FILE",
      `${this.path} is truncated: ${what} needs ${end} bytes but the file has ${this.size}; download it again.`,
      { file: this.path, expected: `at least ${end} bytes`, found: `${this.size} bytes` },
    );
  }

  /** Idempotent. */
  close(): void {
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = null;
  }
}

/** The error for a path that can't be opened: says whether it is missing or forbidden. */
export function unreadable(path: string, cause: unknown): SglangError {
  const code = (cause as NodeJS.ErrnoException).code;
  const why =
    code === "ENOENT" || code === "ENOTDIR" ? "does not exist" : `cannot be read (${(cause as Error).message})`;
  return new SglangError("FILE_NOT_FOUND", `${path} ${why}.`, { file: path }, { cause });
}

/** The error for a file that is not what it claims to be. `message` follows the path. */
export function malformed(
  file: string,
  message: string,
  details: { tensor?: string; expected?: string; found?: string } = {},
): SglangError {
  return new SglangError("MALFORMED_FILE", `${file}: ${message}`, { file, ...details });
}

/** What the first bytes of a wrong file look like, as the end of a sentence; "" when nothing is recognised. */
export function recognise(start: Uint8Array): string {
  const text = Buffer.from(start.buffer, start.byteOffset, Math.min(start.length, 64)).toString("latin1");
  if (start.length === 0) return "; it is empty";
  if (text.startsWith("version https://git-lfs")) return "; it is a Git LFS pointer, fetch the file itself";
  if (/^\s*<(!doctype|html)/i.test(text)) return "; it is a web page, the download went wrong";
  if (text.startsWith("GGUF")) return "; it is a GGUF file";
  if (text.startsWith("PK\x03\x04")) return "; it is a zip or a PyTorch checkpoint, convert it to safetensors";
  if (/^(lmgg|tjgg|fmgg)/.test(text)) return "; it is a GGML file from before GGUF, convert it again";
  if (text[8] === "{") return "; it looks like a safetensors file";
  return "";
}
