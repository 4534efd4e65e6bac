/**
 * What masks owe to one lexeme, whatever follows it: which tokens stay inside the lexeme, and at which nodes of the
 * token trie it may end so that a token can go on in what follows. Known per lexeme and vocabulary and shared by all
 * grammars: the inside of a JSON string is looked at once, not once for each place where a string may stand.
 *
 * Two short cuts make a new lexeme cheap. Runs of JSON-safe characters have precomputed masks where all of them are taken
 * up to some length. And a lexeme that soon behaves like another one (any key but these names, after a letter that none
 * of them has) is walked only where the two differ.
 */
import { EPSILON, type Lexemes, NEVER } from "./lexeme.js";
import type { TokenTrie, Vocabulary } from "./vocabulary.js";

export interface LexemeMask {
  /** Tokens after which the lexeme is unfinished or just complete: a mask, or ids when they are few. */
  readonly tokens: Int32Array;
  readonly isList: boolean;
  /** Nodes of `trie`, ascending, at which the lexeme may end and below which there are tokens. */
  readonly exits: Int32Array;
  readonly trie: TokenTrie;
}

/** Lexemes that take at most so many first bytes are walked with the configuration. */
const NARROW = 24;
/** Bytes of masks kept before all are forgotten. */
const MAX_BYTES = 128 * 1024 * 1024;
/** Bytes that show what a lexeme turns into after an ordinary beginning. */
const PROBES = [0x71, 0x58, 0x37];

export class LexemeMasks {
  readonly #vocabulary: Vocabulary;
  readonly #lexemes: Lexemes;
  readonly #masks = new Map<number, LexemeMask>();
  readonly #alone: (boolean | undefined)[] = [];
  #bytes = 0;
  readonly #path: Int32Array;
  readonly #basePath: Int32Array;

  constructor(vocabulary: Vocabulary, lexemes: Lexemes) {
    this.#vocabulary = vocabulary;
    this.#lexemes = lexemes;
    this.#path = new Int32Array(vocabulary.longestToken + 1);
    this.#basePath = new Int32Array(vocabulary.longestToken + 1);
  }

  /**
   * Whether the lexeme is worth looking at by itself among others: it takes many bytes, or may end here (white space and
   * numbers do in many places).
   */
  standsAlone(lexeme: number): boolean {
    let alone = this.#alone[lexeme];
    if (alone === undefined) {
      alone = this.#lexemes.nullable(lexeme) || countBits(this.#lexemes.firstBits(lexeme)) > NARROW;
      this.#alone[lexeme] = alone;
    }
    return alone;
  }

  of(lexeme: number): LexemeMask {
    const known = this.#masks.get(lexeme);
    if (known !== undefined) return known;
    const saturated = this.#lexemes.saturated(lexeme, this.#vocabulary.longestToken);
    const made = saturated === lexeme ? this.#make(lexeme) : this.of(saturated);
    if (made.tokens.length > 0) this.#bytes += 4 * made.tokens.length;
    if (this.#bytes > MAX_BYTES) {
      this.#masks.clear();
      this.#bytes = 0;
    }
    this.#masks.set(lexeme, made);
    return made;
  }

  #make(lexeme: number): LexemeMask {
    if (countBits(this.#lexemes.firstBits(lexeme)) <= NARROW) {
      const { trie } = this.#vocabulary;
      const ids: number[] = [];
      const exits = this.#walk(lexeme, trie, (id) => ids.push(id));
      return { tokens: Int32Array.from(ids), isList: true, exits, trie };
    }
    const base = this.#base(lexeme);
    if (base >= 0) return this.#differing(lexeme, base, this.of(base));
    const { trie, tokens } = this.#beginning(lexeme);
    const exits = this.#walk(lexeme, trie, (id) => {
      tokens[id >> 5] = (tokens[id >> 5] as number) | (1 << (id & 31));
    });
    return { tokens, isList: false, exits, trie };
  }

  /** Calls `visit` for every token that stays inside the lexeme. @returns the exits. */
  #walk(lexeme: number, trie: TokenTrie, visit: (id: number) => void): Int32Array {
    const exits: number[] = [];
    const { label, skip, token, size } = trie;
    const lexemes = this.#lexemes;
    const path = this.#path;
    path[0] = lexeme;
    for (let i = 0; i < size; ) {
      const tag = label[i] as number;
      const depth = tag >> 8;
      const to = lexemes.next(path[depth - 1] as number, tag & 255);
      const end = skip[i] as number;
      if (to === NEVER) {
        i = end;
        continue;
      }
      path[depth] = to;
      if ((token[i] as number) >= 0) visit(token[i] as number);
      if (end > i + 1 && lexemes.nullable(to)) exits.push(i);
      i = to === EPSILON ? end : i + 1;
    }
    return Int32Array.from(exits);
  }

  /** The trie that is left to walk, and the tokens known without walking. */
  #beginning(lexeme: number): { trie: TokenTrie; tokens: Int32Array } {
    const vocabulary = this.#vocabulary;
    const reach = this.#lexemes.safeReach(lexeme);
    if (!reach.exact) return { trie: vocabulary.trie, tokens: new Int32Array(vocabulary.maskWords) };
    return { trie: vocabulary.unsafeTrie, tokens: vocabulary.safeMask(reach.length).slice() };
  }

  /** A lexeme that this one becomes after an ordinary byte and that all of them leave as it is; -1 if none. */
  #base(lexeme: number): number {
    const lexemes = this.#lexemes;
    const reach = lexemes.safeReach(lexeme);
    for (const byte of PROBES) {
      const to = lexemes.next(lexeme, byte);
      if (to === lexeme || to === NEVER || PROBES.some((other) => lexemes.next(to, other) !== to)) continue;
      const other = lexemes.safeReach(to);
      if (other.exact === reach.exact && (!reach.exact || other.length === reach.length)) return to;
    }
    return -1;
  }

  /** The mask of `lexeme` from that of `base`: parts of the trie in which both lead to the same lexeme are taken over. */
  #differing(lexeme: number, base: number, known: LexemeMask): LexemeMask {
    const lexemes = this.#lexemes;
    const { trie } = known;
    const { label, skip, token, size } = trie;
    const tokens = known.tokens.slice();
    const exits: number[] = [];
    let taken = 0;
    const path = this.#path;
    const basePath = this.#basePath;
    path[0] = lexeme;
    basePath[0] = base;
    for (let i = 0; i < size; ) {
      const tag = label[i] as number;
      const depth = tag >> 8;
      const at = path[depth - 1] as number;
      const baseAt = basePath[depth - 1] as number;
      const to = at === NEVER ? NEVER : lexemes.next(at, tag & 255);
      const baseTo = baseAt === NEVER ? NEVER : lexemes.next(baseAt, tag & 255);
      const end = skip[i] as number;
      if (to === baseTo) {
        while (taken < known.exits.length && (known.exits[taken] as number) < i) taken++;
        for (; taken < known.exits.length && (known.exits[taken] as number) < end; taken++)
          exits.push(known.exits[taken] as number);
        i = end;
        continue;
      }
      path[depth] = to;
      basePath[depth] = baseTo;
      const id = token[i] as number;
      if (id >= 0) {
        const bit = 1 << (id & 31);
        const word = tokens[id >> 5] as number;
        tokens[id >> 5] = to === NEVER ? word & ~bit : word | bit;
      }
      if (to !== NEVER && end > i + 1 && lexemes.nullable(to)) exits.push(i);
      i++;
    }
    return { tokens, isList: false, exits: Int32Array.from(exits), trie };
  }
}

function countBits(bits: Int32Array): number {
  let count = 0;
  for (let word of bits) for (; word !== 0; word &= word - 1) count++;
  return count;
}
