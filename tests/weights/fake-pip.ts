/** A stand-in for `python -m pip` that takes wheels from a folder, for tests without network or Python. */
import { type SpawnOptions, spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Transfer } from "../../src/weights/transfer.js";
import { type ZipEntry, zip } from "./zip.js";

const SCRIPT = `
const fs = require("node:fs"), path = require("node:path");
const [shelf, , , verb, ...rest] = process.argv.slice(1);
if (verb === "--version") { console.log("pip 99"); process.exit(0); }
const wanted = rest.at(-1), dest = rest[rest.indexOf("--dest") + 1];
const at = (suffix) => path.join(shelf, wanted + suffix);
if (fs.existsSync(at(".fail"))) { console.error(fs.readFileSync(at(".fail"), "utf8")); process.exit(1); }
if (fs.existsSync(at(".hang"))) { fs.writeFileSync(at(".started"), String(process.pid)); setInterval(() => {}, 1000); }
else { fs.mkdirSync(dest, { recursive: true }); fs.copyFileSync(at(".whl"), path.join(dest, wanted.replace("==", "-") + "-py3-none-any.whl")); }
`;

export interface FakePip {
  /** Folder with `<name>==<version>.whl`, `.fail` (what pip says) or `.hang` files. */
  shelf: string;
  calls: { command: string; args: string[]; options: SpawnOptions }[];
  spawn: NonNullable<Transfer["spawn"]>;
  /** Requirements that were downloaded, in order. */
  downloads(): string[];
  put(requirement: string, entries: readonly ZipEntry[]): void;
  say(requirement: string, suffix: ".fail" | ".hang", text?: string): void;
}

/** @param missing commands that do not exist on this machine */
export function fakePip(folder: string, missing: readonly string[] = []): FakePip {
  const shelf = join(folder, "shelf");
  mkdirSync(shelf, { recursive: true });
  const calls: FakePip["calls"] = [];
  const start = (command: string, args: string[], options: SpawnOptions) => {
    calls.push({ command, args, options });
    if (missing.includes(command)) return spawn(join(shelf, "no-such-program"), args, options);
    return spawn(process.execPath, ["-e", SCRIPT, shelf, ...args], options);
  };
  return {
    shelf,
    calls,
    spawn: start as NonNullable<Transfer["spawn"]>,
    downloads: () => calls.filter(({ args }) => args[2] === "download").map(({ args }) => args.at(-1) as string),
    put: (requirement, entries) => writeFileSync(join(shelf, `${requirement}.whl`), zip(entries)),
    say: (requirement, suffix, text = "") => writeFileSync(join(shelf, `${requirement}${suffix}`), text),
  };
}
