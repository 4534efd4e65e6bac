/** GBNF, the grammar files of llama.cpp. Matching begins at the rule `root`. */
import { type Dialect, parseBnf } from "./bnf-parser.js";
import type { GrammarDefinition } from "./ir.js";

const GBNF: Dialect = {
  field: "gbnf",
  name: /[A-Za-z0-9_][A-Za-z0-9_-]*/y,
  dot: true,
  shortHex: true,
  refused: [{ pattern: /!?<[^>\n]*>/y, what: "a token reference", instead: "write the text of the token as a string" }],
};

/**
 * Parses a GBNF grammar: EBNF with `.` for any character. A rule ends where the next begins, so alternatives may stand
 * on lines of their own.
 * Throws INVALID_REQUEST with line and column for syntax errors, missing and doubled rules.
 */
export function parseGbnf(source: string, root = "root"): GrammarDefinition {
  return parseBnf(source, GBNF, root);
}
