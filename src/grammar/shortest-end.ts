/**
 * How a text can be brought to its end soonest: what budget-aware closing rests on.
 *
 * From every configuration there is one *ending*, a byte string that completes the text. It is a function of the
 * configuration alone and consistent: after the first byte of an ending, the ending is the rest of it. So whoever keeps
 * "the ending still fits" true at each step can always keep it true by writing the ending, token by token.
 *
 * Lengths of nodes are least fixed points over the rules; those of very large grammars are the shortest among the nodes
 * looked at, which keeps them consistent. A rule with very many forms may offer a few for this purpose
 * (`Program.keyedRule`).
 */
import { SglangError } from "../core/errors.js";
import type { Automaton } from "./automaton.js";
import { EPSILON, type Lexemes } from "./lexeme.js";
import { NodeKind, type Program } from "./program.js";
import type { TokenTrie, Vocabulary } from "./vocabulary.js";

/** Program nodes looked at first for the shortest text of one; more when they do not suffice (pretty JSON has no end of them). */
const FIRST_NODES = 2_000;
/** Program nodes looked at before a grammar is said to be too large. */
const MAX_NODES = 200_000;
/** Lexemes one search for the shortest word looks at. */
const MAX_LEXEMES = 50_000;

const ENDLESS = Number.POSITIVE_INFINITY;

/** Shortest words of lexemes: their length, and the first byte of the one that is written. */
class ShortestWords {
  readonly #lexemes: Lexemes;
  readonly #length = new Map<number, number>([[EPSILON, 0]]);
  readonly #firstByte = new Map<number, number>();

  constructor(lexemes: Lexemes) {
    this.#lexemes = lexemes;
  }

  length(lexeme: number): number {
    if (this.#lexemes.nullable(lexeme)) return 0;
    const known = this.#length.get(lexeme);
    return known ?? this.#search(lexeme);
  }

  firstByte(lexeme: number): number {
    this.length(lexeme);
    return this.#firstByte.get(lexeme) as number;
  }

  /** Breadth-first to the nearest end; everything on the way there is remembered. */
  #search(root: number): number {
    const lexemes = this.#lexemes;
    const cameFrom = new Map<number, readonly [previous: number, byte: number]>();
    let layer = [root];
    let best: { at: number; rest: number } | undefined;
    for (let depth = 0; best === undefined || depth < best.rest; depth++) {
      const next: number[] = [];
      for (const at of layer) {
        const rest = lexemes.nullable(at) ? 0 : this.#length.get(at);
        if (rest !== undefined) {
          if (best === undefined || depth + rest < best.rest) best = { at, rest: depth + rest };
          continue;
        }
        for (const byte of lexemes.representatives(at)) {
          const to = lexemes.next(at, byte);
          if (to === 0 || to === root || cameFrom.has(to)) continue;
          cameFrom.set(to, [at, byte]);
          next.push(to);
        }
      }
      if (cameFrom.size > MAX_LEXEMES) throw tooLarge(`a pattern has more than ${MAX_LEXEMES} states`);
      if (next.length === 0) break;
      layer = next;
    }
    const found = best as { at: number; rest: number };
    const path: number[] = [found.at];
    while (path[path.length - 1] !== root)
      path.push((cameFrom.get(path[path.length - 1] as number) as [number, number])[0]);
    path.reverse();
    path.forEach((at, i) => {
      if (i < path.length - 1 || !this.#length.has(at)) this.#length.set(at, found.rest - i);
      const step = cameFrom.get(path[i + 1] as number);
      if (i < path.length - 1) this.#firstByte.set(at, (step as readonly [number, number])[1]);
    });
    return found.rest;
  }
}

export class ShortestEnd {
  readonly #automaton: Automaton;
  readonly #program: Program;
  readonly #trie: TokenTrie;
  readonly #words: ShortestWords;
  readonly #nodes: number[] = [];
  readonly #frames = new Map<number, number>([[0, 0]]);
  readonly #tokens = new Map<number, number>();
  readonly #bytes = new Map<number, number>();

  constructor(automaton: Automaton, vocabulary: Vocabulary) {
    this.#automaton = automaton;
    this.#program = automaton.program;
    this.#trie = vocabulary.trie;
    this.#words = new ShortestWords(automaton.program.lexemes);
  }

  /** Bytes of the ending; 0 where the text may end already. */
  length(configuration: number): number {
    const known = this.#bytes.get(configuration);
    if (known !== undefined) return known;
    const length = this.#automaton.accepts(configuration) ? 0 : (this.#bestHead(configuration)[0] as number);
    this.#bytes.set(configuration, length);
    return length;
  }

  /** The ending: bytes that complete the text. */
  bytes(configuration: number): Uint8Array {
    const out: number[] = [];
    for (let at = configuration; !this.#automaton.accepts(at); ) {
      const byte = this.#firstByte(at);
      out.push(byte);
      at = this.#automaton.next(at, byte);
    }
    return Uint8Array.from(out);
  }

  /** Tokens of the ending, each the longest that fits. */
  tokens(configuration: number): number {
    const known = this.#tokens.get(configuration);
    if (known !== undefined) return known;
    // The ending of a configuration on the way is a suffix of this one, so its count is part of this one's.
    const passed: number[] = [];
    let rest = 0;
    for (let at = configuration; !this.#automaton.accepts(at); at = this.#afterLongestToken(at)) {
      const found = this.#tokens.get(at);
      if (found !== undefined) {
        rest = found;
        break;
      }
      passed.push(at);
    }
    while (passed.length > 0) this.#tokens.set(passed.pop() as number, ++rest);
    if (configuration !== 0 && rest === 0) this.#tokens.set(configuration, 0);
    return rest;
  }

  #afterLongestToken(configuration: number): number {
    const { label, skip, token, size } = this.#trie;
    let at = configuration;
    let end = -1;
    let after = -1;
    let node = 0;
    let limit = size;
    for (let depth = 1; !this.#automaton.accepts(at); depth++) {
      const wanted = (depth << 8) | this.#firstByte(at);
      while (node < limit && (label[node] as number) !== wanted) node = skip[node] as number;
      if (node >= limit) break;
      at = this.#automaton.next(at, wanted & 255);
      if ((token[node] as number) >= 0) {
        end = node;
        after = at;
      }
      limit = skip[node] as number;
      node++;
    }
    if (end < 0) {
      throw new SglangError(
        "UNSUPPORTED",
        "The vocabulary has no token for a byte that the shortest end of the text needs; budget-aware closing is not possible.",
        { field: "close_on_budget" },
      );
    }
    return after;
  }

  #firstByte(configuration: number): number {
    return this.#words.firstByte(this.#bestHead(configuration)[1] as number);
  }

  /** [bytes to the end, lexeme] of the head with the shortest ending; the first of equals. */
  #bestHead(configuration: number): readonly [number, number] {
    const heads = Array.from(this.#automaton.heads(configuration));
    let best = ENDLESS;
    let lexeme = -1;
    const consider = (head: number, frame: number): void => {
      let own = this.#words.length(head);
      // A lexeme that may end here has handed over to its frame already: as a head it is there to go on.
      if (own === 0) own = ENDLESS;
      if (own >= best) return;
      const rest = this.#frame(frame);
      if (own + rest < best) {
        best = own + rest;
        lexeme = head;
      }
    };
    for (let i = 0; i < heads.length; i += 2) {
      const head = heads[i] as number;
      const frame = heads[i + 1] as number;
      if (!this.#automaton.hasNames(frame)) {
        consider(head, frame);
        continue;
      }
      const { lexemes } = this.#program;
      const [from, to] = lexemes.namesIn(head);
      for (let name = from; name < to; name++)
        consider(lexemes.nameIn(head, name), this.#automaton.afterName(frame, name));
    }
    return [best, lexeme];
  }

  #frame(frame: number): number {
    const path: number[] = [];
    let at = frame;
    while (!this.#frames.has(at)) {
      path.push(at);
      at = this.#automaton.frame(at)[1];
    }
    let length = this.#frames.get(at) as number;
    while (path.length > 0) {
      const here = path.pop() as number;
      length += this.#node(this.#automaton.frame(here)[0]);
      this.#frames.set(here, length);
    }
    return length;
  }

  #node(node: number): number {
    let length = this.#nodes[node] ?? ENDLESS;
    for (let limit = FIRST_NODES; length === ENDLESS && limit <= MAX_NODES; limit *= 8) {
      length = this.#nodeWithin(node, limit);
    }
    if (length === ENDLESS) throw tooLarge(`it has more than ${MAX_NODES} parts`);
    return length;
  }

  /** The length of a node if only the `limit` nodes nearest to it are looked at; ENDLESS if that is not enough. */
  #nodeWithin(node: number, limit: number): number {
    const lengths = new Map<number, number>();
    const order = [node];
    for (let i = 0; i < order.length && order.length < limit; i++) {
      lengths.set(order[i] as number, ENDLESS);
      for (const part of this.#parts(order[i] as number)) {
        if (lengths.has(part) || this.#nodes[part] !== undefined) continue;
        lengths.set(part, ENDLESS);
        order.push(part);
      }
    }
    const of = (part: number): number => this.#nodes[part] ?? lengths.get(part) ?? ENDLESS;
    for (let changed = true; changed; ) {
      changed = false;
      for (let i = order.length - 1; i >= 0; i--) {
        const at = order[i] as number;
        const length = this.#measure(at, of);
        if (length >= (lengths.get(at) as number)) continue;
        lengths.set(at, length);
        changed = true;
      }
    }
    for (const [at, length] of lengths) if (length !== ENDLESS) this.#nodes[at] = length;
    return lengths.get(node) as number;
  }

  #parts(node: number): number[] {
    const { nodes } = this.#program;
    const start = nodes.start(node);
    switch (nodes.pool[start]) {
      case NodeKind.Lexeme:
        return [];
      case NodeKind.Repeat:
        return [nodes.pool[start + 1] as number];
      case NodeKind.Names:
        return this.#names(nodes.pool[start + 1] as number).map(([, rest]) => rest);
      case NodeKind.Rule:
        return [this.#program.shortBody(nodes.pool[start + 1] as number)];
      default:
        return Array.from(nodes.pool.subarray(start + 1, nodes.end(node)));
    }
  }

  /** Each name of a group as a lexeme, and the node after it. */
  #names(group: number): (readonly [name: number, rest: number])[] {
    const { lexemes } = this.#program;
    const list = this.#program.namesOf(group);
    const [from, to] = lexemes.namesIn(list);
    const names: (readonly [number, number])[] = [];
    for (let name = from; name < to; name++)
      names.push([lexemes.nameIn(list, name), this.#program.afterName(group, name)]);
    return names;
  }

  #measure(node: number, lengthOf: (node: number) => number): number {
    const { nodes } = this.#program;
    const start = nodes.start(node);
    const { pool } = nodes;
    const of = (index: number): number => lengthOf(pool[start + index] as number);
    switch (pool[start]) {
      case NodeKind.Lexeme: {
        const lexeme = pool[start + 1] as number;
        return this.#program.lexemes.isEmpty(lexeme) ? ENDLESS : this.#words.length(lexeme);
      }
      case NodeKind.Sequence:
        return of(1) + of(2);
      case NodeKind.Choice: {
        let least = ENDLESS;
        for (let i = 1; i < nodes.end(node) - start; i++) least = Math.min(least, of(i));
        return least;
      }
      case NodeKind.Repeat: {
        const min = pool[start + 2] as number;
        return min === 0 ? 0 : min * of(1);
      }
      case NodeKind.Names:
        return Math.min(
          ...this.#names(pool[start + 1] as number).map(([name, rest]) => this.#words.length(name) + lengthOf(rest)),
        );
      default:
        return lengthOf(this.#program.shortBody(pool[start + 1] as number));
    }
  }
}

function tooLarge(why: string): SglangError {
  return new SglangError("UNSUPPORTED", `The shortest end of the grammar's texts cannot be found: ${why}.`, {
    field: "close_on_budget",
  });
}
