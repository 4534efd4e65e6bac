/**
 * The JSON-Schema-Test-Suite through the grammar engine (vendored, see LICENSE beside this file; drafts 2020-12 and 7).
 * Every case either agrees with the suite or its schema is refused by name.
 */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { SglangError } from "../../../src/core/errors.js";
import { GrammarCompiler } from "../../../src/grammar/compiler.js";
import { type JsonObject, type JsonValue, parseJsonText } from "../../../src/grammar/json-text.js";
import { Vocabulary } from "../../../src/grammar/vocabulary.js";
import { byteVocabulary } from "../vocabularies.js";

export interface SuiteResult {
  /** Cases that agree. */
  agreed: number;
  /** Cases whose schema is refused. */
  refusedCases: number;
  /** `draft/file: group`, and why. */
  refused: { where: string; why: string }[];
  /** Cases that disagree, with what the engine did. */
  wrong: { where: string; data: string; accepted: boolean }[];
  /** Files that are left out, and why. */
  leftOut: readonly string[];
}

/** Formats are enforced here: these files say that they must not be. `content*` are annotations: one says they may be more. */
const LEFT_OUT: readonly string[] = ["draft2020-12/format", "draft7/format", "draft7/optional/content"];

export function runSuite(): SuiteResult {
  const text = gunzipSync(readFileSync(new URL("json-schema-test-suite.json.gz", import.meta.url))).toString();
  const files = parseJsonText(text) as JsonObject;
  const compiler = new GrammarCompiler(new Vocabulary(byteVocabulary()));
  const result: SuiteResult = { agreed: 0, refusedCases: 0, refused: [], wrong: [], leftOut: LEFT_OUT };
  for (const [file, groups] of files) {
    if (LEFT_OUT.includes(file)) continue;
    for (const group of groups as JsonObject[]) runGroup(compiler, file, group, result);
  }
  return result;
}

function runGroup(compiler: GrammarCompiler, file: string, group: JsonObject, result: SuiteResult): void {
  const where = `${file}: ${group.get("description")}`;
  const tests = group.get("tests") as JsonObject[];
  let schema = group.get("schema") as JsonValue;
  // The older suite does not name its dialect.
  if (file.startsWith("draft7/") && schema instanceof Map && !schema.has("$schema"))
    schema = new Map([["$schema", "http://json-schema.org/draft-07/schema#"], ...schema]);
  for (const [i, test] of tests.entries()) {
    const data = textOf(test.get("data") as JsonValue);
    const valid = test.get("valid") as boolean;
    let accepted: boolean;
    try {
      const grammar = compiler.compile({ kind: "json_schema", schema, propertyOrder: "any" });
      const matcher = grammar.matcher();
      accepted = matcher.acceptText(data) && matcher.canTerminate();
    } catch (error) {
      if (!SglangError.isInstance(error)) throw error;
      // A schema without any value is refused too: nothing could be generated. It agrees where nothing is valid.
      if (/accepts no value at all/.test(error.message) && !valid) {
        result.agreed++;
        continue;
      }
      result.refusedCases++;
      if (result.refused.at(-1)?.where !== where) result.refused.push({ where, why: error.message });
      if (i === 0 && error.code !== "INVALID_REQUEST") {
        result.refusedCases += tests.length - 1;
        return;
      }
      continue;
    }
    if (accepted === valid) result.agreed++;
    else result.wrong.push({ where: `${where}: ${test.get("description")}`, data, accepted });
  }
}

/** As JSON, integers in full: the grammar writes them without exponent. */
function textOf(value: JsonValue): string {
  if (typeof value === "number" && Number.isInteger(value)) return BigInt(value).toString();
  return JSON.stringify(value, (_, item: unknown) =>
    item instanceof Map ? Object.fromEntries(item as Map<string, unknown>) : item,
  );
}
