/** The safetensors weights of a model folder: `model.safetensors`, or shards listed by `model.safetensors.index.json`. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { SglangError } from "../core/errors.js";
import type { TensorInfo } from "../core/model-files.js";
import { ModelFile, malformed } from "./file-reader.js";
import { readJsonFile } from "./json-file.js";
import { parseSafetensors, type SafetensorsFile } from "./safetensors.js";

export const SINGLE_FILE = "model.safetensors";
export const INDEX_FILE = "model.safetensors.index.json";
/** The name of a file in the same folder, nothing else: no path, no way up, no percent-encoded way up. */
const SHARD_NAME = /^[^/\\%\0:]+\.safetensors$/;

export interface SafetensorsModel {
  /** Open; the caller closes them. */
  readonly files: ModelFile[];
  /** Of each file. */
  readonly headerBytes: number[];
  readonly tensors: readonly TensorInfo[];
  readonly skipped: readonly { name: string; dtype: string }[];
}

/** Whether a folder has safetensors weights under the names that are looked for. */
export function hasSafetensors(folder: string): boolean {
  return existsSync(join(folder, SINGLE_FILE)) || existsSync(join(folder, INDEX_FILE));
}

/**
 * Opens the weights of a folder. `model.safetensors` wins over an index, as in transformers.
 * @throws SglangError FILE_NOT_FOUND naming missing shards; MALFORMED_FILE when index and shards disagree.
 */
export function openSafetensorsFolder(folder: string): SafetensorsModel {
  const weightMap = existsSync(join(folder, SINGLE_FILE)) ? null : readWeightMap(join(folder, INDEX_FILE));
  const names = weightMap === null ? [SINGLE_FILE] : [...new Set(weightMap.values())].sort();
  const missing = names.filter((name) => !existsSync(join(folder, name)));
  if (missing.length > 0) {
    throw new SglangError(
      "FILE_NOT_FOUND",
      `${folder} lacks ${missing.length} of ${names.length} weight files: ${missing.slice(0, 8).join(", ")}${missing.length > 8 ? ", ..." : ""}.`,
      { file: join(folder, missing[0]), expected: `all files that ${INDEX_FILE} names` },
    );
  }
  const files: ModelFile[] = [];
  try {
    const parts: SafetensorsFile[] = [];
    for (const name of names) {
      files.push(new ModelFile(join(folder, name)));
      parts.push(parseSafetensors(files[files.length - 1]));
    }
    if (weightMap !== null) checkShards(folder, weightMap, parts);
    return {
      files,
      headerBytes: parts.map((part) => part.headerBytes),
      tensors: parts.flatMap((part) => part.tensors),
      skipped: parts.flatMap((part) => part.skipped),
    };
  } catch (error) {
    for (const file of files) file.close();
    throw error;
  }
}

function readWeightMap(path: string): Map<string, string> {
  const map = readJsonFile(path)?.weight_map;
  if (typeof map !== "object" || map === null || Array.isArray(map) || Object.keys(map).length === 0) {
    throw malformed(path, "weight_map must be an object of tensor names to file names.", {
      expected: "{tensor: file}",
      found: JSON.stringify(map)?.slice(0, 100) ?? "nothing",
    });
  }
  for (const [tensor, file] of Object.entries(map)) {
    if (typeof file === "string" && SHARD_NAME.test(file)) continue;
    throw malformed(
      path,
      `weight_map of ${tensor} must be the name of a .safetensors file in this folder, got ${JSON.stringify(file)}.`,
      {
        tensor,
        expected: "a file name",
        found: JSON.stringify(file),
      },
    );
  }
  return new Map(Object.entries(map as Record<string, string>));
}

/** Every tensor of the map is in its shard, and no tensor is in two. */
function checkShards(folder: string, weightMap: ReadonlyMap<string, string>, parts: readonly SafetensorsFile[]): void {
  const found = new Map<string, string>();
  for (const part of parts) {
    for (const { name, file } of part.tensors) {
      const other = found.get(name);
      if (other !== undefined) throw malformed(file, `tensor ${name} is also in ${other}.`, { tensor: name });
      found.set(name, file);
    }
  }
  const skipped = new Set(parts.flatMap((part) => part.skipped.map(({ name }) => name)));
  for (const [name, shard] of weightMap) {
    if (skipped.has(name) || found.get(name) === join(folder, shard)) continue;
    throw malformed(
      join(folder, shard),
      `${INDEX_FILE} says that tensor ${name} is here, but it is ${found.has(name) ? `in ${found.get(name)}` : "not"}.`,
      {
        tensor: name,
      },
    );
  }
}

/** The error for a folder without weights that can be read: says what is there instead. */
export function noWeights(folder: string): SglangError {
  const names = readdirSync(folder);
  const torch = names.filter((name) => /\.(bin|pt|pth|ckpt)$/.test(name));
  const others = names.filter((name) => name.endsWith(".safetensors"));
  const message =
    torch.length > 0
      ? `${folder} has PyTorch pickles (${torch[0]}) and no safetensors; convert the model to safetensors.`
      : others.length > 0
        ? `${folder} has ${others.slice(0, 4).join(", ")} but no ${SINGLE_FILE} or ${INDEX_FILE}.`
        : `${folder} has no model: expected a .gguf file, or config.json with ${SINGLE_FILE}.`;
  return new SglangError("FILE_NOT_FOUND", message, {
    file: folder,
    expected: `a .gguf file, ${SINGLE_FILE} or ${INDEX_FILE}`,
  });
}
