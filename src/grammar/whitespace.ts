/** Where JSON texts may have white space, and how much: what keeps a model from writing blanks without end. */
import { EPSILON, type Lexemes } from "./lexeme.js";

/**
 * `compact`: none. `pretty`: exactly as `JSON.stringify(value, null, 2)`. `flexible`: between tokens nothing, one space,
 * or one line break and at most {@link MAX_INDENT} blanks.
 */
export type WhitespaceMode = "compact" | "pretty" | "flexible";

/** Blanks after a line break in `flexible`: twenty levels of the usual indentation. */
export const MAX_INDENT = 40;

/** The lexemes between the tokens of JSON. `depth` counts the containers around. */
export interface Layout {
  /** Whether `depth` changes anything. */
  readonly depthMatters: boolean;
  readonly beforeColon: number;
  readonly afterColon: number;
  readonly beforeComma: number;
  afterComma(depth: number): number;
  afterOpen(depth: number): number;
  beforeClose(depth: number): number;
  /** Between the brackets of an empty container. */
  readonly inEmpty: number;
}

export function layoutOf(mode: WhitespaceMode, lexemes: Lexemes): Layout {
  const text = (value: string): number => lexemes.literal(new TextEncoder().encode(value));
  if (mode === "pretty") {
    const line = (depth: number): number => text(`\n${"  ".repeat(depth)}`);
    return {
      depthMatters: true,
      beforeColon: EPSILON,
      afterColon: text(" "),
      beforeComma: EPSILON,
      afterComma: (depth) => line(depth + 1),
      afterOpen: (depth) => line(depth + 1),
      beforeClose: line,
      inEmpty: EPSILON,
    };
  }
  const blank = lexemes.literals([bytes(" "), bytes("\t")]);
  const gap =
    mode === "compact"
      ? EPSILON
      : lexemes.optional(
          lexemes.alt([
            text(" "),
            lexemes.cat(lexemes.optional(text("\r")), text("\n"), lexemes.repeat(blank, 0, MAX_INDENT)),
          ]),
        );
  const anywhere = (): number => gap;
  return {
    depthMatters: false,
    beforeColon: gap,
    afterColon: gap,
    beforeComma: gap,
    afterComma: anywhere,
    afterOpen: anywhere,
    beforeClose: anywhere,
    inEmpty: gap,
  };
}

function bytes(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}
