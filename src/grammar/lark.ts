/**
 * A subset of Lark's grammar language, read as Lark's Earley parser with its dynamic lexer does: a text is matched if some
 * way of cutting it into terminals fits the rules. Matching begins at the rule `start`.
 *
 * Taken: rules and terminals, strings and regular expressions with flags, `| ( ) [ ] ? * + ~n ~n..m`, ranges `"a".."z"`,
 * `%ignore`, `%import common.X`, comments. Aliases (`-> name`), `?` and `!` before a rule, and priorities change the parse
 * tree only and are read over. Templates, `%declare`, `%extend` and `%override` are refused.
 */
import {
  charClass,
  choice,
  EMPTY,
  type Expression,
  type GrammarDefinition,
  optional,
  ref,
  repeat,
  sequence,
  text,
} from "./ir.js";
import { LARK_COMMON } from "./lark-common.js";
import { regexToExpression } from "./regex.js";
import { shown, TextCursor } from "./text-cursor.js";

const MAX_COUNT = 1_000_000;
const RULE_NAME = /[?!]{0,2}(_?[a-z][_a-z0-9]*)/y;
const TERMINAL_NAME = /_?[A-Z][_A-Z0-9]*/y;
/** Name of the rule that stands for what `%ignore` lists; no rule of a grammar can be called so. */
const IGNORED = "%ignore";

/** What a definition says, before names are resolved. */
type Item =
  | { kind: "literal"; expression: Expression }
  | { kind: "rule"; name: string; position: number }
  | { kind: "terminal"; name: string; position: number }
  | { kind: "sequence" | "choice"; items: readonly Item[] }
  | { kind: "repeat"; item: Item; min: number; max: number };

interface Definition {
  item: Item;
  position: number;
}

/**
 * Parses a Lark grammar. Throws INVALID_REQUEST with line and column for syntax errors, names without definition, and
 * constructs outside the subset.
 */
export function parseLark(source: string, start = "start"): GrammarDefinition {
  return new LarkParser(source).parse(start);
}

class LarkParser {
  readonly #cursor: TextCursor;
  readonly #rules = new Map<string, Definition>();
  readonly #terminals = new Map<string, Definition>();
  readonly #ignored: Item[] = [];
  /** Terminals as expressions, and those being resolved. */
  readonly #resolved = new Map<string, Expression>();
  readonly #resolving = new Set<string>();

  constructor(source: string) {
    this.#cursor = new TextCursor(source, "lark");
  }

  parse(start: string): GrammarDefinition {
    const cursor = this.#cursor;
    this.#lines();
    while (!cursor.atEnd) {
      if (cursor.startsWith("%")) this.#directive();
      else this.#definition();
      this.#lines();
    }
    if (!this.#rules.has(start))
      throw cursor.error(`there is no rule ${start}`, `add \`${start}: ...\`, where matching begins`, 0);
    const rules = new Map<string, Expression>();
    for (const [name, { item }] of this.#rules) rules.set(name, this.#expression(item, false));
    if (this.#ignored.length === 0) return { root: ref(start), rules };
    const ignored = choice(...this.#ignored.map((item) => this.#expression(item, true)));
    rules.set(IGNORED, repeat(ignored, 0, Number.POSITIVE_INFINITY));
    // What is ignored may stand before every terminal and at the end, which is everywhere between terminals.
    return { root: sequence(ref(start), ref(IGNORED)), rules };
  }

  /** Spaces and comments inside a line. */
  #space(): void {
    this.#cursor.match(/(?:[ \t]|\\\r?\n|\/\/[^\n]*)*/y);
  }

  /** Empty lines as well. */
  #lines(): void {
    this.#cursor.match(/(?:[ \t\r\n]|\/\/[^\n]*)*/y);
  }

  /** Before an alternative on a line of its own. */
  #continuation(): boolean {
    const { position } = this.#cursor;
    this.#lines();
    if (this.#cursor.startsWith("|")) return true;
    this.#cursor.position = position;
    return false;
  }

  #directive(): void {
    const cursor = this.#cursor;
    const start = cursor.position;
    const name = cursor.match(/%[a-z]+/y)?.[0] ?? "%";
    this.#space();
    if (name === "%ignore") {
      this.#ignored.push(this.#alternatives());
      return;
    }
    if (name === "%import") {
      this.#import(start);
      return;
    }
    throw cursor.error(`${name} is not supported`, "only %ignore and %import common.NAME are", start);
  }

  #import(start: number): void {
    const cursor = this.#cursor;
    const many = cursor.match(/common[ \t]*\(([^)]*)\)/y);
    const one = many ? null : cursor.match(/common\.([A-Z_]+)(?:[ \t]*->[ \t]*([A-Z_][A-Z0-9_]*))?/y);
    if (!many && !one)
      throw cursor.error(
        "the import is not from the common terminals",
        "write %import common.NAME or copy the rule",
        start,
      );
    const names: [string, string][] = many
      ? many[1].split(",").map((name) => [name.trim(), name.trim()])
      : [[one![1], one![2] ?? one![1]]];
    for (const [name, alias] of names) {
      const pattern = Object.hasOwn(LARK_COMMON, name) ? LARK_COMMON[name] : undefined;
      if (pattern === undefined)
        throw cursor.error(`common.${name} is unknown`, `use one of ${Object.keys(LARK_COMMON).join(", ")}`, start);
      this.#terminals.set(alias, {
        item: { kind: "literal", expression: regexToExpression(pattern, "u") },
        position: start,
      });
    }
  }

  #definition(): void {
    const cursor = this.#cursor;
    const start = cursor.position;
    const terminal = cursor.match(TERMINAL_NAME)?.[0];
    const name = terminal ?? cursor.match(RULE_NAME)?.[1];
    if (name === undefined)
      throw cursor.error(`${shown(cursor.peek())} where a rule should begin`, "write `name: ...`");
    if (cursor.startsWith("{")) throw cursor.error("templates are not supported", "write the rule out for each use");
    // A priority chooses between parse trees, not between texts.
    cursor.match(/\.-?\d+/y);
    this.#space();
    cursor.expect(":", `after the name ${name}`);
    const table = terminal === undefined ? this.#rules : this.#terminals;
    if (table.has(name)) throw cursor.error(`${name} is defined twice`, "join the two with |", start);
    this.#space();
    // `name:` may stand alone, with its alternatives on the lines below.
    if (this.#continuation()) {
      cursor.take();
      this.#space();
    }
    table.set(name, { item: this.#alternatives(), position: start });
    this.#space();
    if (!cursor.atEnd && !cursor.startsWith("\n") && !cursor.startsWith("\r"))
      throw cursor.error(`${shown(cursor.peek())} after the definition of ${name}`, "end it with a new line");
  }

  #alternatives(): Item {
    const items = [this.#sequence()];
    while (this.#continuation()) {
      this.#cursor.take();
      this.#space();
      items.push(this.#sequence());
    }
    return items.length === 1 ? items[0] : { kind: "choice", items };
  }

  #sequence(): Item {
    const cursor = this.#cursor;
    const items: Item[] = [];
    for (;;) {
      this.#space();
      // An alias names a node of the parse tree.
      if (cursor.match(/->[ \t]*[a-z_][a-z0-9_]*/y)) break;
      if (cursor.atEnd || /[|)\]\r\n]/.test(cursor.peek())) break;
      items.push(this.#repeated(this.#atom()));
    }
    return items.length === 1 ? items[0] : { kind: "sequence", items };
  }

  #repeated(item: Item): Item {
    const cursor = this.#cursor;
    const start = cursor.position;
    if (cursor.skip("?")) return { kind: "repeat", item, min: 0, max: 1 };
    if (cursor.skip("*")) return { kind: "repeat", item, min: 0, max: Number.POSITIVE_INFINITY };
    if (cursor.skip("+")) return { kind: "repeat", item, min: 1, max: Number.POSITIVE_INFINITY };
    const counts = cursor.match(/[ \t]*~[ \t]*(\d+)(?:[ \t]*\.\.[ \t]*(\d+))?/y);
    if (!counts) return item;
    const min = Number(counts[1]);
    const max = Number(counts[2] ?? counts[1]);
    if (min > max || max > MAX_COUNT)
      throw cursor.error(
        `the repetition ${counts[0].trim()} is out of range`,
        `count upwards, to ${MAX_COUNT} at most`,
        start,
      );
    return { kind: "repeat", item, min, max };
  }

  #atom(): Item {
    const cursor = this.#cursor;
    const start = cursor.position;
    if (cursor.skip("(")) return this.#group(")");
    if (cursor.skip("[")) return { kind: "repeat", item: this.#group("]"), min: 0, max: 1 };
    if (cursor.startsWith('"')) return this.#string(start);
    if (cursor.startsWith("/")) return this.#regex(start);
    const terminal = cursor.match(TERMINAL_NAME)?.[0];
    if (terminal !== undefined) return { kind: "terminal", name: terminal, position: start };
    const rule = cursor.match(/_?[a-z][_a-z0-9]*/y)?.[0];
    if (rule === undefined)
      throw cursor.error(
        `${shown(cursor.peek())} is not part of an expression`,
        "write a string, a /regex/, a group or a name",
      );
    if (cursor.startsWith("{")) throw cursor.error("templates are not supported", "write the rule out for each use");
    return { kind: "rule", name: rule, position: start };
  }

  #group(end: string): Item {
    return this.#cursor.nested(() => {
      this.#lines();
      const item = this.#alternatives();
      this.#lines();
      this.#cursor.expect(end, "where the group should end");
      return item;
    });
  }

  #string(start: number): Item {
    const value = this.#quoted(start);
    const cursor = this.#cursor;
    if (cursor.skip("..")) {
      const last = this.#quoted(cursor.position);
      const [low, high] = [value, last].map((end) => ([...end].length === 1 ? end.codePointAt(0)! : -1));
      if (low < 0 || high < low)
        throw cursor.error("a range needs two characters, the smaller first", 'write "a".."z"', start);
      return { kind: "literal", expression: charClass([low, high]) };
    }
    if (!cursor.match(/i(?![A-Za-z0-9_])/y)) return { kind: "literal", expression: text(value) };
    return { kind: "literal", expression: regexToExpression(value.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), "iu") };
  }

  #quoted(start: number): string {
    const cursor = this.#cursor;
    const match = cursor.match(/"((?:[^"\\\n]|\\[^\n])*)"/y);
    if (!match) throw cursor.error("the string does not end", 'close it with "', start);
    return match[1].replace(/\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|x[0-9A-Fa-f]{2}|.)/gsu, (_, body: string) => {
      if (body.length > 1) {
        const codePoint = Number.parseInt(body.slice(1), 16);
        if (codePoint > 0x10ffff || (codePoint >= 0xd800 && codePoint <= 0xdfff))
          throw cursor.error(`\\${body} is not a character`, "use a code point that is no surrogate", start);
        return String.fromCodePoint(codePoint);
      }
      const known: Record<string, string> = {
        n: "\n",
        t: "\t",
        r: "\r",
        f: "\f",
        b: "\b",
        v: "\v",
        '"': '"',
        "\\": "\\",
        "/": "/",
      };
      const value = known[body];
      if (value === undefined)
        throw cursor.error(`the escape \\${body} is unknown`, 'use \\n, \\t, \\\\, \\" or \\uHHHH', start);
      return value;
    });
  }

  #regex(start: number): Item {
    const cursor = this.#cursor;
    const match = cursor.match(/\/((?:[^/\\\n[]|\\[^\n]|\[(?:[^\]\\\n]|\\[^\n])*\])+)\/([a-z]*)/y);
    if (!match) throw cursor.error("the regular expression does not end", "close it with /", start);
    const flags = match[2].replace(/[lu]/g, "");
    if (/[^ims]/.test(flags))
      throw cursor.error(`the flags ${JSON.stringify(match[2])} are not supported`, "use i, m and s only", start);
    try {
      // Without a flag the loose syntax is allowed too, since these patterns are written for another dialect.
      return { kind: "literal", expression: regexToExpression(match[1], flags === "" ? undefined : `${flags}u`) };
    } catch (error) {
      if (error instanceof Error) throw cursor.error(error.message.replace(/\.$/, ""), "correct the terminal", start);
      throw error;
    }
  }

  /** @param inside a terminal: names are resolved in place, and nothing is ignored between parts. */
  #expression(item: Item, inside: boolean): Expression {
    switch (item.kind) {
      case "literal":
        return inside ? item.expression : this.#token(item.expression);
      case "terminal": {
        const expression = this.#terminal(item.name, item.position);
        return inside ? expression : this.#token(expression);
      }
      case "rule":
        if (inside)
          throw this.#cursor.error(
            `the terminal uses the rule ${item.name}`,
            "name it in capitals or make this a rule",
            item.position,
          );
        if (!this.#rules.has(item.name))
          throw this.#cursor.error(`rule ${item.name} is not defined`, `add \`${item.name}: ...\``, item.position);
        return ref(item.name);
      case "sequence":
        return sequence(...item.items.map((part) => this.#expression(part, inside)));
      case "choice":
        return choice(...item.items.map((part) => this.#expression(part, inside)));
      case "repeat": {
        const inner = this.#expression(item.item, inside);
        return item.max === 1 && item.min === 0 ? optional(inner) : repeat(inner, item.min, item.max);
      }
    }
  }

  #token(terminal: Expression): Expression {
    return this.#ignored.length === 0 || terminal === EMPTY ? terminal : sequence(ref(IGNORED), terminal);
  }

  #terminal(name: string, position: number): Expression {
    const known = this.#resolved.get(name);
    if (known) return known;
    const definition = this.#terminals.get(name);
    if (!definition)
      throw this.#cursor.error(
        `terminal ${name} is not defined`,
        `add \`${name}: ...\` or %import common.${name}`,
        position,
      );
    if (this.#resolving.has(name))
      throw this.#cursor.error(
        `terminal ${name} refers to itself`,
        "make it a rule, with a name in small letters",
        definition.position,
      );
    this.#resolving.add(name);
    const expression = this.#expression(definition.item, true);
    this.#resolving.delete(name);
    this.#resolved.set(name, expression);
    return expression;
  }
}
