/**
 * The file system, where there is one. Nothing here is imported at load time, so that the language bundles for browsers;
 * elsewhere than in Node, Bun or Deno asking for a file is an error that says what to pass instead.
 */
import { SglangError } from "../core/errors.js";

type Files = typeof import("node:fs/promises");

interface ProcessLike {
  getBuiltinModule?: (name: string) => unknown;
  env?: Record<string, string | undefined>;
  stderr?: { write(text: string): unknown; isTTY?: boolean };
}

function processLike(): ProcessLike | undefined {
  return (globalThis as { process?: ProcessLike }).process;
}

/** @throws SglangError UNSUPPORTED where there are no files; `instead` completes the sentence */
export function nodeFiles(instead: string): Files {
  const files = processLike()?.getBuiltinModule?.("node:fs/promises") as Files | undefined;
  if (!files) throw new SglangError("UNSUPPORTED", `Files cannot be read or written here: ${instead}`);
  return files;
}

export function environment(name: string): string | undefined {
  return processLike()?.env?.[name];
}

/** Standard error of the process, or undefined in a browser. */
export function standardError(): { write(text: string): unknown; isTTY?: boolean } | undefined {
  return processLike()?.stderr;
}
