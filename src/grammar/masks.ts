/**
 * Token masks: which tokens may come next in a configuration. Exact by construction: bit `t` is set exactly when reading
 * the bytes of token `t` leads to a live configuration, and live configurations can be completed.
 *
 * A mask is the union over the heads of a configuration. For each lexeme it is known, once for all grammars, which
 * tokens stay inside it and where in the trie it may end (`lexeme-masks.ts`); only what lies beyond those ends is walked,
 * token trie along automaton.
 *
 * Masks are remembered per configuration and interned by content: a runtime can keep each distinct mask once and refer
 * to it by number.
 */
import { type Automaton, DEAD } from "./automaton.js";
import { type LexemeMask, LexemeMasks } from "./lexeme-masks.js";
import { type MaskBuilder, MaskPool } from "./mask-builder.js";
import { ShortestEnd } from "./shortest-end.js";
import type { TokenTrie, Vocabulary } from "./vocabulary.js";

/** Configurations whose mask is remembered before all are forgotten. */
const MAX_MASKS = 4_096;

export class Masks {
  readonly vocabulary: Vocabulary;
  readonly automaton: Automaton;
  readonly #pool: MaskPool;
  readonly #masks = new Map<number, Int32Array>();
  readonly #lexemeMasks: LexemeMasks;
  readonly #path: Int32Array;
  readonly #endMask: Int32Array;
  /** Shortest ends, for masks under a budget. */
  readonly ends: ShortestEnd;
  readonly #most = new Map<number, number>();
  readonly #narrowed = new Map<string, Int32Array>();
  readonly #blankless = new WeakMap<Int32Array, Int32Array>();

  constructor(
    vocabulary: Vocabulary,
    automaton: Automaton,
    pool: MaskPool = new MaskPool(),
    lexemeMasks: LexemeMasks = new LexemeMasks(vocabulary, automaton.program.lexemes),
  ) {
    this.vocabulary = vocabulary;
    this.#lexemeMasks = lexemeMasks;
    this.automaton = automaton;
    this.#pool = pool;
    this.#path = new Int32Array(vocabulary.longestToken + 1);
    this.ends = new ShortestEnd(automaton, vocabulary);
    this.#endMask = new Int32Array(vocabulary.maskWords);
    for (const id of vocabulary.eosTokenIds) set(this.#endMask, id);
  }

  /** The mask that allows end tokens only. Shared, not to be written to. */
  get end(): Int32Array {
    return this.#endMask;
  }

  /** Tokens allowed next, end tokens included where the text may end. Shared, not to be written to. */
  of(configuration: number): Int32Array {
    const known = this.#masks.get(configuration);
    if (known !== undefined) return known;
    const mask = this.#build(configuration).finish(this.#pool);
    if (this.#masks.size >= MAX_MASKS) this.#masks.clear();
    this.#masks.set(configuration, mask);
    return mask;
  }

  /**
   * Tokens after which the text can be completed with `tokensLeft - 1` more of them; end tokens where it may end. When
   * it is too late, the tokens that come nearest: the mask is never empty.
   */
  within(configuration: number, tokensLeft: number): Int32Array {
    const mask = this.of(configuration);
    const budget = tokensLeft - 1;
    if (this.#mostToEnd(configuration) <= budget) return mask;
    const least = this.ends.tokens(configuration);
    // Where the text is complete nothing has to come any more; elsewhere the shortest end always stays possible.
    const most = least === 0 ? budget : Math.max(budget, least - 1);
    const key = `${configuration} ${most}`;
    const known = this.#narrowed.get(key);
    if (known !== undefined) return known;
    const narrow = new Int32Array(mask.length);
    this.#eachToken(configuration, (id, to) => {
      if (this.ends.tokens(to) <= most) set(narrow, id);
    });
    this.#copyDuplicates(narrow);
    if (this.automaton.accepts(configuration)) for (const id of this.vocabulary.eosTokenIds) set(narrow, id);
    const pooled = this.#pool.intern(narrow);
    if (this.#narrowed.size >= MAX_MASKS) this.#narrowed.clear();
    this.#narrowed.set(key, pooled);
    return pooled;
  }

  /** The mask without tokens of nothing but white space; the mask itself when there are no others. */
  withoutBlanks(mask: Int32Array): Int32Array {
    let known = this.#blankless.get(mask);
    if (known === undefined) {
      const { blanks } = this.vocabulary;
      const rest = mask.map((word, i) => word & ~(blanks[i] as number));
      known = rest.some((word) => word !== 0) ? this.#pool.intern(rest) : mask;
      this.#blankless.set(mask, known);
    }
    return known;
  }

  /** Whether some token that begins with `bytes` and is longer may come in that configuration. */
  allowsLonger(configuration: number, bytes: Uint8Array): boolean {
    const { automaton } = this;
    const { label, skip, token, size } = this.vocabulary.trie;
    let node = 0;
    let end = size;
    let at = configuration;
    for (let depth = 1; depth <= bytes.length; depth++) {
      const wanted = (depth << 8) | (bytes[depth - 1] as number);
      while (node < end && label[node] !== wanted) node = skip[node] as number;
      if (node >= end) return false;
      at = automaton.next(at, wanted & 255);
      end = skip[node] as number;
      node++;
    }
    const path = this.#path;
    path[bytes.length] = at;
    while (node < end) {
      const tag = label[node] as number;
      const depth = tag >> 8;
      const to = automaton.next(path[depth - 1] as number, tag & 255);
      if (to !== DEAD && (token[node] as number) >= 0) return true;
      path[depth] = to;
      node = to === DEAD ? (skip[node] as number) : node + 1;
    }
    return false;
  }

  /** Most tokens that any allowed token leaves to be written for an end. */
  #mostToEnd(configuration: number): number {
    const known = this.#most.get(configuration);
    if (known !== undefined) return known;
    let most = 0;
    let last = DEAD;
    this.#eachToken(configuration, (_, to) => {
      if (to !== last) most = Math.max(most, this.ends.tokens(to));
      last = to;
    });
    this.#most.set(configuration, most);
    return most;
  }

  /** Calls `visit` with every allowed token (duplicates aside) and the configuration it leads to. */
  #eachToken(configuration: number, visit: (id: number, to: number) => void): void {
    const { automaton } = this;
    const { label, skip, token, size } = this.vocabulary.trie;
    const path = this.#path;
    path[0] = configuration;
    for (let i = 0; i < size; ) {
      const tag = label[i] as number;
      const depth = tag >> 8;
      const to = automaton.next(path[depth - 1] as number, tag & 255);
      if (to === DEAD) {
        i = skip[i] as number;
        continue;
      }
      path[depth] = to;
      if ((token[i] as number) >= 0) visit(token[i] as number, to);
      i++;
    }
  }

  #copyDuplicates(mask: Int32Array): void {
    const { duplicates } = this.vocabulary;
    for (let i = 0; i < duplicates.length; i += 2) {
      if (has(mask, duplicates[i] as number)) set(mask, duplicates[i + 1] as number);
    }
  }

  /** The same without any memo of whole masks. */
  compute(configuration: number): Int32Array {
    return this.#build(configuration).words.slice();
  }

  #build(configuration: number): MaskBuilder {
    const { vocabulary, automaton } = this;
    const mask = this.#pool.begin(vocabulary.maskWords);
    // Sorted by lexeme: those of one lexeme go on together after it.
    const heads = automaton.heads(configuration);
    // The largest mask first: it is copied, the others are added.
    for (let i = 0; i < heads.length; i += 2) {
      if (heads[i] === heads[i - 2] || automaton.hasNames(heads[i + 1] as number)) continue;
      const { dense } = this.#lexemeMasks.of(heads[i] as number);
      if (dense !== undefined) mask.addMask(dense);
    }
    for (let i = 0; i < heads.length; ) {
      const lexeme = heads[i] as number;
      const frame = heads[i + 1] as number;
      let end = i + 2;
      if (automaton.hasNames(frame)) {
        this.#addNames(lexeme, frame, mask);
        i = end;
        continue;
      }
      while (end < heads.length && heads[end] === lexeme) end += 2;
      const part = this.#lexemeMasks.of(lexeme);
      if (part.list !== undefined) mask.addList(part.list);
      if (part.exits.length > 0) {
        const one = end === i + 2;
        this.#addExits(part, one ? automaton.entering(frame) : automaton.enteringAny(heads, i, end), mask);
      }
      i = end;
    }
    const { duplicates, eosTokenIds } = vocabulary;
    const { words } = mask;
    for (let i = 0; i < duplicates.length; i += 2) {
      if (has(words, duplicates[i] as number)) mask.add(duplicates[i + 1] as number);
    }
    if (automaton.accepts(configuration)) for (const id of eosTokenIds) mask.add(id);
    return mask;
  }

  /** Adds what each name of a head of names allows. */
  #addNames(lexeme: number, frame: number, mask: MaskBuilder): void {
    const { automaton } = this;
    const { lexemes } = automaton.program;
    const [from, to] = lexemes.namesIn(lexeme);
    for (let name = from; name < to; name++) {
      const part = this.#lexemeMasks.of(lexemes.nameIn(lexeme, name));
      if (part.dense !== undefined) mask.addMask(part.dense);
      if (part.list !== undefined) mask.addList(part.list);
      if (part.exits.length > 0) this.#addExits(part, automaton.entering(automaton.afterName(frame, name)), mask);
    }
  }

  /** Adds the tokens that leave a lexeme and go on from the configuration `start`. */
  #addExits({ exits, trie }: LexemeMask, start: number, mask: MaskBuilder): void {
    if (!this.automaton.continues(start)) return;
    for (let i = 0; i < exits.length; i++) {
      const node = exits[i] as number;
      this.#path[(trie.label[node] as number) >> 8] = start;
      this.#walk(trie, node + 1, trie.skip[node] as number, mask);
    }
  }

  /** Adds the tokens that end at the nodes from `from` to `end`; their parent's configuration is on the path. */
  #walk(trie: TokenTrie, from: number, end: number, mask: MaskBuilder): void {
    const { automaton } = this;
    const { rows, columns } = automaton;
    const { label, skip, token } = trie;
    const path = this.#path;
    for (let i = from; i < end; ) {
      const tag = label[i] as number;
      const depth = tag >> 8;
      const at = path[depth - 1] as number;
      const row = rows.offset(at);
      let to = row < 0 ? -1 : (rows.table[row + ((columns[at] as Uint8Array)[tag & 255] as number)] as number);
      if (to < 0) to = automaton.next(at, tag & 255);
      if (to === DEAD) {
        i = skip[i] as number;
        continue;
      }
      path[depth] = to;
      const id = token[i] as number;
      if (id >= 0) mask.add(id);
      i++;
    }
  }
}

/** Whether token `id` is allowed. */
export function has(mask: Int32Array | Uint32Array, id: number): boolean {
  return (((mask[id >> 5] as number) >>> (id & 31)) & 1) !== 0;
}

function set(mask: Int32Array, id: number): void {
  mask[id >> 5] = (mask[id >> 5] as number) | (1 << (id & 31));
}
