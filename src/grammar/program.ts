/**
 * A grammar in the form the automaton runs: hash-consed nodes over lexemes, with rules whose bodies are built on demand.
 *
 * Every node must be *productive* (match at least one text) or be left out by whoever builds it: the automaton relies on
 * it to promise that whatever it reads can be completed. {@link Program.isProductive} answers for nodes made here; rules
 * answer for themselves when they are declared.
 */
import type { Encoder } from "./encode.js";
import { EPSILON, type Lexemes, NEVER } from "./lexeme.js";
import { RecordTable } from "./record-table.js";

export enum NodeKind {
  /** [lexeme] */
  Lexeme,
  /** [first, rest] */
  Sequence,
  /** [...items] */
  Choice,
  /** [item, min, max]; max -1 is unbounded. */
  Repeat,
  /** [rule] */
  Rule,
  /** [group]: one of several texts, each with a node of its own after it. */
  Names,
}

/** Texts none of which begins another, and what follows each: see {@link Lexemes.names}. */
interface NameGroup {
  readonly list: number;
  readonly rest: (index: number) => number;
  readonly built: number[];
}

interface Rule {
  readonly build: () => number;
  readonly buildShort: (() => number) | undefined;
  node: number;
  shortNode: number;
  productive: boolean;
}

export class Program {
  readonly lexemes: Lexemes;
  readonly encoder: Encoder;
  /** Records `[kind, ...fields]`; read by the automaton. */
  readonly nodes = new RecordTable();
  readonly #rules: Rule[] = [];
  readonly #keyed = new Map<string, number>();
  readonly #groups: NameGroup[] = [];
  #scopes = 0;
  /** Matches the empty text. */
  readonly empty: number;
  /** Matches nothing. */
  readonly never: number;

  constructor(lexemes: Lexemes, encoder: Encoder) {
    this.lexemes = lexemes;
    this.encoder = encoder;
    this.never = this.lexeme(NEVER);
    this.empty = this.lexeme(EPSILON);
  }

  /** A number for the keys of one writer: several may write into a program, each counting from 0. */
  newScope(): number {
    return this.#scopes++;
  }

  /** Rules declared so far. */
  get ruleCount(): number {
    return this.#rules.length;
  }

  lexeme(lexeme: number): number {
    return this.nodes.intern([NodeKind.Lexeme, lexeme]);
  }

  sequence(...items: readonly number[]): number {
    let out = this.empty;
    for (let i = items.length - 1; i >= 0; i--) out = this.#pair(items[i] as number, out);
    return out;
  }

  choice(items: readonly number[]): number {
    const flat = [...new Set(items)].filter((item) => item !== this.never);
    if (flat.length === 0) return this.never;
    return flat.length === 1 ? (flat[0] as number) : this.nodes.intern([NodeKind.Choice, ...flat]);
  }

  /** @param max Infinity for unbounded. */
  repeat(item: number, min: number, max: number): number {
    if (min > max) return this.never;
    if (max === 0 || item === this.empty) return this.empty;
    if (item === this.never) return min === 0 ? this.empty : this.never;
    if (min === 1 && max === 1) return item;
    return this.nodes.intern([NodeKind.Repeat, item, min, max === Number.POSITIVE_INFINITY ? -1 : max]);
  }

  /**
   * One of several texts, each with its own continuation: as a choice of sequences, but what follows a text is built when
   * it has been read, and the texts are one lexeme as long as they are not told apart.
   * @param list made by `Lexemes.names`; `rest` gives the node after the text of that index in it.
   */
  names(list: number, rest: (index: number) => number): number {
    const group = this.#groups.push({ list, rest, built: [] }) - 1;
    return this.nodes.intern([NodeKind.Names, group]);
  }

  /** The lexeme of a node made by {@link names}. */
  namesOf(group: number): number {
    return (this.#groups[group] as NameGroup).list;
  }

  /** What follows the text of that index. */
  afterName(group: number, index: number): number {
    const { rest, built } = this.#groups[group] as NameGroup;
    built[index] ??= rest(index);
    return built[index];
  }

  /**
   * A rule: its body is built the first time it is needed, so rules may refer to each other and be very many.
   * @param productive false while that is not known yet; see {@link setProductive}.
   */
  rule(build: () => number, productive = true): number {
    const id = this.#rules.push({ build, buildShort: undefined, node: -1, shortNode: -1, productive }) - 1;
    return this.nodes.intern([NodeKind.Rule, id]);
  }

  /**
   * The rule of that key, declared now if new.
   * @param buildShort a node with some of the body's texts, a shortest among them: where bodies reach very many rules,
   *   these few are all that is looked at to find short endings.
   */
  keyedRule(key: string, build: () => number, buildShort?: () => number): number {
    let node = this.#keyed.get(key);
    if (node === undefined) {
      const id = this.#rules.push({ build, buildShort, node: -1, shortNode: -1, productive: true }) - 1;
      node = this.nodes.intern([NodeKind.Rule, id]);
      this.#keyed.set(key, node);
    }
    return node;
  }

  /** Tells that the rule behind a node made by {@link rule} matches something. */
  setProductive(ruleNode: number): void {
    const start = this.nodes.start(ruleNode);
    (this.#rules[this.nodes.pool[start + 1] as number] as Rule).productive = true;
  }

  body(rule: number): number {
    const found = this.#rules[rule] as Rule;
    if (found.node < 0) found.node = found.build();
    return found.node;
  }

  /** The body to look at for the shortest text of a rule. */
  shortBody(rule: number): number {
    const found = this.#rules[rule] as Rule;
    if (found.buildShort === undefined) return this.body(rule);
    if (found.shortNode < 0) found.shortNode = found.buildShort();
    return found.shortNode;
  }

  isProductive(node: number): boolean {
    const { pool } = this.nodes;
    const start = this.nodes.start(node);
    switch (pool[start]) {
      case NodeKind.Lexeme:
        return !this.lexemes.isEmpty(pool[start + 1] as number);
      case NodeKind.Sequence:
        return this.isProductive(pool[start + 1] as number) && this.isProductive(pool[start + 2] as number);
      case NodeKind.Choice: {
        for (let i = start + 1; i < this.nodes.end(node); i++) if (this.isProductive(pool[i] as number)) return true;
        return false;
      }
      case NodeKind.Repeat:
        return pool[start + 2] === 0 || this.isProductive(pool[start + 1] as number);
      case NodeKind.Names:
        return true;
      default:
        return (this.#rules[pool[start + 1] as number] as Rule).productive;
    }
  }

  #pair(first: number, rest: number): number {
    if (first === this.never || rest === this.never) return this.never;
    if (first === this.empty) return rest;
    if (rest === this.empty) return first;
    const { pool } = this.nodes;
    const at = this.nodes.start(first);
    if (pool[at] === NodeKind.Sequence) {
      const head = pool[at + 1] as number;
      const tail = pool[at + 2] as number;
      return this.#pair(head, this.#pair(tail, rest));
    }
    return this.nodes.intern([NodeKind.Sequence, first, rest]);
  }
}
