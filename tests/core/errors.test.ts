import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ERRORS, type ErrorCode, invalidField, SglangError } from "../../src/core/errors.js";

const docs = readFileSync(new URL("../../docs/errors.md", import.meta.url), "utf8");
const documented = new Map(
  [...docs.matchAll(/^\| `([A-Z_]+)` \| (\d+) \| (\d+) \| (.+) \|$/gm)].map(([, code, status, exit, summary]) => [
    code,
    { status: Number(status), exit: Number(exit), summary },
  ]),
);

describe("errors", () => {
  it("documents exactly the codes of the table", () => {
    expect([...documented.keys()].sort()).toEqual(Object.keys(ERRORS).sort());
  });

  it.each(Object.keys(ERRORS) as ErrorCode[])("documents %s as the table has it", (code) => {
    expect(documented.get(code)).toEqual(ERRORS[code]);
    const error = new SglangError(code, "message");
    expect([error.status, error.exitCode]).toEqual([ERRORS[code].status, ERRORS[code].exit]);
  });

  it("recognises its own errors and nothing else", () => {
    expect(SglangError.isInstance(new SglangError("NOT_FOUND", "x"))).toBe(true);
    for (const other of [new Error("x"), null, undefined, "x", {}]) expect(SglangError.isInstance(other)).toBe(false);
  });

  it("names field, expectation and finding in a field error", () => {
    const error = invalidField("sampling_params.top_p", "a number in (0, 1]", 2);
    expect(error.message).toBe("sampling_params.top_p must be a number in (0, 1], got 2.");
    expect(error.details).toEqual({ field: "sampling_params.top_p", expected: "a number in (0, 1]", found: "2" });
  });
});
