/**
 * Where downloaded models live, how a finished file is recognised cheaply, and the lock that lets two processes ask for
 * the same model at once.
 *
 * | what | folder |
 * |---|---|
 * | catalog models | `$SGLANG_HOME/models/<name>/`; SGLANG_HOME defaults to `$XDG_CACHE_HOME/sglang-ts`, then `~/.cache/sglang-ts` |
 * | `org/name` | the Python hub's own cache: `$HF_HUB_CACHE`, `$HF_HOME/hub`, `$XDG_CACHE_HOME/huggingface/hub`, `~/.cache/huggingface/hub` |
 * | `modelscope:org/name` | ModelScope's own cache: `$MODELSCOPE_CACHE`, then `~/.cache/modelscope/hub` |
 *
 * An explicit folder (`--download-dir`) takes all three, as `models/`, `hub/` and `modelscope/` inside it.
 */
import { mkdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import lockfile from "proper-lockfile";
import { SglangError } from "../core/errors.js";
import { hashFile } from "./digest.js";
import { pause, type Transfer } from "./transfer.js";

/** A lock whose holder has not touched it for this long belongs to a process that died. */
const LOCK_STALE_MS = 15_000;
const LOCK_POLL_MS = 500;

export interface CacheFolders {
  models: string;
  /** Layout of Python's huggingface_hub: `models--org--name/{blobs,refs,snapshots}`. */
  hub: string;
  /** Layout of Python's modelscope: `models/org/name`. */
  modelscope: string;
}

/** Absolute cache folders; nothing is created. */
export function cacheFolders(options: { cacheDir?: string; env?: NodeJS.ProcessEnv } = {}): CacheFolders {
  if (options.cacheDir) {
    const root = resolve(expandHome(options.cacheDir));
    return { models: join(root, "models"), hub: join(root, "hub"), modelscope: join(root, "modelscope") };
  }
  const env = options.env ?? process.env;
  const xdg = env.XDG_CACHE_HOME;
  // The XDG rules say that a relative path is to be ignored.
  const userCache = xdg && isAbsolute(xdg) ? xdg : join(homedir(), ".cache");
  const home = resolve(expandHome(env.SGLANG_HOME || join(userCache, "sglang-ts")));
  const huggingface = env.HF_HOME || join(userCache, "huggingface");
  return {
    models: join(home, "models"),
    hub: resolve(expandHome(env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || join(huggingface, "hub"))),
    modelscope: resolve(expandHome(env.MODELSCOPE_CACHE || join(homedir(), ".cache", "modelscope", "hub"))),
  };
}

/** `~/x` as a shell reads it; needed for `--model-path=~/x`, which shells leave alone. */
export function expandHome(path: string): string {
  return path === "~" || path.startsWith("~/") ? join(homedir(), path.slice(1)) : path;
}

/** True when a variable such as HF_HUB_OFFLINE is switched on, read as Python's hub reads it. */
export function envFlag(value: string | undefined): boolean {
  return value !== undefined && ["1", "true", "yes", "on"].includes(value.trim().toLowerCase());
}

/** Bytes and digest a finished file must have. */
export interface ExpectedFile {
  size: number;
  /** Hex. */
  sha256: string;
}

interface Stamp extends ExpectedFile {
  mtimeMs: number;
}

const STAMPS = ".sglang-ts.json";

/**
 * Tells whether a file is complete and undamaged. Cheap when its folder's stamp file says that these very bytes (by size
 * and time of change) were hashed before; hashes them and stamps them otherwise.
 * @param full hash in any case
 */
export async function isIntact(
  file: string,
  expected: ExpectedFile,
  transfer: Transfer = {},
  full = false,
): Promise<boolean> {
  const info = await stat(file).catch(() => null);
  if (!info?.isFile() || info.size !== expected.size) return false;
  const stamp = (await readStamps(dirname(file)))[basename(file)];
  const unchanged = stamp?.size === info.size && stamp.mtimeMs === info.mtimeMs;
  if (unchanged && !full) return stamp.sha256 === expected.sha256;
  const label = basename(file);
  const { hex } = await hashFile(file, info.size, "sha256", {
    signal: transfer.signal,
    onBytes: (received) => transfer.onProgress?.({ label, phase: "verify", received, total: info.size }),
  });
  await writeStamp(file, hex);
  return hex === expected.sha256;
}

/** Stamp files are read, changed and written back: within this process one after the other. */
let stamping: Promise<void> = Promise.resolve();

/** Records the digest that a file was just found to have. A stamp that another process overwrites only costs a hash. */
export function writeStamp(file: string, sha256: string): Promise<void> {
  const turn = stamping.then(async () => {
    const folder = dirname(file);
    const info = await stat(file);
    const files = await readStamps(folder);
    const old = files[basename(file)];
    if (old?.size === info.size && old.mtimeMs === info.mtimeMs && old.sha256 === sha256) return;
    files[basename(file)] = { size: info.size, mtimeMs: info.mtimeMs, sha256 };
    const temporary = join(folder, `${STAMPS}.${process.pid}`);
    await writeFile(temporary, JSON.stringify({ version: 1, files }, null, 1));
    await rename(temporary, join(folder, STAMPS));
  });
  // The next in line runs whatever became of this one.
  stamping = turn.catch(() => undefined);
  return turn;
}

/** {} when there is no stamp file or it can't be read: then files are simply hashed again. */
async function readStamps(folder: string): Promise<Record<string, Stamp>> {
  try {
    const parsed = JSON.parse(await readFile(join(folder, STAMPS), "utf8")) as { version?: number; files?: unknown };
    const known = parsed.version === 1 && typeof parsed.files === "object" && parsed.files !== null;
    return known ? (parsed.files as Record<string, Stamp>) : {};
  } catch {
    return {};
  }
}

/**
 * Runs `work` while this process alone holds `<path>.lock`. A second process waits with a message; a lock whose holder
 * died is taken over after a quarter of a minute.
 * @param work gets a signal that also fires when the lock was lost (the machine slept, say)
 */
export async function withLock<T>(
  path: string,
  label: string,
  transfer: Transfer,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  await mkdir(dirname(path), { recursive: true });
  const lost = new AbortController();
  const { signal } = transfer;
  let told = false;
  let release: () => Promise<void>;
  for (;;) {
    signal?.throwIfAborted();
    try {
      release = await lockfile.lock(path, {
        realpath: false,
        stale: LOCK_STALE_MS,
        update: LOCK_STALE_MS / 3,
        onCompromised: (cause) =>
          lost.abort(
            new SglangError(
              "DOWNLOAD_FAILED",
              `The lock ${path}.lock was lost while fetching ${label} (was the machine asleep?): run the command again.`,
              { file: `${path}.lock` },
              { cause },
            ),
          ),
      });
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ELOCKED") throw error;
      if (!told) transfer.onMessage?.(`Another process is fetching ${label}, waiting for it…`);
      told = true;
      await pause(LOCK_POLL_MS, signal);
    }
  }
  try {
    return await work(signal ? AbortSignal.any([signal, lost.signal]) : lost.signal);
  } catch (error) {
    throw lost.signal.aborted ? lost.signal.reason : error;
  } finally {
    // A lost lock belongs to somebody else now; there is nothing to give back.
    if (!lost.signal.aborted) await release();
  }
}
