/**
 * The safetensors format: `u64 header length | JSON header | data`, everything little-endian.
 * Reads as strictly as the reference implementation and writes byte for byte what it writes.
 */
import { DTYPES, type DType } from "../core/dtype.js";
import { SglangError } from "../core/errors.js";
import type { TensorInfo } from "../core/model-files.js";
import { writeAtomically } from "./atomic-write.js";
import { type ModelFile, malformed, recognise } from "./file-reader.js";
import { encodeFloat16 } from "./float16.js";

/** The reference's own limit; 1000 layers of tensor names need about 1 MB. */
const MAX_HEADER_BYTES = 100_000_000;
/** Convolutions over video have 5 dimensions; the format itself sets no limit. */
const MAX_DIMS = 8;

/** Types this package computes with. */
export type SafetensorsDType = "F32" | "F16" | "BF16";
const READABLE = new Set(["F32", "F16", "BF16"]);
/** Every other type of the format with its bits per element, so that files that carry them are still checked whole. */
const OTHER_BITS: Record<string, number> = Object.fromEntries(
  Object.entries({
    4: ["F4"],
    6: ["F6_E2M3", "F6_E3M2"],
    8: ["BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"],
    16: ["I16", "U16"],
    32: ["I32", "U32"],
    64: ["F64", "I64", "U64", "C64"],
  }).flatMap(([bits, names]) => names.map((name) => [name, Number(bits)])),
);
/** Integer buffers that PyTorch saved beside the weights; they hold nothing that was learnt. */
const BUFFER_NAMES = /(^|\.)(position_ids|token_type_ids|masked_bias|attn\.bias|attention\.bias|num_batches_tracked)$/;

export interface SafetensorsFile {
  readonly tensors: readonly TensorInfo[];
  /** Non-weight buffers of unreadable types that were left out. */
  readonly skipped: readonly { name: string; dtype: string }[];
  /** `__metadata__`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Where the data begins. */
  readonly headerBytes: number;
}

/**
 * Parses the header of an open file. Tensors come in the order of their data.
 * @throws SglangError MALFORMED_FILE | UNSUPPORTED_MODEL naming the tensor.
 */
export function parseSafetensors(file: ModelFile): SafetensorsFile {
  const header = readHeader(file);
  const dataStart = header.bytes;
  const dataSize = file.size - dataStart;
  const metadata: Record<string, string> = Object.create(null);
  const entries: { name: string; dtype: string; shape: number[]; begin: number; end: number }[] = [];
  for (const [name, value] of Object.entries(header.json)) {
    if (name === "__metadata__") Object.assign(metadata, checkMetadata(file, value));
    else entries.push(checkEntry(file, name, value, dataSize));
  }
  // Data must be one gapless sequence: a hole could hide bytes, an overlap makes two tensors one.
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let covered = 0;
  for (const { name, begin, end } of entries) {
    if (begin !== covered) {
      throw malformed(
        file.path,
        `tensor ${name} starts at data byte ${begin} but the tensor before it ends at ${covered}: ${begin < covered ? "they overlap" : "there is a hole"}.`,
        { tensor: name, expected: `data_offsets from ${covered}`, found: String(begin) },
      );
    }
    covered = end;
  }
  if (covered < dataSize) {
    throw malformed(file.path, `${dataSize - covered} bytes after the last tensor belong to none.`, {
      expected: `${dataStart + covered} bytes`,
      found: `${file.size} bytes`,
    });
  }
  const tensors: TensorInfo[] = [];
  const skipped: { name: string; dtype: string }[] = [];
  for (const { name, dtype, shape, begin, end } of entries) {
    if (READABLE.has(dtype)) {
      const offset = dataStart + begin;
      tensors.push({ name, dtype: dtype as DType, shape, file: file.path, offset, byteLength: end - begin });
    } else if (BUFFER_NAMES.test(name)) {
      skipped.push({ name, dtype });
    } else {
      throw new SglangError(
        "UNSUPPORTED_MODEL",
        `${file.path}: tensor ${name} has dtype ${dtype}, which is not supported; save the model as F32, F16 or BF16.`,
        { file: file.path, tensor: name, expected: "F32, F16 or BF16", found: dtype },
      );
    }
  }
  return { tensors, skipped, metadata, headerBytes: dataStart };
}

function readHeader(file: ModelFile): { json: Record<string, unknown>; bytes: number } {
  const start = file.read(0, Math.min(9, file.size));
  if (file.size < 9)
    throw malformed(file.path, `not a safetensors file: ${file.size} bytes are too few${recognise(start)}.`);
  const length = new DataView(start.buffer).getBigUint64(0, true);
  if (start[8] !== 0x7b) {
    const more = file.read(0, Math.min(64, file.size));
    throw malformed(file.path, `not a safetensors file: the header does not begin with "{"${recognise(more)}.`);
  }
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw malformed(file.path, `the header claims ${length} bytes.`, {
      expected: `at most ${MAX_HEADER_BYTES}`,
      found: String(length),
    });
  }
  const raw = file.read(8, Number(length), "the header");
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(raw);
    const json: unknown = JSON.parse(text);
    const twice = duplicateKey(text);
    if (twice !== undefined) throw new SyntaxError(`${twice} is there twice`);
    return { json: json as Record<string, unknown>, bytes: 8 + raw.length };
  } catch (cause) {
    throw malformed(file.path, `the header is not valid JSON: ${(cause as Error).message}.`);
  }
}

/** First key that the outermost object of valid JSON has twice: JSON.parse would keep the last and say nothing. */
function duplicateKey(json: string): string | undefined {
  const seen = new Set<string>();
  const tokens = /"[^"\\]*(?:\\.[^"\\]*)*"(\s*:)?|[{}[\]]/g;
  let depth = 0;
  for (let match = tokens.exec(json); match !== null; match = tokens.exec(json)) {
    const [text, colon] = match;
    if (text === "{" || text === "[") depth++;
    else if (text === "}" || text === "]") depth--;
    else if (depth === 1 && colon !== undefined) {
      const key = JSON.parse(text.slice(0, -colon.length)) as string;
      if (seen.has(key)) return key;
      seen.add(key);
    }
  }
  return undefined;
}

function checkMetadata(file: ModelFile, value: unknown): Record<string, string> {
  if (isObject(value) && Object.values(value).every((text) => typeof text === "string"))
    return value as Record<string, string>;
  throw malformed(file.path, "__metadata__ must be an object of texts.", {
    expected: "{string: string}",
    found: JSON.stringify(value)?.slice(0, 100),
  });
}

function checkEntry(file: ModelFile, name: string, value: unknown, dataSize: number) {
  const fail = (what: string, expected: string, found: unknown): never => {
    const shown = JSON.stringify(found)?.slice(0, 100) ?? "nothing";
    throw malformed(file.path, `tensor ${name}: ${what} must be ${expected}, got ${shown}.`, {
      tensor: name,
      expected,
      found: shown,
    });
  };
  if (!isObject(value)) return fail("the entry", "an object", value);
  const { dtype, shape, data_offsets: offsets, ...rest } = value;
  for (const key of Object.keys(rest)) fail("the entry", "of dtype, shape and data_offsets", key);
  if (typeof dtype !== "string" || !(READABLE.has(dtype) || Object.hasOwn(OTHER_BITS, dtype))) {
    return fail("dtype", "a safetensors type", dtype);
  }
  if (!Array.isArray(shape) || shape.length > MAX_DIMS || !shape.every(isCount)) {
    return fail("shape", `a list of at most ${MAX_DIMS} sizes`, shape);
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount) || offsets[0] > offsets[1]) {
    return fail("data_offsets", "[begin, end] with begin <= end", offsets);
  }
  const [begin, end] = offsets as [number, number];
  if (end > dataSize) throw file.truncated(file.size - dataSize + end, `tensor ${name}`);
  const bits = READABLE.has(dtype) ? DTYPES[dtype as DType].bytes * 8 : OTHER_BITS[dtype];
  // BigInt: the product of hostile sizes must not round.
  const size = (shape as number[]).reduce((product, n) => product * BigInt(n), BigInt(bits));
  if (size !== BigInt(end - begin) * 8n) {
    fail("data_offsets", `${Number(size) / 8} bytes apart for ${dtype} [${shape.join(", ")}]`, offsets);
  }
  return { name, dtype, shape: shape as number[], begin, end };
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** A tensor to write. */
export interface TensorToWrite {
  name: string;
  dtype: SafetensorsDType;
  /** Row-major, outermost first. */
  shape: readonly number[];
  /** Raw little-endian bytes of `dtype`; or f32 values, which are rounded to `dtype` (nearest, ties to even). */
  data: Uint8Array | Uint16Array | Float32Array;
}

/** The reference writes the widest type first, so that every tensor is aligned. */
const WRITE_ORDER: Record<SafetensorsDType, number> = { F32: 0, BF16: 1, F16: 2 };

/**
 * Writes one safetensors file: 8-byte aligned header, the reference's order of tensors, atomically.
 * @param metadata goes into `__metadata__`; Hugging Face writes `{format: "pt"}`.
 * @throws SglangError INVALID_ARGUMENT when a name is there twice or the data does not fit the shape; FILE_NOT_FOUND when `path` can't be written.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorToWrite[],
  metadata?: Readonly<Record<string, string>>,
): Promise<void> {
  const invalid = (tensor: string, message: string) =>
    new SglangError("INVALID_ARGUMENT", `${path}: tensor ${tensor} ${message}`, { file: path, tensor });
  const ordered = [...tensors].sort(
    (a, b) => WRITE_ORDER[a.dtype] - WRITE_ORDER[b.dtype] || byCodePoint(a.name, b.name),
  );
  // Entries, not an object: an object would move names like "0" to the front.
  const header: string[] = metadata ? [`"__metadata__":${JSON.stringify(metadata)}`] : [];
  const names = new Set(["__metadata__"]);
  const data: Uint8Array[] = [];
  let offset = 0;
  for (const tensor of ordered) {
    const { name, dtype, shape } = tensor;
    if (names.has(name)) throw invalid(name, "is there twice or has a reserved name.");
    names.add(name);
    if (shape.length > MAX_DIMS || !shape.every(isCount)) throw invalid(name, `has the shape [${shape.join(", ")}].`);
    const bytes = tensorBytes(tensor);
    const expected = shape.reduce((product, n) => product * n, DTYPES[dtype].bytes);
    if (bytes.length !== expected) {
      throw invalid(name, `has ${bytes.length} bytes of data, but ${dtype} [${shape.join(", ")}] takes ${expected}.`);
    }
    const entry = { dtype, shape, data_offsets: [offset, offset + expected] };
    header.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`);
    data.push(bytes);
    offset += expected;
  }
  const text = Buffer.from(`{${header.join(",")}}`);
  const padded = Buffer.alloc(Math.ceil(text.length / 8) * 8, " ");
  text.copy(padded);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  await writeAtomically(path, [length, padded, ...data]);
}

function tensorBytes({ data, dtype }: TensorToWrite): Uint8Array {
  if (data instanceof Float32Array && dtype !== "F32") return encodeFloat16(data, dtype);
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** Order of UTF-8 bytes, which is what Rust's string order is. */
function byCodePoint(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
