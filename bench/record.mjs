// What every bench shares: where and how a number was measured, its results file, and a plain table.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));

export const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
/** The smallest value that a share `p` of all is not above. */
export const quantile = (values, p) => [...values].sort((a, b) => a - b)[Math.max(0, Math.ceil(values.length * p) - 1)];

const git = (args) => spawnSync("git", args, { cwd: here, encoding: "utf8" }).stdout.trim();

/** The machine, commit and command of this run. */
export function origin(command) {
  const cpuinfo = existsSync("/proc/cpuinfo") ? readFileSync("/proc/cpuinfo", "utf8") : "";
  return {
    date: new Date().toISOString(),
    command,
    commit: git(["rev-parse", "HEAD"]) + (git(["status", "--porcelain", "--", "src", "native"]) ? "+changes" : ""),
    machine: {
      cpu: cpus()[0].model,
      cores: availableParallelism(),
      memoryBytes: totalmem(),
      node: process.version,
      flags: /^flags\s*:\s*(.*)$/m.exec(cpuinfo)?.[1]?.split(" ") ?? [],
    },
  };
}

/** Writes bench/results/NAME.json (or `file`) with the origin of the figures and says where. */
export function writeResults(name, command, figures, file = join(here, "results", `${name}.json`)) {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify({ ...origin(command), ...figures }, null, 1)}\n`);
  console.log(`\nwritten: ${file}`);
}

/** Prints rows of cells, the first of each to the left and the others to the right. */
export function printTable(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  for (const row of rows)
    console.log(row.map((cell, c) => (c === 0 ? cell.padEnd(widths[c]) : cell.padStart(widths[c]))).join("  "));
}
