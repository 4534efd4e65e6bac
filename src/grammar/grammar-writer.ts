/**
 * Writes a {@link GrammarDefinition} as program nodes: regular parts become lexemes, rules become rules.
 *
 * Left recursion, which no left-to-right automaton can expand, is rewritten where a rule refers to itself first
 * (`a ::= a "x" | "y"` becomes `"y" "x"*`) and refused otherwise.
 */
import { SglangError } from "../core/errors.js";
import { choice, type Expression, type GrammarDefinition, type GrammarSource, repeat, sequence } from "./ir.js";
import type { Program } from "./program.js";

/** Deepest nesting of one expression: everything here recurses. */
const MAX_DEPTH = 1_000;

export function writeGrammar(program: Program, grammar: GrammarSource): number {
  return "write" in grammar ? grammar.write(program) : new GrammarWriter(program, grammar).write();
}

class GrammarWriter {
  readonly #program: Program;
  readonly #root: Expression;
  readonly #rules: Map<string, Expression>;
  readonly #regular = new Map<string, boolean>();
  readonly #resolved = new Map<string, Expression>();
  readonly #nullable = new Set<string>();
  readonly #productive = new Set<string>();
  readonly #nodes = new Map<string, number>();
  readonly #embedded = new Map<GrammarSource, number>();

  constructor(program: Program, grammar: GrammarDefinition) {
    this.#program = program;
    this.#root = grammar.root;
    this.#rules = new Map(grammar.rules);
  }

  write(): number {
    this.#checkReferences();
    for (const [name, body] of this.#rules) this.#rules.set(name, withoutLeftRecursion(name, body));
    this.#fixpoint(this.#nullable, (e) => this.#isNullable(e));
    this.#refuseLeftRecursion();
    this.#fixpoint(this.#productive, (e) => this.#isProductive(e));
    return this.#isProductive(this.#root) ? this.#node(this.#root) : this.#program.never;
  }

  #rule(name: string): Expression {
    return this.#rules.get(name) as Expression;
  }

  #checkReferences(): void {
    const visit = (expression: Expression, depth: number): void => {
      if (depth > MAX_DEPTH) throw wrong(`a rule is nested deeper than ${MAX_DEPTH} levels`);
      if (expression.kind === "ref" && !this.#rules.has(expression.name)) {
        throw wrong(`the rule ${JSON.stringify(expression.name)} is used but not defined`);
      }
      for (const part of partsOf(expression)) visit(part, depth + 1);
    };
    visit(this.#root, 0);
    for (const body of this.#rules.values()) visit(body, 0);
  }

  #fixpoint(names: Set<string>, holds: (expression: Expression) => boolean): void {
    for (let before = -1; before !== names.size; ) {
      before = names.size;
      for (const [name, body] of this.#rules) if (!names.has(name) && holds(body)) names.add(name);
    }
  }

  #isNullable(expression: Expression): boolean {
    switch (expression.kind) {
      case "sequence":
        return expression.items.every((item) => this.#isNullable(item));
      case "choice":
        return expression.items.some((item) => this.#isNullable(item));
      case "repeat":
        return expression.min === 0 || this.#isNullable(expression.item);
      case "ref":
        return this.#nullable.has(expression.name);
      case "embed":
        return false;
      default:
        return this.#program.lexemes.nullable(this.#program.encoder.lexeme(expression, "utf8"));
    }
  }

  #isProductive(expression: Expression): boolean {
    switch (expression.kind) {
      case "sequence":
        return expression.items.every((item) => this.#isProductive(item));
      case "choice":
        return expression.items.some((item) => this.#isProductive(item));
      case "repeat":
        return expression.min === 0 || this.#isProductive(expression.item);
      case "ref":
        return this.#productive.has(expression.name);
      case "embed":
        return this.#program.isProductive(this.#embed(expression.grammar));
      default:
        return !this.#program.lexemes.isEmpty(this.#program.encoder.lexeme(this.#regularForm(expression), "utf8"));
    }
  }

  /** Rules that can come first in themselves. */
  #refuseLeftRecursion(): void {
    const first = new Map<string, Set<string>>();
    for (const [name, body] of this.#rules) {
      const found = new Set<string>();
      this.#firstRules(body, found);
      first.set(name, found);
    }
    const done = new Set<string>();
    for (const root of this.#rules.keys()) {
      const path = new Set<string>();
      const stack: { name: string; rest: string[] }[] = [{ name: root, rest: [...(first.get(root) ?? [])] }];
      path.add(root);
      while (stack.length > 0) {
        const top = stack[stack.length - 1] as { name: string; rest: string[] };
        const next = top.rest.pop();
        if (next === undefined) {
          stack.pop();
          path.delete(top.name);
          done.add(top.name);
        } else if (path.has(next)) {
          throw wrong(
            `the rule ${JSON.stringify(next)} is left-recursive (it can begin with itself); write it as a repetition`,
          );
        } else if (!done.has(next)) {
          path.add(next);
          stack.push({ name: next, rest: [...(first.get(next) ?? [])] });
        }
      }
    }
  }

  #firstRules(expression: Expression, into: Set<string>): void {
    switch (expression.kind) {
      case "ref":
        into.add(expression.name);
        return;
      case "sequence":
        for (const item of expression.items) {
          this.#firstRules(item, into);
          if (!this.#isNullable(item)) return;
        }
        return;
      case "choice":
        for (const item of expression.items) this.#firstRules(item, into);
        return;
      case "repeat":
        this.#firstRules(expression.item, into);
        return;
      default:
        return;
    }
  }

  #node(expression: Expression): number {
    const program = this.#program;
    if (this.#isRegular(expression)) {
      return program.lexeme(program.encoder.lexeme(this.#regularForm(expression), "utf8"));
    }
    switch (expression.kind) {
      case "sequence":
        return program.sequence(...expression.items.map((item) => this.#node(item)));
      case "choice":
        return program.choice(expression.items.map((item) => this.#node(item)));
      case "repeat":
        return program.repeat(this.#node(expression.item), expression.min, expression.max);
      case "embed":
        return this.#embed(expression.grammar);
      case "ref": {
        const { name } = expression;
        let node = this.#nodes.get(name);
        if (node === undefined) {
          node = program.rule(() => this.#node(this.#rule(name)), this.#productive.has(name));
          this.#nodes.set(name, node);
        }
        return node;
      }
      default:
        throw wrong("a rule that refers to other rules cannot be intersected or complemented");
    }
  }

  #embed(grammar: GrammarSource): number {
    let node = this.#embedded.get(grammar);
    if (node === undefined) {
      node = writeGrammar(this.#program, grammar);
      this.#embedded.set(grammar, node);
    }
    return node;
  }

  #isRegular(expression: Expression): boolean {
    if (expression.kind === "embed") return false;
    if (expression.kind !== "ref") return partsOf(expression).every((part) => this.#isRegular(part));
    const known = this.#regular.get(expression.name);
    if (known !== undefined) return known;
    this.#regular.set(expression.name, false);
    const result = this.#isRegular(this.#rule(expression.name));
    this.#regular.set(expression.name, result);
    return result;
  }

  /** The expression with references to regular rules replaced by their bodies; shared, so nothing is built twice. */
  #regularForm(expression: Expression): Expression {
    switch (expression.kind) {
      case "ref": {
        if (!this.#isRegular(expression)) throw wrong("a recursive rule cannot be intersected or complemented");
        let body = this.#resolved.get(expression.name);
        if (body === undefined) {
          body = this.#regularForm(this.#rule(expression.name));
          this.#resolved.set(expression.name, body);
        }
        return body;
      }
      case "sequence":
      case "choice":
      case "and":
        if (!expression.items.some(hasReference)) return expression;
        return { ...expression, items: expression.items.map((item) => this.#regularForm(item)) };
      case "repeat":
      case "not":
        return hasReference(expression.item) ? { ...expression, item: this.#regularForm(expression.item) } : expression;
      default:
        return expression;
    }
  }
}

function hasReference(expression: Expression): boolean {
  return expression.kind === "ref" || partsOf(expression).some(hasReference);
}

function partsOf(expression: Expression): readonly Expression[] {
  if ("items" in expression) return expression.items;
  return "item" in expression ? [expression.item] : [];
}

/** `a ::= a x | y` as `y x*`, when the rule's own name stands first in some alternatives. */
function withoutLeftRecursion(name: string, body: Expression): Expression {
  const alternatives = body.kind === "choice" ? body.items : [body];
  const tails: Expression[] = [];
  const bases: Expression[] = [];
  for (const item of alternatives) {
    const first = item.kind === "sequence" ? item.items[0] : item;
    if (first?.kind !== "ref" || first.name !== name) bases.push(item);
    else if (item.kind === "sequence") tails.push(sequence(...item.items.slice(1)));
  }
  if (bases.length + tails.length === 0 || bases.length === alternatives.length) return body;
  return sequence(choice(...bases), repeat(choice(...tails), 0, Number.POSITIVE_INFINITY));
}

function wrong(what: string): SglangError {
  return new SglangError("INVALID_REQUEST", `The grammar cannot be used: ${what}.`, { field: "grammar" });
}
