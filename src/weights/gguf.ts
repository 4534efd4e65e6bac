/**
 * The header of one GGUF file: `magic | version | counts | metadata | tensor infos | padding | data`, little-endian.
 * Follows ggml's docs/gguf.md; {@link file://./gguf-split.ts} puts the parts of a split model together.
 */
import { DTYPES, dtypeFromGgml, rowBytes } from "../core/dtype.js";
import { SglangError } from "../core/errors.js";
import type { Metadata, MetadataValue, TensorInfo, TypedNumberArray } from "../core/model-files.js";
import { type ModelFile, malformed, recognise } from "./file-reader.js";
import { HeaderReader } from "./header-reader.js";

// Limits. Each is far above what real models have; together with the check against the bytes that remain in the file
// they bound the work and memory that a hostile header can cause.
/** The largest vocabularies (262 144 tokens with merges) make headers of about 15 MB. */
const MAX_HEADER_BYTES = 2 ** 28;
/** Real models have about 50 entries. */
const MAX_METADATA_ENTRIES = 2 ** 16;
/** A model of 1000 layers with experts in files of their own has about 10^5. */
const MAX_TENSORS = 2 ** 17;
/** `tokenizer.huggingface.json` holds a whole tokenizer.json, about 20 MB. */
const MAX_STRING_BYTES = 2 ** 26;
/** Metadata keys, as the specification says. */
const MAX_KEY_BYTES = 2 ** 16 - 1;
/** ggml takes 64, forks 128. */
const MAX_TENSOR_NAME_BYTES = 256;
/** Merges of the largest vocabularies are below 10^6. */
const MAX_ARRAY_LENGTH = 2 ** 24;
/** No writer nests arrays; the format allows it. */
const MAX_ARRAY_DEPTH = 4;
/** GGML_MAX_DIMS. */
const MAX_DIMS = 4;

/** Names of all ggml types by id, to name those that are not supported. */
const GGML_TYPE_NAMES = (
  "F32 F16 Q4_0 Q4_1 Q4_2 Q4_3 Q5_0 Q5_1 Q8_0 Q8_1 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K IQ2_XXS IQ2_XS IQ3_XXS IQ1_S IQ4_NL " +
  "IQ3_S IQ2_S IQ4_XS I8 I16 I32 I64 F64 IQ1_M BF16 Q4_0_4_4 Q4_0_4_8 Q4_0_8_8 TQ1_0 TQ2_0 IQ4_NL_4_4 IQ4_NL_4_8 " +
  "IQ4_NL_8_8 MXFP4 NVFP4 Q1_0"
).split(" ");

/** Ids of metadata value types, in ggml's order. */
export const GGUF_VALUE_TYPES = [
  "u8",
  "i8",
  "u16",
  "i16",
  "u32",
  "i32",
  "f32",
  "bool",
  "string",
  "array",
  "u64",
  "i64",
  "f64",
] as const;
export type GgufValueType = (typeof GGUF_VALUE_TYPES)[number];

/** Fewest bytes of a value of each type. */
const MIN_BYTES: Record<GgufValueType, number> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  bool: 1,
  string: 8,
  array: 12,
  u64: 8,
  i64: 8,
  f64: 8,
};

const TYPED_ARRAYS = {
  u8: Uint8Array,
  i8: Int8Array,
  u16: Uint16Array,
  i16: Int16Array,
  u32: Uint32Array,
  i32: Int32Array,
  f32: Float32Array,
  u64: BigUint64Array,
  i64: BigInt64Array,
  f64: Float64Array,
} satisfies Partial<Record<GgufValueType, new (buffer: ArrayBuffer) => TypedNumberArray>>;

export interface GgufFile {
  readonly version: number;
  readonly alignment: number;
  readonly metadata: Metadata;
  /** In the file's order. */
  readonly tensors: readonly TensorInfo[];
  /** Bytes before the padding in front of the data. */
  readonly headerBytes: number;
}

/**
 * Parses the header of an open file and checks that every tensor lies in it.
 * @throws SglangError MALFORMED_FILE | UNSUPPORTED_MODEL naming the key or tensor.
 */
export function parseGguf(file: ModelFile): GgufFile {
  const reader = new HeaderReader(file, MAX_HEADER_BYTES);
  const version = readVersion(reader);
  // Smallest tensor info: empty name, no dimensions. Smallest entry: empty key, one byte.
  const tensorCount = reader.count("the number of tensors", MAX_TENSORS, 8 + 4 + 4 + 8);
  const entryCount = reader.count("the number of metadata entries", MAX_METADATA_ENTRIES, 8 + 4 + 1);
  const metadata = readMetadata(reader, entryCount);
  const alignment = readAlignment(file, metadata);
  const infos = Array.from({ length: tensorCount }, (_, i) => readTensorInfo(reader, `tensor info ${i}`));
  const headerBytes = reader.offset;
  const dataStart = Math.ceil(headerBytes / alignment) * alignment;
  const tensors = infos.map((info) => placeTensor(file, info, dataStart, alignment));
  checkDistinct(file, tensors);
  return { version, alignment, metadata, tensors, headerBytes };
}

function readVersion(reader: HeaderReader): number {
  const { file } = reader;
  const start = file.read(0, Math.min(64, file.size));
  if (Buffer.from(start.subarray(0, 4)).toString("latin1") !== "GGUF") {
    throw malformed(file.path, `not a GGUF file${recognise(start)}.`, {
      expected: 'the first bytes "GGUF"',
      found: JSON.stringify(Buffer.from(start.subarray(0, 4)).toString("latin1")),
    });
  }
  reader.u32("the magic");
  const version = reader.u32("the version");
  const fail = (why: string): never => {
    throw new SglangError("UNSUPPORTED_MODEL", `${file.path}: ${why}.`, {
      file: file.path,
      expected: "GGUF version 2 or 3, little-endian",
      found: `version field ${version}`,
    });
  };
  // A small number with its bytes in the other order has nothing in its low half.
  if (version !== 0 && (version & 0xffff) === 0) fail("this GGUF file is big-endian; convert it to little-endian");
  if (version === 1) fail("GGUF version 1 is not supported; convert the model again with a current llama.cpp");
  if (version !== 2 && version !== 3) fail(`GGUF version ${version} is not known; versions 2 and 3 are`);
  return version;
}

function readMetadata(reader: HeaderReader, count: number): Metadata {
  // No prototype: a key named "constructor" is just a key.
  const metadata: Record<string, MetadataValue> = Object.create(null);
  for (let i = 0; i < count; i++) {
    const key = reader.string(`metadata key ${i}`, MAX_KEY_BYTES);
    if (key in metadata) throw malformed(reader.file.path, `the metadata key ${key} is there twice.`, { found: key });
    metadata[key] = readValue(reader, readType(reader, key), key, 0);
  }
  return metadata;
}

function readType(reader: HeaderReader, key: string): GgufValueType {
  const id = reader.u32(`the type of ${key}`);
  const type = GGUF_VALUE_TYPES[id];
  if (type !== undefined) return type;
  throw malformed(reader.file.path, `the metadata value ${key} has the unknown type ${id}.`, {
    expected: `a type from 0 to ${GGUF_VALUE_TYPES.length - 1}`,
    found: String(id),
  });
}

function readValue(reader: HeaderReader, type: GgufValueType, key: string, depth: number): MetadataValue {
  switch (type) {
    case "string":
      return reader.string(key, MAX_STRING_BYTES);
    case "bool":
      return readBool(reader, key);
    case "array":
      return readArray(reader, key, depth);
    case "u64":
    case "i64": {
      const value = reader[type](key);
      return Number.isSafeInteger(Number(value)) ? Number(value) : value;
    }
    default:
      return reader[type](key);
  }
}

function readBool(reader: HeaderReader, key: string): boolean {
  const byte = reader.u8(key);
  if (byte > 1)
    throw malformed(reader.file.path, `the truth value ${key} is ${byte}.`, {
      expected: "0 or 1",
      found: String(byte),
    });
  return byte === 1;
}

function readArray(reader: HeaderReader, key: string, depth: number): MetadataValue {
  if (depth === MAX_ARRAY_DEPTH)
    throw malformed(reader.file.path, `${key} nests arrays deeper than ${MAX_ARRAY_DEPTH}.`);
  const type = readType(reader, `the items of ${key}`);
  const length = reader.count(`the length of ${key}`, MAX_ARRAY_LENGTH, MIN_BYTES[type]);
  if (type in TYPED_ARRAYS) {
    const bytes = reader.bytes(length * MIN_BYTES[type], key);
    return new TYPED_ARRAYS[type as keyof typeof TYPED_ARRAYS](bytes.buffer);
  }
  const items: MetadataValue[] = [];
  for (let i = 0; i < length; i++) items.push(readValue(reader, type, key, depth + 1));
  return items;
}

function readAlignment(file: ModelFile, metadata: Metadata): number {
  const alignment = metadata["general.alignment"] ?? 32;
  if (
    typeof alignment === "number" &&
    Number.isSafeInteger(alignment) &&
    alignment > 0 &&
    Number.isInteger(Math.log2(alignment))
  )
    return alignment;
  throw malformed(file.path, `general.alignment must be a power of two, got ${alignment}.`, {
    expected: "a power of two",
    found: String(alignment),
  });
}

interface RawTensorInfo {
  name: string;
  /** ggml order: innermost first. */
  ne: bigint[];
  type: number;
  offset: bigint;
}

function readTensorInfo(reader: HeaderReader, what: string): RawTensorInfo {
  const name = reader.string(`the name in ${what}`, MAX_TENSOR_NAME_BYTES);
  const dims = reader.u32(`the dimensions of ${name}`);
  if (dims > MAX_DIMS) {
    throw malformed(reader.file.path, `tensor ${name} has ${dims} dimensions.`, {
      tensor: name,
      expected: `at most ${MAX_DIMS}`,
      found: String(dims),
    });
  }
  const ne = Array.from({ length: dims }, () => reader.u64(`the shape of ${name}`));
  return { name, ne, type: reader.u32(`the type of ${name}`), offset: reader.u64(`the offset of ${name}`) };
}

/** Row-major shape, absolute offset and size of a tensor; checks that it lies in the file. */
function placeTensor(file: ModelFile, info: RawTensorInfo, dataStart: number, alignment: number): TensorInfo {
  const { name, ne, type } = info;
  const dtype = dtypeFromGgml(type);
  if (dtype === undefined) {
    const found =
      GGML_TYPE_NAMES[type] === undefined
        ? `the unknown ggml type ${type}`
        : `type ${GGML_TYPE_NAMES[type]} (ggml id ${type})`;
    throw new SglangError("UNSUPPORTED_MODEL", `${file.path}: tensor ${name} has ${found}, which is not supported.`, {
      file: file.path,
      tensor: name,
      expected: Object.keys(DTYPES).join(", "),
      found,
    });
  }
  const fail = (what: string, expected: string, found: unknown): never => {
    throw malformed(file.path, `tensor ${name}: ${what} must be ${expected}, got ${found}.`, {
      tensor: name,
      expected,
      found: String(found),
    });
  };
  const { block } = DTYPES[dtype];
  if (ne.some((n) => n === 0n)) fail("every dimension", "at least 1", `[${ne.join(", ")}]`);
  if ((ne[0] ?? 1n) % BigInt(block) !== 0n) fail("the row length", `a multiple of ${block} for ${dtype}`, ne[0] ?? 1);
  // BigInt until it is known to fit: four u64 may multiply to 2^256.
  const elements = ne.reduce((product, n) => product * n, 1n);
  const available = file.size - dataStart;
  if (elements > BigInt(Number.MAX_SAFE_INTEGER))
    fail("the shape", `of at most ${available} bytes`, `[${ne.join(", ")}]`);
  const byteLength = rowBytes(dtype, Number(elements));
  const offset = Number(info.offset);
  if (offset % alignment !== 0) fail("the offset", `a multiple of ${alignment}`, info.offset);
  if (offset + byteLength > available) throw file.truncated(dataStart + offset + byteLength, `tensor ${name}`);
  return { name, dtype, shape: ne.map(Number).reverse(), file: file.path, offset: dataStart + offset, byteLength };
}

function checkDistinct(file: ModelFile, tensors: readonly TensorInfo[]): void {
  const names = new Set<string>();
  for (const { name } of tensors) {
    if (names.has(name)) throw malformed(file.path, `tensor ${name} is there twice.`, { tensor: name });
    names.add(name);
  }
  const ordered = [...tensors].sort((a, b) => a.offset - b.offset);
  for (let i = 1; i < ordered.length; i++) {
    const before = ordered[i - 1];
    const { name, offset } = ordered[i];
    if (before.offset + before.byteLength > offset) {
      throw malformed(file.path, `the tensors ${before.name} and ${name} overlap.`, {
        tensor: name,
        expected: `an offset of at least ${before.offset + before.byteLength}`,
        found: String(offset),
      });
    }
  }
}
