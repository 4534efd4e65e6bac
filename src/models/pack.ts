/**
 * Weights of a checkpoint into native memory: matrices packed (or mapped, when an earlier start packed them), tables
 * mapped, vectors uploaded.
 */
import { createHash } from "node:crypto";
import { DTYPES } from "../core/dtype.js";
import type { Checkpoint } from "../core/model-files.js";
import type { MatrixWeight, Weight } from "../graph/graph.js";
import type { MatrixSource, NativeAddon, NativeFile, NativeRuntime, NativeWeight } from "../native/addon.js";
import type { PackedCache } from "../weights/packed-cache.js";
import type { PackedFileWriter, PackedIndex } from "../weights/packed-file.js";
import { type BoundPart, readWeight } from "./bind.js";
import type { OpenedModel } from "./open.js";

export interface NativeHandles {
  readonly addon: NativeAddon;
  readonly runtime: NativeRuntime;
}
export type OnProgress = (progress: { loadedBytes: number; totalBytes: number }) => void;

export interface PackOptions {
  onProgress?: OnProgress;
  /** Where packed matrices are kept from one start to the next; null = nowhere. @default null */
  cache?: PackedCache | null;
  /** Matrices are rotated and rounded to 8 bits, for plans with numerics "fast". @default false */
  rotated?: boolean;
}

export interface PackedWeights {
  /** In the graph's order. */
  readonly handles: ReadonlyMap<Weight, NativeWeight>;
  /** Root mean square of what packing changed in each matrix, relative to the weights; 0 when they are the file's own. */
  readonly roundingErrors: ReadonlyMap<MatrixWeight, number>;
}

/** All weights of the graph. On failure everything packed so far is freed. */
export async function packWeights(
  checkpoint: Checkpoint,
  opened: OpenedModel,
  native: NativeHandles,
  { onProgress, cache = null, rotated = false }: PackOptions = {},
): Promise<PackedWeights> {
  const packer = new Packer(checkpoint, opened, native, rotated, onProgress);
  try {
    if (cache === null) return await packer.run(null, null);
    const key = packer.key();
    const kept = await cache.find(key);
    if (kept !== null) {
      try {
        return await packer.run(kept, null);
      } catch (error) {
        // Stopped by the caller is not a reason to doubt the file.
        if (!isDamage(error)) throw error;
        await cache.drop(key, (error as Error).message);
      }
    }
    const writer = await cache.create(key, packer.matrixBytes);
    if (writer === null) return await packer.run(null, null);
    const keeper = new Keeper(writer, native, cache);
    try {
      const packed = await packer.run(null, keeper);
      await keeper.finish({ key, layout: native.addon.packedLayout(), model: checkpoint.path });
      return packed;
    } finally {
      await writer.abort();
    }
  } finally {
    packer.close();
  }
}

/** What the addon says of a stored matrix that is not what its index says. */
const isDamage = (error: unknown) => error instanceof Error && /\bstored\b/.test(error.message);

class Packer {
  readonly #checkpoint: Checkpoint;
  readonly #opened: OpenedModel;
  readonly #native: NativeHandles;
  readonly #rotated: boolean;
  readonly #onProgress: OnProgress | undefined;
  readonly #files = new Map<string, NativeFile>();

  constructor(
    checkpoint: Checkpoint,
    opened: OpenedModel,
    native: NativeHandles,
    rotated: boolean,
    onProgress: OnProgress | undefined,
  ) {
    this.#checkpoint = checkpoint;
    this.#opened = opened;
    this.#native = native;
    this.#rotated = rotated;
    this.#onProgress = onProgress;
  }

  /** About the bytes that packed matrices take: those they have in the checkpoint, or one per weight when rotated. */
  get matrixBytes(): number {
    const bytes = (weight: MatrixWeight) =>
      this.#rotated ? weight.rows * weight.columns : bytesOf(this.#partsOf(weight));
    return this.#matrices().reduce((sum, weight) => sum + bytes(weight), 0);
  }

  /** Names the bytes that packing this checkpoint's matrices gives: the same key, the same bytes. */
  key(): string {
    const { addon } = this.#native;
    const hash = createHash("sha256").update(`${this.#checkpoint.identity()}\0${addon.packedLayout()}\0`);
    for (const weight of this.#matrices()) {
      const { columns, sources, rotated } = this.#matrixOptions(weight);
      const plain = sources.map(({ file: _file, order, ...source }) => ({ ...source, order: order && [...order] }));
      hash.update(JSON.stringify([weight.name, columns, plain, rotated]));
    }
    return hash.digest("hex").slice(0, 32);
  }

  /**
   * @param kept the file that has the matrices packed already
   * @param keeper takes matrices as they are packed
   */
  async run(kept: { path: string; index: PackedIndex } | null, keeper: Keeper | null): Promise<PackedWeights> {
    const { addon } = this.#native;
    const packed = new Map<Weight, NativeWeight>();
    const roundingErrors = new Map<MatrixWeight, number>();
    const { graph, bindings } = this.#opened;
    const totalBytes = [...bindings.values()].reduce((sum, parts) => sum + bytesOf(parts), 0);
    let loadedBytes = 0;
    try {
      for (const weight of graph.weights) {
        const made = await this.#load(weight, kept);
        packed.set(weight, made);
        if (weight.kind === "matrix") {
          const { roundingError } = kept?.index.matrices[weight.name] ?? addon.weightInfo(made);
          roundingErrors.set(weight, roundingError);
          await keeper?.add(weight.name, made);
        }
        loadedBytes += bytesOf(this.#partsOf(weight));
        this.#onProgress?.({ loadedBytes, totalBytes });
      }
      return { handles: packed, roundingErrors };
    } catch (error) {
      for (const weight of packed.values()) addon.closeWeight(weight);
      throw error;
    }
  }

  /** Tables keep what they gather from mapped until they are closed, and so do matrices of a packed file. */
  close(): void {
    for (const file of this.#files.values()) this.#native.addon.closeFile(file);
  }

  async #load(weight: Weight, kept: { path: string; index: PackedIndex } | null): Promise<NativeWeight> {
    const { addon, runtime } = this.#native;
    if (weight.kind === "constant") return addon.uploadVector(weight.values);
    if (weight.kind === "vector") return addon.uploadVector(readWeight(this.#checkpoint, this.#partsOf(weight)));
    if (weight.kind === "matrix") {
      const options = this.#matrixOptions(weight);
      if (kept === null) return await addon.packMatrix(runtime, options);
      const place = kept.index.matrices[weight.name];
      if (place === undefined) throw new Error(`no stored matrix ${weight.name}`);
      const { offset, bytes, checksum } = place;
      const stored = { file: this.#fileOf(kept.path), offset, bytes, checksum };
      return await addon.packMatrix(runtime, { ...options, stored });
    }
    const [part] = this.#partsOf(weight);
    const { file, offset, type, rows } = this.#sourceOf(part);
    return addon.mapTable({ file, offset, type, rows, columns: weight.columns });
  }

  #matrixOptions(weight: MatrixWeight): { columns: number; sources: MatrixSource[]; rotated: boolean } {
    const sources = this.#partsOf(weight).map((part) => this.#sourceOf(part));
    return { columns: weight.columns, sources, rotated: this.#rotated };
  }

  #sourceOf({ info, rows, order }: BoundPart): MatrixSource {
    const type = DTYPES[info.dtype].ggml;
    return { file: this.#fileOf(info.file), offset: info.offset, type, rows, ...(order === null ? {} : { order }) };
  }

  #fileOf(path: string): NativeFile {
    const file = this.#files.get(path) ?? this.#native.addon.mapFile(path);
    this.#files.set(path, file);
    return file;
  }

  #matrices(): MatrixWeight[] {
    return this.#opened.graph.weights.filter((weight) => weight.kind === "matrix");
  }

  #partsOf(weight: Weight): readonly BoundPart[] {
    return weight.kind === "constant" ? [] : this.#opened.bindings.get(weight)!;
  }
}

/** Writes matrices while the next ones are packed. The first failure is said, and the rest is packed without it. */
class Keeper {
  readonly #writer: PackedFileWriter;
  readonly #native: NativeHandles;
  readonly #cache: PackedCache;
  #writing: Promise<void> = Promise.resolve();
  #failed = false;

  constructor(writer: PackedFileWriter, native: NativeHandles, cache: PackedCache) {
    this.#writer = writer;
    this.#native = native;
    this.#cache = cache;
  }

  async add(name: string, weight: NativeWeight): Promise<void> {
    if (this.#failed) return;
    const { addon, runtime } = this.#native;
    const { bytes, checksum } = await addon.packedBytes(runtime, weight);
    await this.#writing; // One matrix is being written while one is packed, not more.
    const { roundingError } = addon.weightInfo(weight);
    this.#writing = this.#try(() => this.#writer.add(name, bytes, { checksum, roundingError }));
  }

  async finish(about: Omit<PackedIndex, "matrices">): Promise<void> {
    await this.#writing;
    await this.#try(() => this.#writer.finish(about));
  }

  async #try(work: () => Promise<void>): Promise<void> {
    if (this.#failed) return;
    try {
      await work();
    } catch (error) {
      this.#failed = true;
      this.#cache.cannotWrite(error);
    }
  }
}

const bytesOf = (parts: readonly BoundPart[]) => parts.reduce((sum, { info }) => sum + info.byteLength, 0);
