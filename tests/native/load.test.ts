import { afterEach, expect, test, vi } from "vitest";
import { SglangError } from "../../src/core/errors.js";
import { ADDON_VARIABLE, addonPath } from "../../src/native/load.js";
import { writeTemporary } from "./support.js";

afterEach(() => {
  vi.unstubAllEnvs();
  vi.resetModules();
});

/** The error of a fresh load of the addon from `path`. */
async function failure(path: string): Promise<SglangError> {
  vi.stubEnv(ADDON_VARIABLE, path);
  vi.resetModules();
  const { loadAddon } = await import("../../src/native/load.js");
  try {
    loadAddon();
  } catch (error) {
    return error as SglangError;
  }
  throw new Error("the addon loaded");
}

test("the addon is looked for in the package's build folder unless the variable names another", () => {
  expect(addonPath({})).toMatch(/\/native\/build\/Release\/sglang\.node$/);
  expect(addonPath({ [ADDON_VARIABLE]: "/somewhere/else.node" })).toBe("/somewhere/else.node");
});

test("an addon that is not there is an error with the path and the variable that named it", async () => {
  const error = await failure("/nowhere/sglang.node");
  expect(SglangError.isInstance(error)).toBe(true);
  expect(error.code).toBe("ADDON_UNAVAILABLE");
  expect(error.details.file).toBe("/nowhere/sglang.node");
  expect(error.message).toContain("no file /nowhere/sglang.node");
  expect(error.message).toContain(ADDON_VARIABLE);
});

test.each([
  ["that is empty", new Uint8Array(0), "The file is incomplete"],
  ["that is text", new TextEncoder().encode("not an addon ".repeat(50)), "another system or processor"],
])("an addon %s is an error with the loader's words and the next step", async (_, bytes, words) => {
  const error = await failure(writeTemporary(bytes));
  expect(error.code).toBe("ADDON_UNAVAILABLE");
  expect(error.message).toContain(words);
  expect(error.message).toContain("npm run build:native");
  expect(error.cause).toBeInstanceOf(Error);
});
