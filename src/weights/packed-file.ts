/**
 * One file of packed matrices: what repacking made of a model, kept for the next start.
 *
 *   | matrix | matrix | ... | index (JSON) | trailer, 40 bytes |
 *
 * Matrices start at multiples of 4096 so that the file can be mapped and used where it lies. The index names them and
 * is found through the trailer, so that everything is written once, front to back. Each matrix has a checksum that the
 * native code verifies when it maps it; the index has one of its own.
 */
import { createHash } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";

const MAGIC = Buffer.from("SGLPACK1", "latin1");
/** Magic, offset and length of the index (u64 each), first 16 bytes of its SHA-256. */
const TRAILER_BYTES = 40;
const ALIGNMENT = 4096;
/** An index of a model with ten thousand matrices takes about a megabyte. */
const MAX_INDEX_BYTES = 2 ** 26;

export interface PackedMatrix {
  /** Bytes from the start of the file. */
  offset: number;
  bytes: number;
  /** As native code computes it, 16 hex digits. */
  checksum: string;
  /** What packing changed, relative to the weights; 0 when they are as in the model's file. */
  roundingError: number;
}

export interface PackedIndex {
  /** Identity of what was packed and how; also the file's name. */
  key: string;
  /** What packing writes: `packedLayout()` of the addon that wrote the file. */
  layout: string;
  /** The model's file or folder, for people. */
  model: string;
  /** By the name of the weight. */
  matrices: Record<string, PackedMatrix>;
}

const digest = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest().subarray(0, 16);

/** The index of a packed file. @throws Error saying why the file is not one */
export async function readPackedIndex(path: string): Promise<PackedIndex> {
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    const read = async (offset: number, length: number): Promise<Buffer> => {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, offset);
      if (bytesRead !== length) throw new Error("it ends early");
      return buffer;
    };
    if (size < TRAILER_BYTES) throw new Error("it is too short");
    const trailer = await read(size - TRAILER_BYTES, TRAILER_BYTES);
    if (!trailer.subarray(0, 8).equals(MAGIC)) throw new Error("it is not a file of packed weights");
    const offset = Number(trailer.readBigUInt64LE(8));
    const length = Number(trailer.readBigUInt64LE(16));
    if (length > MAX_INDEX_BYTES || offset + length + TRAILER_BYTES !== size) throw new Error("its length is wrong");
    const bytes = await read(offset, length);
    if (!digest(bytes).equals(trailer.subarray(24))) throw new Error("its index is damaged");
    return JSON.parse(bytes.toString("utf8")) as PackedIndex;
  } finally {
    await file.close();
  }
}

/** Writes a packed file under a temporary name; it appears under its own when it is whole. */
export class PackedFileWriter {
  readonly #path: string;
  readonly #temporary: string;
  readonly #file: FileHandle;
  readonly #matrices: Record<string, PackedMatrix> = {};
  #end = 0;

  private constructor(path: string, temporary: string, file: FileHandle) {
    this.#path = path;
    this.#temporary = temporary;
    this.#file = file;
  }

  /** @param temporary a free name in the same folder */
  static async create(path: string, temporary: string): Promise<PackedFileWriter> {
    return new PackedFileWriter(path, temporary, await open(temporary, "wx", 0o644));
  }

  async add(name: string, bytes: Uint8Array, about: Pick<PackedMatrix, "checksum" | "roundingError">): Promise<void> {
    const offset = Math.ceil(this.#end / ALIGNMENT) * ALIGNMENT;
    await this.#write(bytes, offset);
    this.#matrices[name] = { offset, bytes: bytes.length, ...about };
  }

  /** Not synced: after a power failure the checksums tell whether all of it arrived. */
  async finish(about: Omit<PackedIndex, "matrices">): Promise<void> {
    const index = Buffer.from(JSON.stringify({ ...about, matrices: this.#matrices }));
    const trailer = Buffer.alloc(TRAILER_BYTES);
    MAGIC.copy(trailer);
    trailer.writeBigUInt64LE(BigInt(this.#end), 8);
    trailer.writeBigUInt64LE(BigInt(index.length), 16);
    digest(index).copy(trailer, 24);
    await this.#write(index, this.#end);
    await this.#write(trailer, this.#end);
    await this.#file.close();
    await rename(this.#temporary, this.#path);
  }

  /** Removes what was written. Harmless after `finish`. */
  async abort(): Promise<void> {
    await this.#file.close().catch(() => undefined);
    await rm(this.#temporary, { force: true });
  }

  async #write(bytes: Uint8Array, offset: number): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, offset + done);
      done += bytesWritten;
    }
    this.#end = offset + bytes.length;
  }
}
