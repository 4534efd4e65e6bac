// Makes a fresh clone runnable: npm packages, the native addon, compiled TypeScript. Each step is skipped when its
// inputs have not changed since the last time. Only Node's own modules here: nothing is installed yet.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");

const MINIMUM_NODE = [20, 17];

function checkNode() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major < MINIMUM_NODE[0] || (major === MINIMUM_NODE[0] && minor < MINIMUM_NODE[1])) {
    console.error(`sglang-ts needs Node ${MINIMUM_NODE.join(".")} or newer; this is ${process.versions.node}.`);
    process.exit(1);
  }
}

function walk(folder, out = []) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      if (entry.name !== "build" && entry.name !== "node_modules" && !entry.name.startsWith("build-")) walk(path, out);
    } else out.push(path);
  }
  return out;
}

/** A hash of names and contents: a fresh clone has fresh mtimes, so times say nothing. */
function fingerprint(paths) {
  const hash = createHash("sha256").update(process.version);
  for (const path of paths.flatMap((p) => (statSync(p).isDirectory() ? walk(p) : [p])).sort())
    hash.update(path.slice(root.length)).update("\0").update(readFileSync(path));
  return hash.digest("hex");
}

function step(label, stampFile, inputs, command, args) {
  const wanted = fingerprint(inputs.map((p) => join(root, p)));
  const stamp = join(root, stampFile);
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return;
  const started = Date.now();
  process.stdout.write(`${label} ...\n`);
  const run = spawnSync(command, args, {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    shell: process.platform === "win32",
    maxBuffer: 64 << 20,
  });
  if (run.status !== 0) {
    process.stderr.write(`${run.stdout ?? ""}${run.stderr ?? ""}`);
    console.error(`${label} failed${run.error ? `: ${run.error.message}` : ` (exit code ${run.status})`}.`);
    process.exit(run.status || 1);
  }
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, wanted);
  process.stdout.write(`${label}: ${((Date.now() - started) / 1000).toFixed(1)} s\n`);
}

export function prepare() {
  checkNode();
  const npm = process.env.npm_execpath;
  const [command, prefix] = npm ? [process.execPath, [npm]] : ["npm", []];
  const verb = existsSync(join(root, "package-lock.json")) ? "ci" : "install";
  step("Installing packages", "node_modules/.sglang-ts-packages", ["package.json", "package-lock.json"], command, [
    ...prefix,
    verb,
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
  ]);
  step(
    "Building the native addon",
    "native/build/.sglang-ts-native",
    ["native/binding.gyp", "native/src", "scripts/install.mjs"],
    process.execPath,
    [join(root, "scripts/install.mjs")],
  );
  step(
    "Compiling TypeScript",
    "dist/.sglang-ts-compiled",
    ["src", "tsconfig.json", "tsconfig.build.json"],
    process.execPath,
    [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.build.json"],
  );
}
