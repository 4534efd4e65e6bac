/**
 * How many threads can compute at the same time: the CPUs this process may run on, or the time its control groups give it,
 * whichever is less. A pool of more threads would wait for those that the kernel has stopped.
 */
import { join } from "node:path";
import { type ControlGroup, controlGroups, readText } from "./control-groups.js";

/** CPUs' worth of time per period; null without a limit. */
function quota({ folder, version }: ControlGroup): number | null {
  const [limit, period] =
    version === 2
      ? (readText(join(folder, "cpu.max")) ?? "max").split(/\s+/)
      : [readText(join(folder, "cpu.cfs_quota_us")) ?? "-1", readText(join(folder, "cpu.cfs_period_us")) ?? ""];
  const cpus = Number(limit) / Number(period);
  return cpus > 0 && Number.isFinite(cpus) ? cpus : null;
}

/**
 * @param affinity CPUs the process may run on, of the addon's `cpuInfo`
 * @param root the file system's root; another one in tests
 */
export function usableCores(affinity: number, root = "/"): number {
  const quotas = [...controlGroups("cpu", root)].map(quota).filter((cpus) => cpus !== null);
  return Math.max(1, Math.min(affinity, Math.ceil(Math.min(...quotas, affinity))));
}
