/**
 * How much memory this process may still take: what the machine has left, or what its control groups leave it, whichever
 * is less. Page cache that the kernel would give back counts as available.
 */
import { readFileSync } from "node:fs";
import { freemem, totalmem } from "node:os";
import { join } from "node:path";

export interface AvailableMemory {
  bytes: number;
  /** Who sets the limit: "machine" or the control group's path. */
  source: string;
}

/** A limit above this is "no limit" in version 1 control groups. */
const NO_LIMIT = 2 ** 60;

function read(path: string): string | null {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    // Not Linux, or that file does not exist here: another source answers.
    return null;
  }
}

function field(text: string | null, name: string): number {
  const match = text && new RegExp(`^${name}:?\\s+(\\d+)`, "m").exec(text);
  return match ? Number(match[1]) : 0;
}

/** Free bytes of one control group; null when it sets no limit. Above version 2's `high` the kernel swaps and throttles. */
function groupHeadroom(folder: string, version: 1 | 2): number | null {
  const [limitFiles, usageFile] =
    version === 2
      ? [["memory.max", "memory.high"], "memory.current"]
      : [["memory.limit_in_bytes"], "memory.usage_in_bytes"];
  const limits = limitFiles.map((file) => Number(read(join(folder, file)) ?? "none"));
  const limit = Math.min(...limits.filter((bytes) => !Number.isNaN(bytes)));
  const usage = Number(read(join(folder, usageFile)) ?? "none");
  if (!(limit < NO_LIMIT) || Number.isNaN(usage)) return null;
  const stat = read(join(folder, "memory.stat"));
  const prefix = version === 2 ? "" : "total_";
  const reclaimable = field(stat, `${prefix}inactive_file`) + field(stat, `${prefix}active_file`);
  return Math.max(0, limit - Math.max(0, usage - reclaimable));
}

/** This process's memory control groups from its own up to the root. */
function* groups(root: string): Generator<{ folder: string; version: 1 | 2 }> {
  for (const line of (read(join(root, "proc/self/cgroup")) ?? "").split("\n")) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (path === undefined) continue;
    const version = controllers === "" ? 2 : controllers.split(",").includes("memory") ? 1 : null;
    if (version === null) continue;
    const mount = join(root, version === 2 ? "sys/fs/cgroup" : "sys/fs/cgroup/memory");
    const parts = path.split("/").filter(Boolean);
    for (let depth = parts.length; depth >= 0; depth--)
      yield { folder: join(mount, ...parts.slice(0, depth)), version };
  }
}

/** @param root the file system's root; another one in tests */
export function availableMemory(root = "/"): AvailableMemory {
  const meminfo = read(join(root, "proc/meminfo"));
  const fromProc = field(meminfo, "MemAvailable") * 1024;
  let best: AvailableMemory = { bytes: fromProc || freemem() || totalmem(), source: "machine" };
  for (const { folder, version } of groups(root)) {
    const bytes = groupHeadroom(folder, version);
    if (bytes !== null && bytes < best.bytes) best = { bytes, source: folder };
  }
  return best;
}
