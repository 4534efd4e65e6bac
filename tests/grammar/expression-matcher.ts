/**
 * What the tests of the front ends ask: does an expression, or a grammar, match this text? Regular expressions are
 * answered by the engine's own lexemes, grammars by a plain recogniser that follows the definition word by word.
 */
import { Automaton, DEAD } from "../../src/grammar/automaton.js";
import { Encoder } from "../../src/grammar/encode.js";
import { writeGrammar } from "../../src/grammar/grammar-writer.js";
import type { Expression, GrammarDefinition } from "../../src/grammar/ir.js";
import { Lexemes, NEVER } from "../../src/grammar/lexeme.js";
import { Program } from "../../src/grammar/program.js";

const lexemes = new Lexemes();
const encoder = new Encoder(lexemes);
const utf8 = new TextEncoder();

/** Whether the regular `expression` matches exactly these bytes. */
export function matchesBytes(expression: Expression, bytes: Uint8Array): boolean {
  let lexeme = encoder.lexeme(expression, "utf8");
  for (const byte of bytes) lexeme = lexemes.next(lexeme, byte);
  return lexeme !== NEVER && lexemes.nullable(lexeme);
}

export function matches(expression: Expression, text: string): boolean {
  return matchesBytes(expression, utf8.encode(text));
}

const automata = new WeakMap<GrammarDefinition, Automaton>();

/**
 * Whether `grammar` matches `text` as a whole. For short texts and grammars without left recursion. The engine and the
 * recogniser must agree.
 */
export function grammarMatches(grammar: GrammarDefinition, text: string): boolean {
  const found = new Recogniser([...text]).ends(grammar.root, 0, grammar).has([...text].length);
  let automaton = automata.get(grammar);
  if (!automaton) {
    const program = new Program(lexemes, encoder);
    automaton = new Automaton(program, writeGrammar(program, grammar));
    automata.set(grammar, automaton);
  }
  const at = automaton.read(automaton.start, utf8.encode(text));
  const accepted = at !== DEAD && automaton.accepts(at);
  if (accepted !== found)
    throw new Error(`the engine says ${accepted} and the definition ${found} to ${JSON.stringify(text)}`);
  return found;
}

class Recogniser {
  readonly #characters: readonly string[];
  readonly #known = new Map<Expression, Map<number, Set<number>>>();

  constructor(characters: readonly string[]) {
    this.#characters = characters;
  }

  /** Where a match of `expression` that begins at `from` may end. */
  ends(expression: Expression, from: number, grammar: GrammarDefinition): Set<number> {
    let byPosition = this.#known.get(expression);
    if (!byPosition) {
      byPosition = new Map();
      this.#known.set(expression, byPosition);
    }
    const known = byPosition.get(from);
    if (known) return known;
    const found = this.#find(expression, from, grammar);
    byPosition.set(from, found);
    return found;
  }

  #find(expression: Expression, from: number, grammar: GrammarDefinition): Set<number> {
    switch (expression.kind) {
      case "sequence": {
        let ends = new Set([from]);
        for (const item of expression.items) ends = this.#after(ends, item, grammar);
        return ends;
      }
      case "choice":
        return new Set(expression.items.flatMap((item) => [...this.ends(item, from, grammar)]));
      case "repeat": {
        let ends = new Set([from]);
        const all = new Set<number>(expression.min === 0 ? [from] : []);
        for (let count = 1; count <= expression.max && ends.size > 0; count++) {
          const next = this.#after(ends, expression.item, grammar);
          const size = all.size;
          if (count >= expression.min) for (const end of next) all.add(end);
          if (count > expression.min && all.size === size) break;
          ends = next;
        }
        return all;
      }
      case "ref":
        return this.ends(grammar.rules.get(expression.name)!, from, grammar);
      case "embed": {
        if (!("root" in expression.grammar)) throw new Error("only definitions can be embedded in these tests");
        return this.ends(expression.grammar.root, from, expression.grammar);
      }
      default: {
        const ends = new Set<number>();
        for (let to = from; to <= this.#characters.length; to++)
          if (matches(expression, this.#characters.slice(from, to).join(""))) ends.add(to);
        return ends;
      }
    }
  }

  #after(starts: ReadonlySet<number>, item: Expression, grammar: GrammarDefinition): Set<number> {
    return new Set([...starts].flatMap((start) => [...this.ends(item, start, grammar)]));
  }
}
