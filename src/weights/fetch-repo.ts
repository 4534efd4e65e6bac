/**
 * Brings `org/name` of a hub to this disk, into the folder where that hub's Python library keeps it, so that each finds
 * what the other fetched. Without network, or when the hub can't be reached, what is there is used if it is complete.
 */
import { readFile, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { SglangError } from "../core/errors.js";
import { type CacheFolders, isIntact, withLock, writeStamp } from "./cache.js";
import { hashFile } from "./digest.js";
import { downloadFile } from "./download.js";
import { type Hub, type HubContext, type HubFile, type HubSnapshot, huggingFaceHub, modelScopeHub } from "./hub.js";
import { HubCache } from "./hub-cache.js";
import { modelScopeFiles, modelScopeFolder } from "./modelscope-cache.js";
import { selectFiles } from "./select-files.js";
import { ProgressSum } from "./transfer.js";

/** Connections at a time: one rarely fills a line, many are impolite. */
const PARALLEL = 4;

export interface RepoSpec {
  hub: "huggingface" | "modelscope";
  /** `org/name` */
  repo: string;
  /** File, or quantisation such as `Q5_K_M`, inside the repository. */
  file?: string;
  /** Branch, tag or commit. @default the hub's main branch */
  revision?: string;
}

export interface RepoOptions extends HubContext {
  offline?: boolean;
  /** Hash files that are already there. */
  verify?: boolean;
}

/** As the user would write it. */
export function repoText({ hub, repo, file }: RepoSpec): string {
  return `${hub === "modelscope" ? "modelscope:" : ""}${repo}${file ? `:${file}` : ""}`;
}

/**
 * @returns absolute path of the GGUF file or of the folder, and where it came from
 * @throws SglangError FILE_NOT_FOUND (offline and not there), NOT_FOUND, DOWNLOAD_FAILED, CHECKSUM_MISMATCH, UNSUPPORTED_MODEL
 */
export async function resolveRepo(
  spec: RepoSpec,
  folders: CacheFolders,
  options: RepoOptions,
): Promise<{ path: string; source: "cache" | RepoSpec["hub"] }> {
  const hub = spec.hub === "huggingface" ? huggingFaceHub(options) : modelScopeHub(options);
  if (options.offline) return { path: await findComplete(spec, hub, folders), source: "cache" };
  let snapshot: HubSnapshot;
  try {
    snapshot = await hub.snapshot(spec.repo, spec.revision);
  } catch (error) {
    if (options.signal?.aborted || !SglangError.isInstance(error) || error.code !== "DOWNLOAD_FAILED") throw error;
    const there = await findComplete(spec, hub, folders).catch(() => null);
    if (there === null) {
      const endpoint = spec.hub === "huggingface" ? "HF_ENDPOINT" : "MODELSCOPE_DOMAIN";
      throw new SglangError(
        "DOWNLOAD_FAILED",
        `${repoText(spec)} can't be fetched: ${error.message.replace(/\.$/, "")}. Try later, name a mirror of the hub with ${endpoint}, or give a local path.`,
        error.details,
        { cause: error },
      );
    }
    options.onMessage?.(`${error.message}, using the copy of ${spec.repo} that is already here.`);
    return { path: there, source: "cache" };
  }
  const { paths, main } = selectFiles(spec.repo, snapshot.files, spec.file);
  const wanted = snapshot.files.filter((file) => paths.includes(file.path));
  const store = spec.hub === "huggingface" ? hubStore(spec, hub, folders, snapshot) : flatStore(spec, folders);
  const fetched = await fetchAll(spec, snapshot, wanted, store, options);
  await store.complete();
  return { path: main ? join(store.folder, ...main.split("/")) : store.folder, source: fetched ? spec.hub : "cache" };
}

/** How a hub's cache folder takes files. */
interface Store {
  /** Folder that shows the files under their own names. */
  folder: string;
  /** Where the bytes of a file go, and the path to lock meanwhile. */
  place(file: HubFile): { destination: string; lock: string };
  has(file: HubFile, destination: string, options: RepoOptions): Promise<boolean>;
  /** The bytes are in place. */
  added(file: HubFile, destination: string): Promise<void>;
  /** All files are in place. */
  complete(): Promise<void>;
}

function hubStore(spec: RepoSpec, hub: Hub, folders: CacheFolders, snapshot: HubSnapshot): Store {
  const cache = new HubCache(folders.hub, spec.repo);
  return {
    folder: cache.snapshotFolder(snapshot.revision),
    place(file) {
      const destination = cache.blobPath(file.digest!);
      return {
        destination,
        lock: join(folders.hub, ".locks", basename(cache.folder), `${basename(destination)}.sglang`),
      };
    },
    async has(file, destination, options) {
      const info = await stat(destination).catch(() => null);
      if (info?.size !== file.size) return false;
      if (!options.verify) return true;
      const { hex } = await hashFile(destination, info.size, file.digest!.algorithm, { signal: options.signal });
      if (hex === file.digest!.hex) return true;
      options.onMessage?.(`${file.path} is damaged, fetching it again.`);
      await rm(destination, { force: true });
      return false;
    },
    async added(file, destination) {
      await cache.link(snapshot.revision, file.path, destination);
    },
    complete: () => cache.rememberRef(spec.revision ?? hub.defaultRevision, snapshot.revision),
  };
}

function flatStore(spec: RepoSpec, folders: CacheFolders): Store {
  const folder = modelScopeFolder(folders.modelscope, spec.repo);
  return {
    folder,
    place(file) {
      const destination = join(folder, ...file.path.split("/"));
      return { destination, lock: destination };
    },
    async has(file, destination, options) {
      if (file.digest) {
        return isIntact(
          destination,
          { size: file.size, sha256: file.digest.hex },
          { signal: options.signal },
          options.verify,
        );
      }
      return (await stat(destination).catch(() => null))?.size === file.size;
    },
    async added(file, destination) {
      if (file.digest) await writeStamp(destination, file.digest.hex);
    },
    async complete() {},
  };
}

/** Fetches what is missing, a few at a time. True when anything was. */
async function fetchAll(
  spec: RepoSpec,
  snapshot: HubSnapshot,
  files: readonly HubFile[],
  store: Store,
  options: RepoOptions,
): Promise<boolean> {
  const total = files.reduce((sum, file) => sum + file.size, 0);
  const failure = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, failure.signal]) : failure.signal;
  const sum = new ProgressSum(spec.repo, total, { ...options, signal });
  // The small files first: a wrong config.json is found before gigabytes have come.
  const queue = [...files].sort((a, b) => a.size - b.size);
  let fetched = false;

  const fetchOne = async (file: HubFile): Promise<void> => {
    const { destination, lock } = store.place(file);
    const inner = { ...options, ...sum.part(file.path) };
    if (!(await store.has(file, destination, inner))) {
      await withLock(lock, file.path, inner, async (lockSignal) => {
        // Another process may have brought it meanwhile. Without verify: the check above removed a damaged one.
        if (await store.has(file, destination, { ...inner, verify: false, signal: lockSignal })) return;
        fetched = true;
        const request = {
          url: file.url,
          headers: snapshot.headers,
          destination,
          label: basename(file.path),
          size: file.size,
          digest: file.digest,
        };
        await downloadFile(request, { ...inner, signal: lockSignal });
      });
    }
    await store.added(file, destination);
    sum.done(file.path, file.size);
  };
  const worker = async (): Promise<void> => {
    for (let file = queue.shift(); file; file = queue.shift()) {
      signal.throwIfAborted();
      await fetchOne(file);
    }
  };
  const workers = Array.from({ length: PARALLEL }, () =>
    worker().catch((error: unknown) => {
      // The first failure stops the others; theirs are only its echo.
      if (!failure.signal.aborted) failure.abort(error);
    }),
  );
  await Promise.all(workers);
  options.signal?.throwIfAborted();
  if (failure.signal.aborted) throw failure.signal.reason;
  return fetched;
}

/** The repository as it lies on this disk, if nothing is missing. */
async function findComplete(spec: RepoSpec, hub: Hub, folders: CacheFolders): Promise<string> {
  const { folder, files } = await filesOnDisk(spec, hub, folders);
  const missing = (what: string) =>
    new SglangError(
      "FILE_NOT_FOUND",
      `${what} is not in ${folder}, and the network is not to be used: fetch it once with \`sglang-ts models pull ${repoText(spec)}\`.`,
      { file: folder, expected: what },
    );
  if (files.length === 0) throw missing(spec.file ?? spec.repo);
  let selection: ReturnType<typeof selectFiles>;
  try {
    selection = selectFiles(spec.repo, await withSizes(folder, files), spec.file);
  } catch (error) {
    // Several GGUF files are a choice to make; anything else means that what was asked for is not here.
    if (SglangError.isInstance(error) && error.code === "INVALID_REQUEST") throw error;
    throw missing(spec.file ?? spec.repo);
  }
  const { main, paths } = selection;
  if (main) return join(folder, ...main.split("/"));
  if (!paths.includes("config.json")) throw missing("config.json");
  for (const index of paths.filter((path) => path.endsWith(".safetensors.index.json"))) {
    const parsed = JSON.parse(await readFile(join(folder, index), "utf8")) as { weight_map?: Record<string, string> };
    for (const shard of new Set(Object.values(parsed.weight_map ?? {}))) {
      if (!files.includes(join(dirname(index), shard))) throw missing(shard);
    }
  }
  return folder;
}

async function filesOnDisk(
  spec: RepoSpec,
  hub: Hub,
  folders: CacheFolders,
): Promise<{ folder: string; files: string[] }> {
  if (spec.hub === "modelscope") {
    const folder = modelScopeFolder(folders.modelscope, spec.repo);
    return { folder, files: await modelScopeFiles(folder) };
  }
  const cache = new HubCache(folders.hub, spec.repo);
  const commit = await cache.commitOf(spec.revision ?? hub.defaultRevision);
  if (commit === null) return { folder: cache.folder, files: [] };
  return { folder: cache.snapshotFolder(commit), files: await cache.files(commit) };
}

async function withSizes(folder: string, files: readonly string[]): Promise<{ path: string; size: number }[]> {
  return Promise.all(files.map(async (path) => ({ path, size: (await stat(join(folder, path))).size })));
}
