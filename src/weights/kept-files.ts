/**
 * What folders of derived files share (packed weights, vocabularies): files of one suffix by last use, and what is left of
 * writers that died. A file is written as `.<key>.<pid>.<random>.tmp` and renamed when it is whole.
 */
import { randomBytes } from "node:crypto";
import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";

const TEMPORARY = /^\..*\.(\d+)\.[0-9a-f]+\.tmp$/;

export interface KeptFile {
  path: string;
  bytes: number;
  /** When it was last written or used, ms since 1970. */
  lastUsed: number;
}

/** Every file of the folder with that suffix, most recently used first; none when there is no folder. */
export async function listKeptFiles(folder: string, suffix: string): Promise<KeptFile[]> {
  const names = await readdir(folder).catch(() => []);
  const files = await Promise.all(
    names
      .filter((name) => name.endsWith(suffix))
      .map(async (name): Promise<KeptFile | null> => {
        const path = join(folder, name);
        const info = await stat(path).catch(() => null);
        return info?.isFile() ? { path, bytes: info.size, lastUsed: info.mtimeMs } : null;
      }),
  );
  return files.filter((file) => file !== null).sort((a, b) => b.lastUsed - a.lastUsed);
}

/** Where a file with this key is written before it is whole. */
export function temporaryPath(folder: string, key: string): string {
  return join(folder, `.${key}.${process.pid}.${randomBytes(4).toString("hex")}.tmp`);
}

/** Removes what writers that died left behind. */
export async function removeLeftovers(folder: string): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const pid = Number(TEMPORARY.exec(name)?.[1] ?? Number.NaN);
    if (!Number.isNaN(pid) && !isAlive(pid)) await rm(join(folder, name), { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
