/**
 * How much memory this process may still take: what the machine has left, or what its control groups leave it, whichever
 * is less. Page cache that the kernel would give back counts as available.
 */
import { freemem, totalmem } from "node:os";
import { join } from "node:path";
import { controlGroups, readText } from "./control-groups.js";

export interface AvailableMemory {
  bytes: number;
  /** Who sets the limit: "machine" or the control group's path. */
  source: string;
}

/** A limit above this is "no limit" in version 1 control groups. */
const NO_LIMIT = 2 ** 60;

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
  const limits = limitFiles.map((file) => Number(readText(join(folder, file)) ?? "none"));
  const limit = Math.min(...limits.filter((bytes) => !Number.isNaN(bytes)));
  const usage = Number(readText(join(folder, usageFile)) ?? "none");
  if (!(limit < NO_LIMIT) || Number.isNaN(usage)) return null;
  const stat = readText(join(folder, "memory.stat"));
  const prefix = version === 2 ? "" : "total_";
  const reclaimable = field(stat, `${prefix}inactive_file`) + field(stat, `${prefix}active_file`);
  return Math.max(0, limit - Math.max(0, usage - reclaimable));
}

/** @param root the file system's root; another one in tests */
export function availableMemory(root = "/"): AvailableMemory {
  const meminfo = readText(join(root, "proc/meminfo"));
  const fromProc = field(meminfo, "MemAvailable") * 1024;
  let best: AvailableMemory = { bytes: fromProc || freemem() || totalmem(), source: "machine" };
  for (const { folder, version } of controlGroups("memory", root)) {
    const bytes = groupHeadroom(folder, version);
    if (bytes !== null && bytes < best.bytes) best = { bytes, source: folder };
  }
  return best;
}
