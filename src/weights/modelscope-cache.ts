/** The folder layout of Python's modelscope: plain files under `models/<org>/<name>`, dots in the name written `___`. */
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join, relative, sep } from "node:path";

/** Folder of a repository: the one that exists, of any age of the layout; else the newest layout's. Absolute when `cache` is. */
export function modelScopeFolder(cache: string, repo: string): string {
  const [org, name] = repo.split("/");
  const masked = name.replaceAll(".", "___");
  const candidates = [
    join(cache, "models", org, masked),
    join(cache, "models", org, name),
    join(cache, org, masked),
    join(cache, org, name),
  ];
  return candidates.find((folder) => existsSync(folder)) ?? candidates[0];
}

/** Finished files of a repository's folder, with `/`; bookkeeping of either side (hidden, partial, locks) left out. */
export async function modelScopeFiles(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => entry.isFile() && !entry.name.startsWith(".") && !/\.partial(\.json)?$/.test(entry.name))
    .map((entry) =>
      relative(folder, join(entry.parentPath ?? entry.path, entry.name))
        .split(sep)
        .join("/"),
    )
    .sort();
}
