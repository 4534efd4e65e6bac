/**
 * Finds and loads the native addon: the only door to it. A failure says what was tried and the next step to take.
 */
import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { SglangError } from "../core/errors.js";
import type { NativeAddon } from "./addon.js";

/** Environment variable that names another build of the addon (a sanitizer build, a debug build). */
export const ADDON_VARIABLE = "SGLANG_ADDON";

// This file is src/native/load.ts or dist/native/load.js: the package root is two folders up either way.
const packageRoot = resolve(dirname(fileURLToPath(import.meta.url)), "../..");

let loaded: NativeAddon | undefined;

/**
 * The addon of this package, loaded once per thread.
 * @throws SglangError ADDON_UNAVAILABLE with the path that was tried, the cause, and what to do.
 */
export function loadAddon(): NativeAddon {
  loaded ??= load(addonPath());
  return loaded;
}

/** Where the addon is looked for: `SGLANG_ADDON`, else the build inside the package. */
export function addonPath(environment: NodeJS.ProcessEnv = process.env): string {
  const override = environment[ADDON_VARIABLE];
  return override ? resolve(override) : join(packageRoot, "native/build/Release/sglang.node");
}

function load(path: string): NativeAddon {
  if (!existsSync(path)) throw missing(path);
  try {
    // Not require(): that runs a file of any other name as JavaScript.
    const module = { exports: {} };
    process.dlopen(module, path);
    return module.exports as NativeAddon;
  } catch (cause) {
    throw refused(path, cause as NodeJS.ErrnoException);
  }
}

function missing(path: string): SglangError {
  const next = process.env[ADDON_VARIABLE]
    ? `${ADDON_VARIABLE} names it: correct or unset the variable.`
    : "Build it with `npm run build:native` in the package's folder (needs a C++17 compiler, make and Python 3).";
  return new SglangError("ADDON_UNAVAILABLE", `The native addon is not there: no file ${path}. ${next}`, {
    file: path,
  });
}

/** Why Node refused to load an existing file, and the way out. */
function refused(path: string, cause: NodeJS.ErrnoException): SglangError {
  const text = cause.message;
  const next = NEXT_STEPS.find(([pattern]) => pattern.test(`${cause.code ?? ""} ${text}`))?.[1] ?? REBUILD;
  return new SglangError(
    "ADDON_UNAVAILABLE",
    `The native addon ${path} could not be loaded: ${text}. ${next}`,
    { file: path },
    { cause },
  );
}

const REBUILD = "Build it again on this machine with `npm run build:native`.";

/** First match wins. Patterns cover Node's own codes and the messages of the Linux and macOS loaders. */
const NEXT_STEPS: readonly (readonly [RegExp, string])[] = [
  [
    /ERR_DLOPEN_DISABLED|loading disabled/,
    "Node runs with --no-addons: start it without that flag, or use only the parts of the package that need no addon.",
  ],
  [
    /NODE_MODULE_VERSION|different Node\.js version/,
    `It was built for another Node version than ${process.version}. ${REBUILD}`,
  ],
  [
    /GLIBC|GLIBCXX|CXXABI|version .* not found/,
    `It was built against a newer C or C++ library than this system has. ${REBUILD}`,
  ],
  [
    /wrong ELF class|invalid ELF header|mach-o|incompatible architecture|not a valid/,
    `It was built for another system or processor than ${process.platform} ${process.arch}. ${REBUILD}`,
  ],
  [
    /undefined symbol|symbol not found|did not self-register/,
    `Its sources and this Node (${process.version}) do not fit. ${REBUILD}`,
  ],
  [/file too short|truncated/, `The file is incomplete: an earlier build was interrupted. ${REBUILD}`],
];
