/** A GGUF model in one file or in parts named `NAME-00001-of-00003.gguf`: metadata from the first, tensors from all. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { SglangError } from "../core/errors.js";
import type { Metadata, TensorInfo } from "../core/model-files.js";
import { ModelFile, malformed } from "./file-reader.js";
import { type GgufFile, parseGguf } from "./gguf.js";

const PART_NAME = /-(\d{5})-of-(\d{5})\.gguf$/;

/** Paths of all parts of the model that `path` is a part of, in order; `[path]` for a model in one file. */
export function ggufParts(path: string): string[] {
  const match = PART_NAME.exec(path);
  if (match === null || Number(match[1]) < 1 || Number(match[1]) > Number(match[2])) return [path];
  const stem = path.slice(0, match.index);
  return Array.from(
    { length: Number(match[2]) },
    (_, i) => `${stem}-${String(i + 1).padStart(5, "0")}-of-${match[2]}.gguf`,
  );
}

export interface GgufModel {
  /** Open; the caller closes them. */
  readonly files: ModelFile[];
  /** Of each file. */
  readonly headerBytes: number[];
  readonly metadata: Metadata;
  readonly tensors: readonly TensorInfo[];
}

/**
 * Opens a model given any of its parts.
 * @throws SglangError FILE_NOT_FOUND naming missing parts; MALFORMED_FILE when the parts don't belong together.
 */
export function openGguf(path: string): GgufModel {
  const paths = ggufParts(resolve(path));
  if (paths.length > 1) requireParts(paths);
  const files: ModelFile[] = [];
  try {
    const parts: GgufFile[] = [];
    for (const part of paths) {
      files.push(new ModelFile(part));
      parts.push(parseGguf(files[files.length - 1]));
      checkPart(part, parts[parts.length - 1].metadata, parts.length - 1, paths.length);
    }
    const tensors = mergeTensors(parts);
    const total = parts[0].metadata["split.tensors.count"];
    if (total !== undefined && total !== tensors.length) {
      throw malformed(paths[0], `split.tensors.count is ${total} but the parts hold ${tensors.length} tensors.`);
    }
    return { files, headerBytes: parts.map((part) => part.headerBytes), metadata: parts[0].metadata, tensors };
  } catch (error) {
    for (const file of files) file.close();
    throw error;
  }
}

function requireParts(paths: string[]): void {
  const missing = paths.filter((part) => !existsSync(part));
  if (missing.length === 0) return;
  throw new SglangError(
    "FILE_NOT_FOUND",
    `${missing.length} of the ${paths.length} parts of this model are missing: ${missing.slice(0, 8).join(", ")}${missing.length > 8 ? ", ..." : ""}.`,
    { file: missing[0], expected: `${paths.length} parts` },
  );
}

/** `split.count` and `split.no` must agree with the file's name; a file without them must be alone. */
function checkPart(path: string, metadata: Metadata, index: number, count: number): void {
  const splitCount = metadata["split.count"] ?? 1;
  if ((splitCount === 0 ? 1 : splitCount) !== count) {
    throw malformed(
      path,
      `split.count is ${splitCount} but its name says ${count} ${count === 1 ? "part" : "parts"}; parts keep names like model-00001-of-00003.gguf.`,
      { expected: `split.count ${count}`, found: String(splitCount) },
    );
  }
  const number = metadata["split.no"] ?? 0;
  if (number !== index) {
    throw malformed(path, `split.no is ${number} but its name says ${index}.`, {
      expected: `split.no ${index}`,
      found: String(number),
    });
  }
}

function mergeTensors(parts: readonly GgufFile[]): TensorInfo[] {
  const byName = new Map<string, TensorInfo>();
  for (const part of parts) {
    for (const tensor of part.tensors) {
      const other = byName.get(tensor.name);
      if (other)
        throw malformed(tensor.file, `tensor ${tensor.name} is also in ${other.file}.`, { tensor: tensor.name });
      byName.set(tensor.name, tensor);
    }
  }
  return [...byName.values()];
}
