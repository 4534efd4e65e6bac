/**
 * From what a user writes after `--model-path` to a path on this disk. In this order: a file or folder that exists; a
 * name or alias of the catalog; `org/name[:file]` of Hugging Face; `modelscope:org/name[:file]`.
 */
import { readdir, rm, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { SglangError } from "../core/errors.js";
import { cacheFolders, envFlag, expandHome, withLock } from "./cache.js";
import { CATALOG, type CatalogModel, findModel, MIRRORS, type MirrorId, nearMisses } from "./catalog.js";
import { catalogFolder, catalogPath, fetchCatalogModel, findInHubCache, locateCatalogModel } from "./fetch-catalog.js";
import { type RepoSpec, resolveRepo } from "./fetch-repo.js";
import type { HubContext } from "./hub.js";
import { HubCache } from "./hub-cache.js";
import { modelScopeFolder } from "./modelscope-cache.js";
import { partialLength } from "./partial-file.js";
import { abortedError } from "./transfer.js";

export interface ResolveOptions extends HubContext {
  /** Never touch the network. @default true when SGLANG_OFFLINE or HF_HUB_OFFLINE is 1 */
  offline?: boolean;
  /** Mirror of a catalog model to try first. @default the catalog's order */
  mirror?: MirrorId;
  /** Folder for downloads instead of the usual caches (see cache.ts). */
  cacheDir?: string;
  /** Branch, tag or commit of a hub repository. @default the hub's main branch */
  revision?: string;
  /** Hash files that are already there, and fetch damaged ones again. @default false */
  verify?: boolean;
}

export interface ResolvedModel {
  /** Absolute path of a file or folder. */
  path: string;
  /** Short name for people and for `/v1/models`. */
  name: string;
  /** Where it was: on this disk (`local`: the path given; `cache`: fetched before), or where it came from now. */
  source: "local" | "cache" | MirrorId;
}

type ModelSpec = { kind: "catalog"; model: CatalogModel } | ({ kind: "repo" } & RepoSpec);

/**
 * Turns a model spec into a local path, fetching it if need be.
 * @throws SglangError FILE_NOT_FOUND (a path that is not there, or offline and not cached), NOT_FOUND (no such name;
 *   the message offers near misses), DOWNLOAD_FAILED, CHECKSUM_MISMATCH, ABORTED
 */
export async function resolveModel(spec: string, options: ResolveOptions = {}): Promise<ResolvedModel> {
  const local = resolve(expandHome(spec));
  if (spec !== "" && (await stat(local).catch(() => null))) {
    return { path: local, name: basename(local).replace(/\.gguf$/i, ""), source: "local" };
  }
  const env = options.env ?? process.env;
  const offline = options.offline ?? (envFlag(env.SGLANG_OFFLINE) || envFlag(env.HF_HUB_OFFLINE));
  const folders = cacheFolders(options);
  try {
    const parsed = parseSpec(spec);
    if (parsed.kind === "repo") {
      const revision = options.revision ?? parsed.revision;
      const found = await resolveRepo({ ...parsed, revision }, folders, { ...options, offline });
      return { ...found, name: parsed.repo };
    }
    const { model } = parsed;
    if (options.mirror !== undefined && !MIRRORS.includes(options.mirror)) throw badMirror(options.mirror);
    const there = await locateCatalogModel(model, folders, options, options.verify);
    if (there) return { path: there, name: model.name, source: "cache" };
    if (offline) {
      const path = catalogPath(model, folders);
      throw new SglangError(
        "FILE_NOT_FOUND",
        `${path} is not there or damaged, and the network is not to be used: fetch it once with \`sglang-ts models pull ${model.name}\`.`,
        { file: path },
      );
    }
    const fetched = await fetchCatalogModel(model, folders, options.mirror, options);
    return { ...fetched, name: model.name };
  } catch (error) {
    if (options.signal?.aborted && !SglangError.isInstance(error)) throw abortedError(spec, error);
    throw error;
  }
}

export interface CatalogStatus {
  model: CatalogModel;
  /** Path when every file is there with its size; null otherwise. */
  path: string | null;
  /** Bytes that an interrupted download left. */
  partialBytes: number;
}

/** What of the catalog is on this disk. Looks at sizes only. */
export async function catalogStatus(options: ResolveOptions = {}): Promise<CatalogStatus[]> {
  const folders = cacheFolders(options);
  return Promise.all(
    CATALOG.map(async (model) => {
      const folder = catalogFolder(model, folders);
      const sizes = await Promise.all(
        model.files.map(async (file) => (await stat(join(folder, file.path)).catch(() => null))?.size === file.size),
      );
      const partials = await Promise.all(model.files.map((file) => partialLength(join(folder, file.path))));
      const partialBytes = partials.reduce((sum, bytes) => sum + bytes, 0);
      const path = sizes.every(Boolean) ? catalogPath(model, folders) : await findInHubCache(model, folders);
      return { model, path, partialBytes };
    }),
  );
}

/**
 * Deletes a fetched model: a catalog model's folder, or a hub repository with all its revisions from that hub's cache.
 * @returns the folder and the bytes it held
 * @throws SglangError NOT_FOUND when nothing of it is there, FILE_NOT_FOUND / NOT_FOUND as resolveModel for a bad spec
 */
export async function removeModel(
  spec: string,
  options: ResolveOptions = {},
): Promise<{ folder: string; bytes: number }> {
  const folders = cacheFolders(options);
  const parsed = parseSpec(spec);
  const folder =
    parsed.kind === "catalog"
      ? catalogFolder(parsed.model, folders)
      : parsed.hub === "huggingface"
        ? new HubCache(folders.hub, parsed.repo).folder
        : modelScopeFolder(folders.modelscope, parsed.repo);
  if (!(await stat(folder).catch(() => null))) {
    throw new SglangError("NOT_FOUND", `There is nothing to remove: ${folder} does not exist.`, { file: folder });
  }
  return withLock(folder, spec, options, async () => {
    const bytes = await folderBytes(folder);
    await rm(folder, { recursive: true, force: true });
    return { folder, bytes };
  });
}

/** @throws SglangError FILE_NOT_FOUND for what looks like a path, NOT_FOUND for an unknown name */
function parseSpec(spec: string): ModelSpec {
  const model = findModel(spec);
  if (model) return { kind: "catalog", model };
  const match = /^(?:(modelscope|huggingface|hf):)?([A-Za-z0-9][\w.-]*\/[A-Za-z0-9_][\w.-]*)(?::(.+))?$/i.exec(spec);
  if (match && (match[1] !== undefined || match[3] !== undefined || !looksLikeFile(spec))) {
    const hub = match[1]?.toLowerCase() === "modelscope" ? "modelscope" : "huggingface";
    return { kind: "repo", hub, repo: match[2], file: match[3] };
  }
  if (looksLikeFile(spec)) {
    const path = resolve(expandHome(spec));
    throw new SglangError(
      "FILE_NOT_FOUND",
      `${path} does not exist: give a GGUF file or a folder with safetensors weights.`,
      {
        field: "model",
        file: path,
      },
    );
  }
  const close = nearMisses(spec);
  const hint = close.length > 0 ? ` Did you mean ${close.join(" or ")}?` : "";
  throw new SglangError(
    "NOT_FOUND",
    `No model is called ${JSON.stringify(spec)}.${hint} Known are ${CATALOG.map((entry) => entry.name).join(", ")}; ` +
      "a file, a folder, org/name of Hugging Face and modelscope:org/name work too.",
    { field: "model", expected: CATALOG.map((entry) => entry.name).join(", "), found: spec },
  );
}

function looksLikeFile(spec: string): boolean {
  return (
    /^(?:\.{1,2}(?:[/\\]|$)|[/\\~]|[a-zA-Z]:[\\/])/.test(spec) ||
    /\.(?:gguf|safetensors|bin|pth|json)$/i.test(spec) ||
    spec.includes("\\") ||
    spec.split("/").length > 2 ||
    spec.endsWith("/")
  );
}

function badMirror(found: string): SglangError {
  return new SglangError("INVALID_ARGUMENT", `--mirror must be one of ${MIRRORS.join(", ")}, got ${found}.`, {
    field: "--mirror",
    expected: MIRRORS.join(", "),
    found,
  });
}

async function folderBytes(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath ?? entry.path, entry.name))).size;
  }
  return bytes;
}
