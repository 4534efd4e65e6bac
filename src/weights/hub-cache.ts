/**
 * The folder layout that Python's huggingface_hub writes, so that both find each other's files:
 * `models--org--name/refs/<branch>` holds a commit, `snapshots/<commit>/<path>` links to `blobs/<digest>`.
 */
import { copyFile, mkdir, readdir, readFile, realpath, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { basename, dirname, join, relative, sep } from "node:path";
import type { Digest } from "./digest.js";

const COMMIT = /^[0-9a-f]{40}$/;

export class HubCache {
  /** `<hub>/models--org--name` */
  readonly folder: string;

  constructor(hubFolder: string, repo: string) {
    this.folder = join(hubFolder, `models--${repo.replaceAll("/", "--")}`);
  }

  snapshotFolder(commit: string): string {
    return join(this.folder, "snapshots", commit);
  }

  blobPath(digest: Digest): string {
    return join(this.folder, "blobs", digest.hex);
  }

  /** Commit that a branch stood for when it was last fetched; a full commit is its own. null when never fetched. */
  async commitOf(revision: string): Promise<string | null> {
    if (COMMIT.test(revision)) return (await exists(this.snapshotFolder(revision))) ? revision : null;
    const text = await readFile(join(this.folder, "refs", ...revision.split("/")), "utf8").catch(() => "");
    const commit = text.trim();
    return commit && (await exists(this.snapshotFolder(commit))) ? commit : null;
  }

  async rememberRef(revision: string, commit: string): Promise<void> {
    if (revision === commit) return;
    const ref = join(this.folder, "refs", ...revision.split("/"));
    await mkdir(dirname(ref), { recursive: true });
    await writeFile(ref, commit);
  }

  /** Paths of a snapshot that are there, with `/`. */
  async files(commit: string): Promise<string[]> {
    const root = this.snapshotFolder(commit);
    const entries = await readdir(root, { recursive: true, withFileTypes: true }).catch(() => []);
    const paths: string[] = [];
    for (const entry of entries) {
      const full = join(entry.parentPath ?? entry.path, entry.name);
      // A link whose blob was deleted is not a file that is there.
      if ((await stat(full).catch(() => null))?.isFile()) paths.push(relative(root, full).split(sep).join("/"));
    }
    return paths.sort();
  }

  /** Makes `snapshots/<commit>/<path>` show the blob: a relative link, or a copy where links are not allowed (Windows). */
  async link(commit: string, path: string, blob: string): Promise<string> {
    const pointer = join(this.snapshotFolder(commit), ...path.split("/"));
    await mkdir(dirname(pointer), { recursive: true });
    await rm(pointer, { force: true });
    try {
      await symlink(relative(dirname(pointer), blob), pointer);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EPERM" || code === "ENOSYS" || code === "UNKNOWN") {
        await copyFile(blob, `${pointer}.copy`);
        await rename(`${pointer}.copy`, pointer);
      } else if (code !== "EEXIST") {
        throw error;
      }
    }
    return pointer;
  }

  /** A snapshot's file by name and sha256, from any revision: the blob's name is the digest. null when not there. */
  async find(path: string, sha256: string, size: number): Promise<string | null> {
    const commits = await readdir(join(this.folder, "snapshots")).catch(() => []);
    for (const commit of commits) {
      const pointer = join(this.snapshotFolder(commit), ...path.split("/"));
      const target = await realpath(pointer).catch(() => null);
      if (target === null || basename(target) !== sha256) continue;
      if ((await stat(target)).size === size) return pointer;
    }
    return null;
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
