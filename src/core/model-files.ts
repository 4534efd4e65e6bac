/**
 * Plain shapes that carry a model's files from `weights` to `tokenizer`, `models` and `runtime`,
 * so that floor-1 rooms need not import each other.
 */
import type { DType } from "./dtype.js";

/** One GGUF metadata value. Integers wider than 53 bits arrive as bigint. */
export type MetadataValue = string | number | bigint | boolean | MetadataValue[] | TypedNumberArray;
export type TypedNumberArray =
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | Float32Array
  | Float64Array
  | BigInt64Array
  | BigUint64Array;
export type Metadata = Readonly<Record<string, MetadataValue>>;

/** Where a tensor lies. `shape` is row-major (PyTorch order, outermost first), whatever the file format. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Absolute path of the file that holds the bytes. */
  readonly file: string;
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly byteLength: number;
}

/** What a checkpoint knows of its tokenizer: parsed Hugging Face files, or the metadata of a GGUF file. */
export type TokenizerSource =
  | {
      kind: "huggingface";
      /** Parsed tokenizer.json. */
      tokenizer: Record<string, unknown>;
      /** Parsed tokenizer_config.json, {} when absent. */
      config: Record<string, unknown>;
      /** Text of chat_template.jinja when the folder has one; it wins over tokenizer_config.json. */
      chatTemplate?: string;
      /** Parsed generation_config.json, {} when absent (eos ids may be listed there). */
      generationConfig: Record<string, unknown>;
      /** config.json's vocab_size and eos ids, for cross-checks. */
      modelConfig: Record<string, unknown>;
    }
  | { kind: "gguf"; metadata: Metadata };

/** A model on disk: config, tokenizer data and named tensors. Nothing is read until asked for. */
export interface Checkpoint {
  readonly format: "gguf" | "safetensors";
  /** The file or folder that was opened, absolute. */
  readonly path: string;
  /** Every weight file, absolute, in order. */
  readonly files: readonly string[];
  /** GGUF metadata; {} for safetensors. */
  readonly metadata: Metadata;
  /** Parsed config.json; null for GGUF. */
  readonly config: Record<string, unknown> | null;
  /** Parsed generation_config.json; {} when absent or GGUF. */
  readonly generationConfig: Record<string, unknown>;
  /** null when the checkpoint carries no tokenizer. */
  readonly tokenizer: TokenizerSource | null;
  /** Tensors by the name they have in the file. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** Raw bytes of a tensor, as in the file. */
  readBytes(name: string): Uint8Array;
  /** A tensor dequantised exactly to f32, row-major. The truth every kernel is compared with. */
  readFloat32(name: string): Float32Array;
  /** Identifies the weights: changes when any file's size, mtime, header or the beginning of a tensor changes. Hex. */
  identity(): string;
  close(): void;
}
