/** Writes GGUF version 3 files: for exports, and for the small models of tests. */
import { DTYPES, type DType, rowBytes } from "../core/dtype.js";
import { SglangError } from "../core/errors.js";
import type { MetadataValue } from "../core/model-files.js";
import { writeAtomically } from "./atomic-write.js";
import { GGUF_VALUE_TYPES, type GgufValueType } from "./gguf.js";

/**
 * A metadata value to write. Plain values choose their type: texts and booleans their own, integers u32, i32, u64 or
 * i64 (the first that holds them), other numbers f32, typed arrays their element type. `{type, value}` says it outright:
 * needed for `rope.freq_base = 10000`, which readers expect as f32.
 */
export type GgufValue =
  | MetadataValue
  | { type: Exclude<GgufValueType, "array">; value: MetadataValue }
  | { type: "array"; items: GgufValueType; value: MetadataValue[] | ArrayLike<number> };

export interface GgufTensor {
  name: string;
  type: DType;
  /** Row-major, outermost first; written in ggml's order. */
  shape: readonly number[];
  bytes: Uint8Array;
}

export interface GgufContents {
  metadata: Readonly<Record<string, GgufValue>>;
  tensors: readonly GgufTensor[];
}

/**
 * Writes one file, atomically. Alignment is `general.alignment` of the metadata, or 32.
 * @throws SglangError INVALID_ARGUMENT when bytes and shape disagree or a value does not fit its type; FILE_NOT_FOUND when `path` can't be written.
 */
export async function writeGguf(path: string, contents: GgufContents): Promise<void> {
  await writeAtomically(path, encodeGguf(contents));
}

/** The file of {@link writeGguf} as consecutive pieces. */
export function encodeGguf({ metadata, tensors }: GgufContents): Uint8Array[] {
  const given = metadata["general.alignment"] ?? 32;
  const alignment = Number(typeof given === "object" && "value" in given ? given.value : given);
  if (!(alignment > 0) || !Number.isInteger(Math.log2(alignment)))
    throw invalid("general.alignment", "a power of two", given);
  const writer = new HeaderWriter();
  writer.raw(Buffer.from("GGUF"));
  writer.scalar("u32", 3);
  writer.scalar("u64", tensors.length);
  const entries = Object.entries(metadata);
  writer.scalar("u64", entries.length);
  for (const [key, value] of entries) writer.entry(key, value);
  let offset = 0;
  for (const tensor of tensors) {
    const { name, type, shape, bytes } = tensor;
    const columns = shape[shape.length - 1] ?? 1;
    const expected = rowBytes(
      type,
      shape.reduce((product, n) => product * n, 1),
    );
    if (columns % DTYPES[type].block !== 0 || bytes.length !== expected) {
      throw invalid(
        `tensor ${name}`,
        `${expected} bytes in rows of a multiple of ${DTYPES[type].block}`,
        `${bytes.length} bytes for ${type} [${shape.join(", ")}]`,
      );
    }
    writer.scalar("string", name);
    writer.scalar("u32", shape.length);
    for (const n of [...shape].reverse()) writer.scalar("u64", n);
    writer.scalar("u32", DTYPES[type].ggml);
    writer.scalar("u64", offset);
    offset += padded(bytes.length, alignment);
  }
  const header = Buffer.concat(writer.pieces);
  const pieces: Uint8Array[] = [header, new Uint8Array(padded(header.length, alignment) - header.length)];
  for (const { bytes } of tensors) pieces.push(bytes, new Uint8Array(padded(bytes.length, alignment) - bytes.length));
  return pieces;
}

const padded = (length: number, alignment: number): number => Math.ceil(length / alignment) * alignment;

function invalid(what: string, expected: string, found: unknown): SglangError {
  return new SglangError("INVALID_ARGUMENT", `${what} must be ${expected}, got ${found}.`, {
    expected,
    found: String(found),
  });
}

const ARRAY_TYPES = new Map<unknown, GgufValueType>([
  [Uint8Array, "u8"],
  [Int8Array, "i8"],
  [Uint16Array, "u16"],
  [Int16Array, "i16"],
  [Uint32Array, "u32"],
  [Int32Array, "i32"],
  [Float32Array, "f32"],
  [BigUint64Array, "u64"],
  [BigInt64Array, "i64"],
  [Float64Array, "f64"],
]);

/** The type that a plain value chooses. */
function typeOf(value: MetadataValue): GgufValueType {
  if (typeof value === "string") return "string";
  if (typeof value === "boolean") return "bool";
  if (typeof value === "bigint") return value >= 0n ? "u64" : "i64";
  if (typeof value !== "number") return "array";
  if (!Number.isInteger(value)) return "f32";
  if (value >= 0) return value < 2 ** 32 ? "u32" : "u64";
  return value >= -(2 ** 31) ? "i32" : "i64";
}

class HeaderWriter {
  readonly pieces: Buffer[] = [];

  raw(bytes: Buffer): void {
    this.pieces.push(bytes);
  }

  entry(key: string, value: GgufValue): void {
    this.scalar("string", key);
    const explicit = typeof value === "object" && !Array.isArray(value) && !ArrayBuffer.isView(value);
    const type = explicit ? value.type : typeOf(value);
    this.scalar("u32", GGUF_VALUE_TYPES.indexOf(type));
    if (explicit && value.type === "array") this.array(value.value, value.items);
    else if (explicit) this.scalar(value.type, value.value as MetadataValue);
    else if (type === "array") this.array(value as MetadataValue[], itemType(value as MetadataValue[]));
    else this.scalar(type, value);
  }

  array(values: ArrayLike<MetadataValue>, items: GgufValueType): void {
    this.scalar("u32", GGUF_VALUE_TYPES.indexOf(items));
    this.scalar("u64", values.length);
    for (let i = 0; i < values.length; i++) {
      const value = values[i];
      if (items === "array") this.array(value as MetadataValue[], itemType(value as MetadataValue[]));
      else this.scalar(items, value);
    }
  }

  scalar(type: GgufValueType, value: MetadataValue): void {
    if (type === "string") {
      const text = Buffer.from(String(value));
      this.scalar("u64", text.length);
      this.raw(text);
      return;
    }
    const bytes = Buffer.alloc(8);
    try {
      this.raw(bytes.subarray(0, put(bytes, type, value)));
    } catch (cause) {
      throw invalid("A metadata value", `a ${type} (${(cause as Error).message})`, value);
    }
  }
}

/** Writes a number at the start of `bytes`; returns its size. */
function put(bytes: Buffer, type: GgufValueType, value: MetadataValue): number {
  const number = Number(value);
  switch (type) {
    case "u8":
    case "bool":
      return bytes.writeUInt8(number);
    case "i8":
      return bytes.writeInt8(number);
    case "u16":
      return bytes.writeUInt16LE(number);
    case "i16":
      return bytes.writeInt16LE(number);
    case "u32":
      return bytes.writeUInt32LE(number);
    case "i32":
      return bytes.writeInt32LE(number);
    case "f32":
      return bytes.writeFloatLE(number);
    case "f64":
      return bytes.writeDoubleLE(number);
    case "u64":
      return bytes.writeBigUInt64LE(BigInt(value as number));
    case "i64":
      return bytes.writeBigInt64LE(BigInt(value as number));
    default:
      throw new TypeError(`${type} is not a number`);
  }
}

/** The item type of an array: its element type, or the one all its items choose. */
function itemType(values: MetadataValue[] | ArrayBufferView): GgufValueType {
  const typed = ARRAY_TYPES.get(values.constructor);
  if (typed !== undefined) return typed;
  const types = new Set((values as MetadataValue[]).map(typeOf));
  if (types.size === 0) return "string";
  if (types.size === 1) return [...types][0];
  if (["u32", "i32"].every((type) => types.has(type as GgufValueType)) && types.size === 2) return "i64";
  throw invalid("The items of an array", "of one type", [...types].join(" and "));
}
