/** This process's control groups on Linux: where the system says what a container may take. Elsewhere there are none. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

export interface ControlGroup {
  folder: string;
  version: 1 | 2;
}

/**
 * The groups that limit one resource, from the process's own up to the root.
 * @param root the file system's root; another one in tests
 */
export function* controlGroups(controller: "memory" | "cpu", root: string): Generator<ControlGroup> {
  for (const line of (readText(join(root, "proc/self/cgroup")) ?? "").split("\n")) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (path === undefined) continue;
    const version = controllers === "" ? 2 : controllers.split(",").includes(controller) ? 1 : null;
    if (version === null) continue;
    const mount = join(root, version === 2 ? "sys/fs/cgroup" : `sys/fs/cgroup/${controller}`);
    const parts = path.split("/").filter(Boolean);
    for (let depth = parts.length; depth >= 0; depth--)
      yield { folder: join(mount, ...parts.slice(0, depth)), version };
  }
}

/** Text of a system file without surrounding white space; null when it isn't there. */
export function readText(path: string): string | null {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    // Not Linux, or that file does not exist here: another source answers.
    return null;
  }
}
