import { describe, expect, test } from "vitest";
import { KEYWORDS } from "../../src/grammar/schema-keywords.js";
import { runSuite } from "./suite/run-suite.js";

/** Texts that are valid and that a grammar does not write: stricter than it must be, never weaker. */
const NARROWER = [
  /optional\/float-overflow/,
  /optional\/format\/date-time: .*leap second, with minus offset/,
  /optional\/format\/hostname: .*punycoded IDN hostname/,
];

describe("the JSON-Schema-Test-Suite", () => {
  const result = runSuite();

  test("agrees in every case or the schema is refused", () => {
    const wrong = result.wrong.filter(
      ({ where, accepted }) => accepted || !NARROWER.some((known) => known.test(where)),
    );
    expect(wrong).toEqual([]);
    expect(result.agreed).toBeGreaterThan(2_500);
  });

  test("and what is refused, and what becomes of every keyword, is in the docs (vitest -u writes it)", async () => {
    const lines = [
      "# What of JSON Schema is enforced",
      "",
      "Written by `npx vitest run tests/grammar/suite.test.ts -u` from the code and the JSON-Schema-Test-Suite; do not edit.",
      "",
      "A keyword is enforced exactly, or the schema is refused with an error that carries the JSON pointer. Annotations",
      "restrict nothing by their own definition; those that are reported come back as warnings, as unknown keywords and",
      "unknown formats do.",
      "",
      "| keyword | what becomes of it | |",
      "|---|---|---|",
      ...[...KEYWORDS].map(([name, { status, note }]) => `| \`${name}\` | ${status} | ${note ?? ""} |`),
      "",
      "## JSON-Schema-Test-Suite, drafts 2020-12 and 7",
      "",
      `${result.agreed} cases agree, ${result.refusedCases} belong to schemas that are refused, none is accepted wrongly.`,
      "Narrower than the suite, as texts that are never written:",
      "",
      ...result.wrong.map(({ where, data }) => `- ${where}: \`${data.slice(0, 40)}\``),
      "",
      `Left out: ${result.leftOut.map((file) => `\`${file}\``).join(", ")} (formats are enforced here although the specification`,
      "lets them be annotations; content keywords are annotations).",
      "",
      "Refused:",
      "",
      ...result.refused.map(({ where, why }) => `- ${where.replaceAll("|", "\\|")}. *${why.replaceAll("*", "\\*")}*`),
      "",
    ];
    await expect(lines.join("\n")).toMatchFileSnapshot("../../docs/grammar-support.md");
  });
});
