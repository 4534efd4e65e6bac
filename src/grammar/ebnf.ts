/** EBNF as XGrammar and SGLang write it (the `ebnf` of a request). Matching begins at the rule `root`. */
import { type Dialect, parseBnf } from "./bnf-parser.js";
import type { GrammarDefinition } from "./ir.js";

const EBNF: Dialect = {
  field: "ebnf",
  name: /[A-Za-z_][A-Za-z0-9_.-]*/y,
  dot: false,
  shortHex: false,
  refused: [
    {
      pattern: /\(=/y,
      what: "a look-ahead assertion (= ...)",
      instead: "write what follows into the rule that uses this one",
    },
    {
      pattern: /(?:TagDispatch|Token|ExcludeToken|TokenTagDispatch)\s*\(/y,
      what: "a macro about tokens",
      instead: "use a structural tag, or write the text of the token",
    },
  ],
};

/**
 * Parses an EBNF grammar: strings, `[...]` and `[^...]`, `|`, `* + ? {m,n}`, groups, `#` comments.
 * Throws INVALID_REQUEST with line and column for syntax errors, missing and doubled rules.
 */
export function parseEbnf(source: string, root = "root"): GrammarDefinition {
  return parseBnf(source, EBNF, root);
}
