// Builds the native addon with node-gyp. Runs as the package's install script and as `npm run build:native`.
//   --force                     build even when the built addon matches the sources
//   --sanitize=address|thread   build an instrumented addon into native/build/asan or native/build/tsan
//   SGLANG_SKIP_BUILD=1         do nothing (the frontend, tokenizer and weights work without the addon)
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const native = join(root, "native");
const FOLDERS = { "": "build", address: "build/asan", thread: "build/tsan" };

/** What to install where, for the failures that name their cause. */
const TOOLS = [
  "  Debian, Ubuntu:  apt install g++ make python3",
  "  Fedora, RHEL:    dnf install gcc-c++ make python3",
  "  Alpine:          apk add g++ make python3",
  "  macOS:           xcode-select --install",
].join("\n");

function fail(message) {
  console.error(`sglang-ts: ${message}`);
  process.exit(1);
}

function options(argv) {
  const found = { force: false, sanitize: "" };
  for (const argument of argv) {
    if (argument === "--force") found.force = true;
    else if (argument.startsWith("--sanitize=")) found.sanitize = argument.slice("--sanitize=".length);
    else fail(`unknown argument ${argument}; known: --force, --sanitize=address, --sanitize=thread.`);
  }
  if (!(found.sanitize in FOLDERS))
    fail(`--sanitize must be address or thread, got ${JSON.stringify(found.sanitize)}.`);
  return found;
}

function sources(folder = join(native, "src")) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? sources(join(folder, entry.name)) : [join(folder, entry.name)],
  );
}

/** Changes when a source, the Node version or the architecture does: a fresh clone has fresh file times, so times say nothing. */
function fingerprint(sanitize) {
  const hash = createHash("sha256").update([process.version, process.platform, process.arch, sanitize].join(" "));
  for (const path of [join(native, "binding.gyp"), ...sources()].sort())
    hash.update(`\0${relative(root, path)}\0`).update(readFileSync(path));
  return hash.digest("hex");
}

function runs(command, args) {
  return spawnSync(command, args, { stdio: "ignore" }).status === 0;
}

/** Names the tool that is missing before node-gyp drowns it in a stack trace. */
function checkTools() {
  const compiler = process.env.CXX?.trim().split(/\s+/).filter(Boolean) ?? [];
  const compilers = compiler.length ? [compiler[compiler.length - 1], compiler[0]] : ["c++", "g++", "clang++"];
  if (!compilers.some((name) => runs(name, ["--version"])))
    fail(
      `no C++ compiler found (tried ${[...new Set(compilers)].join(", ")}). The addon needs one that knows C++17.\n${TOOLS}`,
    );
  if (!runs("make", ["--version"])) fail(`make was not found.\n${TOOLS}`);
  const python = process.env.npm_config_python ?? process.env.NODE_GYP_FORCE_PYTHON ?? process.env.PYTHON;
  if (![python, "python3", "python"].filter(Boolean).some((name) => runs(name, ["--version"])))
    fail(`Python 3 was not found; node-gyp needs it.\n${TOOLS}`);
}

function nodeGyp() {
  try {
    return createRequire(import.meta.url).resolve("node-gyp/bin/node-gyp.js");
  } catch {
    return fail("node-gyp is not installed. Run `npm install` in the package's folder first.");
  }
}

/** Headers that came with this Node, when they did: no download. */
function nodeHeaders() {
  const prefix = resolve(dirname(process.execPath), "..");
  return existsSync(join(prefix, "include/node/node_api.h")) ? [`--nodedir=${prefix}`] : [];
}

/**
 * Builds in a copy of native/ and moves the result into place at the end: a process that has the old addon loaded keeps
 * it, an interrupted build leaves the old one, and instrumented builds do not disturb the normal one.
 */
function build(sanitize, target) {
  const work = mkdtempSync(join(tmpdir(), "sglang-native-"));
  try {
    cpSync(join(native, "binding.gyp"), join(work, "binding.gyp"));
    cpSync(join(native, "src"), join(work, "src"), { recursive: true });
    const args = [
      nodeGyp(),
      "rebuild",
      "--directory",
      work,
      "--release",
      ...nodeHeaders(),
      ...(sanitize ? [`--sanitize=${sanitize}`] : []),
    ];
    const run = spawnSync(process.execPath, args, {
      encoding: "utf8",
      maxBuffer: 64 << 20,
      env: { ...process.env, MAKEFLAGS: process.env.MAKEFLAGS ?? `-j${availableParallelism()}` },
    });
    if (run.error) fail(`node-gyp could not be started: ${run.error.message}`);
    const output = `${run.stdout ?? ""}${run.stderr ?? ""}`;
    if (run.status !== 0) fail(`building the native addon failed.\n${output}\n${advice(output)}`);
    const warnings = output.split("\n").filter((line) => /\bwarning:/.test(line));
    if (warnings.length) console.warn(warnings.join("\n"));
    mkdirSync(dirname(target), { recursive: true });
    const fresh = `${target}.${process.pid}`;
    cpSync(join(work, "build/Release/sglang.node"), fresh);
    renameSync(fresh, target);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function advice(output) {
  if (/ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN|getaddrinfo|404 downloading/.test(output))
    return "The Node headers could not be downloaded. Install the headers of this Node (package nodejs-dev, libnode-dev or nodejs-devel), or run where nodejs.org can be reached.";
  if (/fatal error: '?(?:cstdint|memory|string|atomic)'?/.test(output))
    return `The C++ standard library is missing.\n${TOOLS}`;
  if (/unrecognized command[- ]line option|invalid value 'c\+\+17'|unknown argument/.test(output))
    return `The compiler is too old: g++ 9 or clang 10 and newer are known to work.\n${TOOLS}`;
  if (/fatal error: (?:Killed|Terminated) signal/.test(output))
    return "The compiler was killed: this machine has too little memory for it, or something stopped it. Try again with MAKEFLAGS=-j1.";
  if (/cannot find -l(?:asan|ubsan|tsan)/.test(output))
    return "The sanitizer runtime is missing; it comes with the compiler's full package (gcc: libasan, libubsan, libtsan).";
  if (/Could not find any Python|gyp ERR! find Python/.test(output))
    return `node-gyp found no usable Python 3.\n${TOOLS}`;
  return `The lines above are the compiler's. If a tool is missing:\n${TOOLS}`;
}

function main() {
  if (process.env.SGLANG_SKIP_BUILD === "1") return;
  if (process.platform === "win32")
    fail(
      "the native addon builds on Linux and macOS; on Windows use WSL. Set SGLANG_SKIP_BUILD=1 to install without it.",
    );
  const { force, sanitize } = options(process.argv.slice(2));
  const target = join(native, FOLDERS[sanitize], "Release/sglang.node");
  const stamp = join(native, FOLDERS[sanitize], "sources.sha256");
  const wanted = fingerprint(sanitize);
  if (!force && existsSync(target) && existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return;
  checkTools();
  const started = Date.now();
  build(sanitize, target);
  writeFileSync(stamp, wanted);
  console.log(`Native addon built in ${((Date.now() - started) / 1000).toFixed(1)} s: ${relative(root, target)}`);
}

main();
