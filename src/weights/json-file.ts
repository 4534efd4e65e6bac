/** JSON and text files beside the weights. */
import { existsSync } from "node:fs";
import { ModelFile, malformed } from "./file-reader.js";

/** The largest tokenizer.json (262 144 tokens with merges) has 33 MB. */
const MAX_BYTES = 2 ** 28;

/** The text of a file; undefined when it is absent. @throws SglangError when it can't be read, is not UTF-8, or is absurdly large. */
export function readTextFile(path: string): string | undefined {
  if (!existsSync(path)) return undefined;
  const file = new ModelFile(path);
  try {
    if (file.size > MAX_BYTES) {
      throw malformed(path, `${file.size} bytes are too many for this file.`, {
        expected: `at most ${MAX_BYTES}`,
        found: String(file.size),
      });
    }
    // fatal, so that broken bytes are an error; the byte order mark is dropped.
    return new TextDecoder("utf-8", { fatal: true }).decode(file.read(0, file.size));
  } catch (cause) {
    if (cause instanceof TypeError) throw malformed(path, "the file is not valid UTF-8.");
    throw cause;
  } finally {
    file.close();
  }
}

/** The object in a JSON file; undefined when the file is absent. @throws SglangError MALFORMED_FILE when it holds anything else. */
export function readJsonFile(path: string): Record<string, unknown> | undefined {
  const text = readTextFile(path);
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw malformed(path, `the file is not valid JSON: ${(cause as Error).message}.`);
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw malformed(path, "the file must hold a JSON object.", { expected: "an object", found: text.slice(0, 50) });
}
