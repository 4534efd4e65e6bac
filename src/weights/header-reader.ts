/**
 * Reads little-endian values one after another from the start of a file through a buffered window,
 * so that a header of some MB is parsed without reading the GB behind it.
 */
import { isUtf8 } from "node:buffer";
import { type ModelFile, malformed } from "./file-reader.js";

/** One read call per MiB costs nothing beside parsing it. */
const WINDOW_BYTES = 2 ** 20;

export class HeaderReader {
  readonly file: ModelFile;
  /** No byte from here on is part of a header that will be accepted. */
  readonly #limit: number;
  #window: Buffer = Buffer.alloc(0);
  /** File offset of the window's first byte. */
  #start = 0;
  /** Next byte, as an index into the window. */
  #next = 0;

  /** @param maxBytes longest header accepted. */
  constructor(file: ModelFile, maxBytes: number) {
    this.file = file;
    this.#limit = Math.min(file.size, maxBytes);
  }

  /** File offset of the next byte. */
  get offset(): number {
    return this.#start + this.#next;
  }

  /** Bytes that the header can still have. */
  get remaining(): number {
    return this.#limit - this.offset;
  }

  u8(what: string): number {
    return this.#need(1, what).readUInt8(this.#next - 1);
  }
  i8(what: string): number {
    return this.#need(1, what).readInt8(this.#next - 1);
  }
  u16(what: string): number {
    return this.#need(2, what).readUInt16LE(this.#next - 2);
  }
  i16(what: string): number {
    return this.#need(2, what).readInt16LE(this.#next - 2);
  }
  u32(what: string): number {
    return this.#need(4, what).readUInt32LE(this.#next - 4);
  }
  i32(what: string): number {
    return this.#need(4, what).readInt32LE(this.#next - 4);
  }
  f32(what: string): number {
    return this.#need(4, what).readFloatLE(this.#next - 4);
  }
  f64(what: string): number {
    return this.#need(8, what).readDoubleLE(this.#next - 8);
  }
  u64(what: string): bigint {
    return this.#need(8, what).readBigUInt64LE(this.#next - 8);
  }
  i64(what: string): bigint {
    return this.#need(8, what).readBigInt64LE(this.#next - 8);
  }

  /**
   * A u64 count of things that take at least `minBytes` each.
   * @throws SglangError MALFORMED_FILE when it exceeds `max` or the things can't fit into what is left of the file:
   * so nothing is ever allocated for a count that is a lie.
   */
  count(what: string, max: number, minBytes: number): number {
    const low = this.u32(what);
    // Exact below 2^53, and beyond that far above any limit.
    const count = low + this.u32(what) * 2 ** 32;
    if (count > max) {
      throw malformed(this.file.path, `${what} is ${count}, more than the limit of ${max}.`, {
        expected: `at most ${max}`,
        found: String(count),
      });
    }
    if (count * minBytes > this.remaining) this.#fail(count * minBytes, what);
    return count;
  }

  /** A string: u64 length, then UTF-8 without terminator. */
  string(what: string, maxBytes: number): string {
    const length = this.count(what, maxBytes, 1);
    const window = this.#need(length, what);
    const at = this.#next - length;
    const text = window.toString("utf8", at, this.#next);
    // Decoding never fails, it puts U+FFFD: only then a second look tells a real one from a broken one.
    if (text.includes("\uFFFD") && !isUtf8(window.subarray(at, this.#next))) {
      throw malformed(this.file.path, `${what} is not valid UTF-8.`, { expected: "UTF-8" });
    }
    return text;
  }

  /** The next `length` bytes in a buffer of their own. */
  bytes(length: number, what: string): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#need(length, what).subarray(this.#next - length, this.#next));
  }

  /** Claims the next `length` bytes: they end at `#next` in the window returned, which is a new one when they are not in the old. */
  #need(length: number, what: string): Buffer {
    if (length > this.#window.length - this.#next) {
      if (length > this.remaining) this.#fail(length, what);
      const size = Math.min(Math.max(length, WINDOW_BYTES), this.remaining);
      const bytes = this.file.read(this.offset, size, what);
      this.#start = this.offset;
      this.#window = Buffer.from(bytes.buffer);
      this.#next = 0;
    }
    this.#next += length;
    return this.#window;
  }

  #fail(length: number, what: string): never {
    const end = this.offset + length;
    if (end > this.file.size) throw this.file.truncated(end, what);
    throw malformed(this.file.path, `the header is longer than ${this.#limit} bytes at ${what}.`, {
      expected: `a header of at most ${this.#limit} bytes`,
      found: `${end} bytes`,
    });
  }
}
