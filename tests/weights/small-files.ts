/** Small model files for the tests of this room: built by hand, not by the writers under test. */
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { type ErrorCode, SglangError } from "../../src/core/errors.js";

/** A folder that is gone after the tests of the file that asked for it. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "sglang-weights-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Writes a file with a fixed mtime and returns its path. */
export function put(folder: string, name: string, content: string | Uint8Array | object): string {
  const path = join(folder, name);
  const raw = typeof content === "string" || content instanceof Uint8Array ? content : JSON.stringify(content);
  writeFileSync(path, raw);
  utimesSync(path, 1_700_000_000, 1_700_000_000);
  return path;
}

/** The SglangError that `run` throws; any other outcome throws an Error. */
export function caught(run: () => unknown): SglangError {
  try {
    run();
  } catch (error) {
    if (error instanceof SglangError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

export function expectError(error: unknown, code: ErrorCode, message: RegExp): void {
  if (!(error instanceof SglangError)) throw new Error(`not an SglangError: ${error}`);
  if (error.code !== code || !message.test(error.message)) {
    throw new Error(`expected ${code} ${message}, got ${error.code}: ${error.message}`);
  }
}

export const u8 = (n: number): Buffer => Buffer.from([n]);
export const u32 = (n: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(n);
  return bytes;
};
export const u64 = (n: number | bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(n));
  return bytes;
};
export const text = (s: string): Buffer => Buffer.concat([u64(Buffer.byteLength(s)), Buffer.from(s)]);

/** Ids of GGUF value types. */
export const TYPE = { u8: 0, u32: 4, bool: 7, string: 8, array: 9 } as const;

/** A metadata entry. */
export const entry = (key: string, type: number, ...value: Buffer[]): Buffer =>
  Buffer.concat([text(key), u32(type), ...value]);

/** A tensor info; `ne` is in ggml's order. */
export const info = (name: string, ne: (number | bigint)[], type: number, offset: number | bigint): Buffer =>
  Buffer.concat([text(name), u32(ne.length), ...ne.map(u64), u32(type), u64(offset)]);

export interface RawGguf {
  magic?: string;
  version?: Buffer;
  /** Instead of the true counts. */
  tensorCount?: number | bigint;
  entryCount?: number | bigint;
  entries?: Buffer[];
  infos?: Buffer[];
  data?: Uint8Array;
  alignment?: number;
}

/** A GGUF file from its pieces, sound or not. */
export function rawGguf(raw: RawGguf = {}): Buffer {
  const { entries = [], infos = [], data = new Uint8Array(0), alignment = 32 } = raw;
  const header = Buffer.concat([
    Buffer.from(raw.magic ?? "GGUF"),
    raw.version ?? u32(3),
    u64(raw.tensorCount ?? infos.length),
    u64(raw.entryCount ?? entries.length),
    ...entries,
    ...infos,
  ]);
  return Buffer.concat([header, Buffer.alloc((alignment - (header.length % alignment)) % alignment), data]);
}

/** A safetensors file from its header, sound or not. */
export function rawSafetensors(header: object | string, data: Uint8Array = new Uint8Array(0), length?: bigint): Buffer {
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  return Buffer.concat([u64(length ?? json.length), json, data]);
}
