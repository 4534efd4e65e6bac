import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const script = fileURLToPath(new URL("../../scripts/install.mjs", import.meta.url));

/** The install script with arguments and variables. None of the cases below gets as far as building. */
function install(args: string[], environment: Record<string, string>) {
  const run = spawnSync(process.execPath, [script, ...args], {
    encoding: "utf8",
    env: { ...process.env, ...environment },
  });
  return { status: run.status, output: run.stdout + run.stderr };
}

test("a missing compiler is named, with the package to install on each system, before anything is built", () => {
  const { status, output } = install(["--force"], { CXX: "/nowhere/c++" });
  expect(status).toBe(1);
  expect(output).toContain("no C++ compiler found (tried /nowhere/c++)");
  for (const command of ["apt install g++ make python3", "dnf install gcc-c++ make python3", "xcode-select --install"])
    expect(output).toContain(command);
});

test("a missing make is named", () => {
  const { status, output } = install(["--force"], { CXX: process.execPath, PATH: "/nowhere" });
  expect(status).toBe(1);
  expect(output).toContain("make was not found");
});

test("SGLANG_SKIP_BUILD=1 builds nothing and succeeds", () => {
  expect(install(["--force"], { SGLANG_SKIP_BUILD: "1", CXX: "/nowhere/c++" })).toEqual({ status: 0, output: "" });
});

test.each([
  ["--fast", "unknown argument --fast; known: --force, --sanitize=address, --sanitize=thread"],
  ["--sanitize=memory", '--sanitize must be address or thread, got "memory"'],
])("%s is refused by name", (argument, message) => {
  const { status, output } = install([argument], {});
  expect(status).toBe(1);
  expect(output).toContain(message);
});
