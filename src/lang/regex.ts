/**
 * Which regular expressions can be a constraint: the regular core of JavaScript's syntax. What needs to look around or
 * back cannot be enforced token by token and is refused by name.
 */
import { invalidField } from "../core/errors.js";

const REFUSED_GROUPS: readonly [start: string, name: string][] = [
  ["(?=", "a lookahead (?=...)"],
  ["(?!", "a negative lookahead (?!...)"],
  ["(?<=", "a lookbehind (?<=...)"],
  ["(?<!", "a negative lookbehind (?<!...)"],
];

function refuse(what: string, pattern: string): never {
  throw invalidField("regex", `a regular expression that can be enforced, without ${what}`, pattern);
}

/** Calls `visit` at every position outside of character classes; an escape is one position. */
function walk(pattern: string, visit: (at: number, token: string) => void): void {
  let inClass = false;
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern[at];
    if (char === "\\") {
      if (!inClass) visit(at, pattern.slice(at, at + 2));
      at++;
    } else if (inClass) {
      inClass = char !== "]";
    } else if (char === "[") {
      inClass = true;
    } else {
      visit(at, char);
    }
  }
}

/** Whether the pattern has `|` outside of any group, so that an anchor at its edge binds to one alternative only. */
function hasTopLevelAlternatives(pattern: string): boolean {
  let depth = 0;
  let found = false;
  walk(pattern, (_, token) => {
    if (token === "(") depth++;
    if (token === ")") depth--;
    if (token === "|" && depth === 0) found = true;
  });
  return found;
}

/**
 * The pattern text of a constraint: a RegExp or its source, without anchors at its edges (the whole answer matches).
 * @throws SglangError INVALID_REQUEST naming the construct or flag that cannot be enforced, or the syntax error
 */
export function constraintPattern(regex: RegExp | string): string {
  let pattern = typeof regex === "string" ? regex : regex.source;
  if (typeof regex !== "string") {
    for (const flag of regex.flags) {
      if (flag === "s" && !/\./.test(pattern)) continue;
      if (flag !== "u") refuse(`the flag "${flag}"`, String(regex));
    }
  }
  try {
    new RegExp(pattern, "u");
  } catch (cause) {
    throw invalidField("regex", `a valid regular expression (${(cause as Error).message})`, pattern);
  }
  const written = pattern;
  const anchored = pattern.startsWith("^") || /(?<!\\)(\\\\)*\$$/.test(pattern);
  if (anchored && hasTopLevelAlternatives(pattern))
    refuse("anchors beside top-level alternatives; put them in (?:...)", written);
  if (pattern.startsWith("^")) pattern = pattern.slice(1);
  if (/(?<!\\)(\\\\)*\$$/.test(pattern)) pattern = pattern.slice(0, -1);
  walk(pattern, (at, token) => {
    if (token === "^" || token === "$") refuse(`the anchor ${token} inside`, written);
    if (token === "\\b" || token === "\\B") refuse(`the word boundary ${token}`, written);
    if (/^\\[1-9]$/.test(token)) refuse(`the back reference ${token}`, written);
    if (token === "\\k") refuse("the named back reference \\k<...>", written);
    if (token !== "(") return;
    const group = REFUSED_GROUPS.find(([start]) => pattern.startsWith(start, at));
    if (group) refuse(group[1], written);
  });
  return pattern;
}

/** Whether the whole of `text` matches a pattern of {@link constraintPattern}. */
export function matchesWhole(pattern: string, text: string): boolean {
  return new RegExp(`^(?:${pattern})$`, "u").test(text);
}
