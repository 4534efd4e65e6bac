/** A model on disk behind one interface, whatever its format. */
import { createHash } from "node:crypto";
import { readdirSync, statSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { SglangError } from "../core/errors.js";
import type { Checkpoint, Metadata, TensorInfo, TokenizerSource } from "../core/model-files.js";
import { type ModelFile, unreadable } from "./file-reader.js";
import { ggufParts, openGguf } from "./gguf-split.js";
import { readHuggingFaceFiles } from "./huggingface-folder.js";
import { dequantize } from "./quant.js";
import { hasSafetensors, noWeights, openSafetensorsFolder } from "./safetensors-shards.js";

/** A checkpoint that also tells which non-weight buffers of unreadable types it left out. */
export interface OpenedCheckpoint extends Checkpoint {
  readonly skipped: readonly { name: string; dtype: string }[];
}

/**
 * Opens a model: a `.gguf` file (or any part of a split one), a folder with config.json and safetensors, or a folder
 * with exactly one GGUF model. In a folder that has both, safetensors win. Only headers and JSON files are read.
 * @throws SglangError FILE_NOT_FOUND | MALFORMED_FILE | UNSUPPORTED_MODEL naming the file, and the tensor where there is one.
 */
export async function openCheckpoint(path: string): Promise<OpenedCheckpoint> {
  const absolute = resolve(path);
  if (!isFolder(absolute)) {
    if (absolute.endsWith(".safetensors")) {
      throw new SglangError(
        "FILE_NOT_FOUND",
        `${absolute} is only the weights; name its folder, which must also hold config.json.`,
        {
          file: absolute,
          expected: "a .gguf file or a folder",
        },
      );
    }
    return openGgufCheckpoint(absolute, absolute);
  }
  if (hasSafetensors(absolute)) return openFolder(absolute);
  return openGgufCheckpoint(absolute, onlyGguf(absolute));
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

/** The one GGUF model in a folder; all parts of a split model are one. */
function onlyGguf(folder: string): string {
  const names = readdirSync(folder)
    .filter((name) => name.endsWith(".gguf"))
    .sort();
  const models = [...new Set(names.map((name) => ggufParts(name)[0]))];
  if (models.length === 1) return join(folder, models[0]);
  if (models.length === 0) throw noWeights(folder);
  throw new SglangError(
    "FILE_NOT_FOUND",
    `${folder} has ${models.length} GGUF models: ${models.slice(0, 20).join(", ")}${models.length > 20 ? ", ..." : ""}; name one, like ${join(folder, models[0])}.`,
    { file: folder, expected: "exactly one .gguf file", found: models.join(", ") },
  );
}

function openGgufCheckpoint(path: string, file: string): OpenedCheckpoint {
  const { files, headerBytes, metadata, tensors } = openGguf(file);
  const model = metadata["tokenizer.ggml.model"];
  const tokenizer: TokenizerSource | null = model === undefined || model === "none" ? null : { kind: "gguf", metadata };
  return new FileCheckpoint(
    { format: "gguf", path, metadata, config: null, generationConfig: {}, tokenizer, skipped: [] },
    files,
    headerBytes,
    tensors,
  );
}

function openFolder(path: string): OpenedCheckpoint {
  const { config, generationConfig, tokenizer } = readHuggingFaceFiles(path);
  const { files, headerBytes, tensors, skipped } = openSafetensorsFolder(path);
  return new FileCheckpoint(
    { format: "safetensors", path, metadata: {}, config, generationConfig, tokenizer, skipped },
    files,
    headerBytes,
    tensors,
  );
}

type Facts = Pick<
  OpenedCheckpoint,
  "format" | "path" | "metadata" | "config" | "generationConfig" | "tokenizer" | "skipped"
>;

/** Of the beginning of each tensor, for the identity. */
const SAMPLE_BYTES = 256;

class FileCheckpoint implements OpenedCheckpoint {
  readonly format: "gguf" | "safetensors";
  readonly path: string;
  readonly files: readonly string[];
  readonly metadata: Metadata;
  readonly config: Record<string, unknown> | null;
  readonly generationConfig: Record<string, unknown>;
  readonly tokenizer: TokenizerSource | null;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly skipped: readonly { name: string; dtype: string }[];
  readonly #files: ReadonlyMap<string, { file: ModelFile; headerBytes: number }>;
  #identity: string | undefined;
  #closed = false;

  constructor(
    facts: Facts,
    files: readonly ModelFile[],
    headerBytes: readonly number[],
    tensors: readonly TensorInfo[],
  ) {
    this.format = facts.format;
    this.path = facts.path;
    this.metadata = facts.metadata;
    this.config = facts.config;
    this.generationConfig = facts.generationConfig;
    this.tokenizer = facts.tokenizer;
    this.skipped = facts.skipped;
    this.files = files.map((file) => file.path);
    this.tensors = new Map(tensors.map((tensor) => [tensor.name, tensor]));
    this.#files = new Map(files.map((file, i) => [file.path, { file, headerBytes: headerBytes[i] }]));
  }

  readBytes(name: string): Uint8Array {
    this.#checkOpen();
    const tensor = this.tensors.get(name);
    if (tensor === undefined) {
      throw new SglangError("TENSOR_MISMATCH", `${this.path} has no tensor ${name}.`, {
        file: this.path,
        tensor: name,
      });
    }
    return this.#files.get(tensor.file)!.file.read(tensor.offset, tensor.byteLength, `tensor ${name}`);
  }

  readFloat32(name: string): Float32Array {
    const bytes = this.readBytes(name);
    return dequantize(this.tensors.get(name)!.dtype, bytes);
  }

  identity(): string {
    this.#checkOpen();
    if (this.#identity === undefined) {
      const hash = createHash("sha256");
      for (const { file, headerBytes } of this.#files.values()) {
        hash.update(`${basename(file.path)}\0${file.size}\0${file.mtimeNs}\0${headerBytes}\0`);
        hash.update(file.read(0, headerBytes, "the header"));
      }
      // Fine-tunes of one model can have equal headers and sizes, and an image's files all the same time.
      for (const { name, file, offset, byteLength } of this.tensors.values())
        hash.update(this.#files.get(file)!.file.read(offset, Math.min(byteLength, SAMPLE_BYTES), name));
      this.#identity = hash.digest("hex");
    }
    return this.#identity;
  }

  close(): void {
    this.#closed = true;
    for (const { file } of this.#files.values()) file.close();
  }

  #checkOpen(): void {
    if (this.#closed)
      throw new SglangError("ENGINE_FAILED", `${this.path} was closed; open the checkpoint again.`, {
        file: this.path,
      });
  }
}
