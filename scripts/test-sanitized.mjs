// `npm run test:asan`: the native tests under AddressSanitizer and UndefinedBehaviorSanitizer, then what
// threads compute together under ThreadSanitizer. Linux with g++ or clang. Arguments go to vitest, e.g. a test file.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const compiler = process.env.CXX ?? "g++";

function run(label, command, args, environment = {}) {
  console.log(`== ${label}`);
  const done = spawnSync(command, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...environment } });
  if (done.error) throw new Error(`${command} could not be started: ${done.error.message}`);
  if (done.status !== 0) {
    console.error(`${label}: failed (${done.signal ?? `exit code ${done.status}`}).`);
    process.exit(done.status ?? 1);
  }
}

/** A shared library as the compiler would link it; Node itself is not instrumented, so the runtime must come first. */
function library(name) {
  const path = spawnSync(compiler, [`-print-file-name=${name}`], { encoding: "utf8" }).stdout?.trim();
  if (!path || !existsSync(path)) {
    console.error(
      `${compiler} has no ${name}: install the sanitizer runtimes of the compiler (Debian: libasan, libubsan; Fedora: libasan, libubsan).`,
    );
    process.exit(1);
  }
  return path;
}

if (process.platform !== "linux") {
  console.error("The sanitized tests run on Linux.");
  process.exit(1);
}

run("Building with AddressSanitizer", process.execPath, [join(root, "scripts/install.mjs"), "--sanitize=address"]);
run(
  "Native tests under AddressSanitizer",
  process.execPath,
  [
    join(root, "node_modules/vitest/vitest.mjs"),
    "run",
    "--config",
    "vitest.config.ts",
    ...(process.argv.slice(2).length ? process.argv.slice(2) : ["tests/native"]),
  ],
  {
    SGLANG_ADDON: join(root, "native/build/asan/Release/sglang.node"),
    LD_PRELOAD: [library("libasan.so"), library("libubsan.so")].join(":"),
    // Node frees little at exit on purpose. A bad access must end the process: vitest then reports the lost worker.
    ASAN_OPTIONS: "detect_leaks=0:halt_on_error=1:detect_stack_use_after_return=0",
    UBSAN_OPTIONS: "halt_on_error=1:print_stacktrace=1",
  },
);

const folder = join(root, "native/build/tsan");
mkdirSync(folder, { recursive: true });
for (const [name, sources] of [
  ["pool_test", ["thread_pool", "worker_placement"]],
  ["race_test", ["thread_pool", "worker_placement", "checksum", "pack", "quant", "sampler", "tiers/portable"]],
]) {
  const program = join(folder, name);
  run(`Building ${name} with ThreadSanitizer`, compiler, [
    ...[
      "-std=gnu++17",
      "-O1",
      "-g",
      "-Wall",
      "-Wextra",
      "-Wno-psabi",
      "-ffp-contract=off",
      "-fsanitize=thread",
      "-pthread",
    ],
    ...[`native/test/${name}.cc`, ...sources.map((source) => `native/src/${source}.cc`), "-o", program],
  ]);
  run(`${name} under ThreadSanitizer`, program, [], { TSAN_OPTIONS: "halt_on_error=1" });
}
