/**
 * What masks owe to one lexeme, whatever follows it: which tokens stay inside the lexeme, and at which nodes of the
 * token trie it may end so that a token can go on in what follows. Known per lexeme and vocabulary and shared by all
 * grammars: the inside of a JSON string is looked at once, not once for each place where a string may stand.
 *
 * Five short cuts make a new lexeme cheap. Where a lexeme stays what it is whatever comes below a node, all tokens there
 * are taken at once. Bytes that must come are looked up in the trie. Runs of JSON-safe characters
 * have precomputed masks where all of them are taken up to some length. A lexeme that soon behaves like another one (any
 * key but these names, after a letter that none of them has) is walked only where the two differ. And of a lexeme with
 * bounds only tokens long enough to meet them are looked at, when the one without bounds is known.
 */
import { EPSILON, type Lexemes, NEVER } from "./lexeme.js";
import { type DenseMask, hashOf } from "./mask-builder.js";
import { LEAST_REACH, RelaxedLexemes } from "./relaxed-lexemes.js";
import { BEYOND_ASCII, KIND_OF } from "./trie-contents.js";
import { childOf, type TokenTrie, type Vocabulary } from "./vocabulary.js";

export interface LexemeMask {
  /** Tokens after which the lexeme is unfinished or just complete: ids when they are few, else a mask. */
  readonly list: Int32Array | undefined;
  readonly dense: DenseMask | undefined;
  /** Nodes of `trie`, ascending, at which the lexeme may end and below which there are tokens. */
  readonly exits: Int32Array;
  readonly trie: TokenTrie;
}

/** Bytes of masks made since the last time those not asked for in between were forgotten. */
const MAX_BYTES = 64 * 1024 * 1024;
/** Bytes that show what a lexeme turns into after an ordinary beginning. */
const PROBES = [0x71, 0x58, 0x37];

/** Lexemes whose kinds of bytes are remembered. */
const MAX_STAYS = 100_000;
/** Nodes below which it is worth asking whether they can be taken at once. */
const WORTH_ASKING = 12;

const NO_NODES = new Int32Array(0);

export class LexemeMasks {
  readonly #vocabulary: Vocabulary;
  readonly #lexemes: Lexemes;
  readonly #relaxed: RelaxedLexemes;
  #masks = new Map<number, LexemeMask>();
  #older = new Map<number, LexemeMask>();
  #bytes = 0;
  /** By lexeme: the kinds of bytes that leave it as it is. */
  readonly #stays = new Map<number, number>();
  readonly #path: Int32Array;
  readonly #basePath: Int32Array;
  readonly #pathBits: (Int32Array | undefined)[];
  /** Row in the table of transitions, and classes of bytes, of each lexeme on the path. */
  readonly #pathRows: Int32Array;
  readonly #pathClasses: Uint8Array[];
  #ids = new Int32Array(4_096);
  #idCount = 0;
  #exits: number[] = [];

  constructor(vocabulary: Vocabulary, lexemes: Lexemes) {
    this.#vocabulary = vocabulary;
    this.#lexemes = lexemes;
    this.#relaxed = new RelaxedLexemes(lexemes, vocabulary.longestToken);
    this.#path = new Int32Array(vocabulary.longestToken + 1);
    this.#basePath = new Int32Array(vocabulary.longestToken + 1);
    this.#pathBits = new Array<undefined>(vocabulary.longestToken + 1).fill(undefined);
    this.#pathRows = new Int32Array(vocabulary.longestToken + 1);
    this.#pathClasses = new Array<Uint8Array>(vocabulary.longestToken + 1).fill(new Uint8Array(0));
  }

  of(lexeme: number): LexemeMask {
    let known = this.#masks.get(lexeme);
    if (known !== undefined) return known;
    known = this.#older.get(lexeme);
    known ??= this.#make(lexeme);
    this.#bytes += 64 + 4 * ((known.dense?.words.length ?? 0) + (known.list?.length ?? 0) + known.exits.length);
    if (this.#bytes > MAX_BYTES) {
      this.#older = this.#masks;
      this.#masks = new Map();
      this.#bytes = 0;
    }
    this.#masks.set(lexeme, known);
    return known;
  }

  #make(lexeme: number): LexemeMask {
    const prefix = this.#lexemes.prefix(lexeme);
    if (prefix !== undefined) return this.#afterPrefix(prefix.bytes, prefix.rest);
    const { trie, longestToken } = this.#vocabulary;
    if (this.#lexemes.takesMany(lexeme)) {
      const relaxed = this.#relaxed.of(lexeme);
      if (relaxed.lexeme !== lexeme && relaxed.reach >= LEAST_REACH) {
        const known = this.of(relaxed.lexeme);
        if (relaxed.reach >= longestToken) return known;
        if (known.dense !== undefined) return this.#bounded(lexeme, relaxed.reach, known.dense, known);
      }
      const base = this.#lexemes.exceptions(lexeme)?.without ?? this.#base(lexeme);
      if (base >= 0) {
        const known = this.of(base);
        if (known.dense !== undefined) return this.#differing(lexeme, base, known.dense, known);
      }
      const reach = this.#lexemes.safeReach(lexeme);
      if (reach.exact) {
        const { unsafeTrie } = this.#vocabulary;
        this.#walkAll(lexeme, unsafeTrie);
        return this.#made(unsafeTrie, this.#vocabulary.safeMask(reach.length));
      }
    }
    this.#walkAll(lexeme, trie);
    return this.#made(trie, undefined);
  }

  /** Tokens along bytes that must come, and those that go on behind them. */
  #afterPrefix(bytes: readonly number[], rest: number): LexemeMask {
    const { trie } = this.#vocabulary;
    this.#start();
    let node = -1;
    for (const byte of bytes) {
      node = childOf(trie, node, byte);
      if (node < 0) return this.#made(trie, undefined);
      const id = trie.token[node] as number;
      if (id >= 0) this.#push(id);
    }
    const end = trie.skip[node] as number;
    if (end > node + 1) {
      if (this.#lexemes.nullable(rest)) this.#exits.push(node);
      if (rest !== EPSILON) {
        this.#enter(bytes.length, rest);
        this.#walk(trie, node + 1, end);
      }
    }
    return this.#made(trie, undefined);
  }

  #start(): void {
    this.#idCount = 0;
    this.#exits = [];
  }

  #push(id: number): void {
    if (this.#idCount === this.#ids.length) {
      const grown = new Int32Array(2 * this.#ids.length);
      grown.set(this.#ids);
      this.#ids = grown;
    }
    this.#ids[this.#idCount++] = id;
  }

  #pushAll(ids: Int32Array): void {
    const count = this.#idCount + ids.length;
    if (count > this.#ids.length) {
      const grown = new Int32Array(2 * count);
      grown.set(this.#ids);
      this.#ids = grown;
    }
    this.#ids.set(ids, this.#idCount);
    this.#idCount = count;
  }

  /** Kinds of bytes all of which lead a lexeme back to itself; none for one that may end, as it may end between them. */
  #staysOn(lexeme: number): number {
    let kinds = this.#stays.get(lexeme);
    if (kinds === undefined) {
      kinds = this.#lexemes.nullable(lexeme) ? 0 : this.#findStays(lexeme);
      if (this.#stays.size >= MAX_STAYS) this.#stays.clear();
      this.#stays.set(lexeme, kinds);
    }
    return kinds;
  }

  #findStays(lexeme: number): number {
    const lexemes = this.#lexemes;
    const { bytes, of } = lexemes.classes(lexeme);
    const stays = Array.from(bytes, (byte) => lexemes.next(lexeme, byte) === lexeme);
    let kinds = 0;
    for (let byte = 0; byte < 128; byte++) kinds |= KIND_OF[byte] as number;
    for (let byte = 0; byte < 128; byte++) if (!stays[of[byte] as number]) kinds &= ~(KIND_OF[byte] as number);
    return this.#returns(lexeme, lexeme, 0xc2, 0xf4, 0) ? kinds | BEYOND_ASCII : kinds;
  }

  /**
   * Whether all of `lo` to `hi` lead, with the rest of their character, from `from` to `home`.
   * @param rest bytes of the character after this one; 0 for its first
   */
  #returns(from: number, home: number, lo: number, hi: number, rest: number): boolean {
    const lexemes = this.#lexemes;
    const first = lo >= 0xc2;
    let last = -1;
    for (let byte = lo; byte <= hi; byte++) {
      const to = lexemes.next(from, byte);
      if (to === NEVER) return false;
      const missing = first ? (byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : 1) : rest;
      const narrow = first && (byte === 0xe0 || byte === 0xed || byte === 0xf0 || byte === 0xf4);
      if (to === last && !narrow && byte !== 0xe1 && byte !== 0xee && byte !== 0xf1) continue;
      last = narrow ? -1 : to;
      if (missing === 0) {
        if (to !== home) return false;
        continue;
      }
      const least = byte === 0xe0 && first ? 0xa0 : byte === 0xf0 && first ? 0x90 : 0x80;
      const most = byte === 0xed && first ? 0x9f : byte === 0xf4 && first ? 0x8f : 0xbf;
      if (!this.#returns(to, home, least, most, missing - 1)) return false;
    }
    return true;
  }

  /** What the walk has found, beside the tokens of `known`. */
  #made(trie: TokenTrie, known: Int32Array | undefined): LexemeMask {
    const ids = this.#ids.subarray(0, this.#idCount);
    const exits = this.#exits.length === 0 ? NO_NODES : Int32Array.from(this.#exits);
    if (known === undefined && 4 * ids.length <= this.#vocabulary.maskWords)
      return { list: ids.slice(), dense: undefined, exits, trie };
    const words = known?.slice() ?? new Int32Array(this.#vocabulary.maskWords);
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i] as number;
      words[id >> 5] = (words[id >> 5] as number) | (1 << (id & 31));
    }
    return { list: undefined, dense: { words, hash: hashOf(words) }, exits, trie };
  }

  /** Finds all tokens of `trie` that stay inside the lexeme, and its exits. */
  #walkAll(lexeme: number, trie: TokenTrie): void {
    this.#start();
    const first = this.#lexemes.firstBits(lexeme);
    this.#enter(0, lexeme);
    for (let byte = 0; byte < 256; byte++) {
      if (((first[byte >> 5] as number) & (1 << (byte & 31))) === 0) continue;
      const node = trie.first[byte] as number;
      if (node >= 0) this.#walk(trie, node, trie.skip[node] as number);
    }
  }

  #enter(depth: number, lexeme: number): void {
    this.#path[depth] = lexeme;
    this.#pathRows[depth] = this.#lexemes.rows.offset(lexeme);
    this.#pathClasses[depth] = this.#lexemes.classes(lexeme).of;
  }

  /** The same for the nodes from `from` to `end`; the lexeme at their parent is on the path. */
  #walk(trie: TokenTrie, from: number, end: number): void {
    const { label, skip, token, below, order, firstToken } = trie;
    const lexemes = this.#lexemes;
    const { rows } = lexemes;
    const path = this.#path;
    const pathRows = this.#pathRows;
    const pathClasses = this.#pathClasses;
    let { table, resets } = rows;
    for (let i = from; i < end; ) {
      const tag = label[i] as number;
      const depth = tag >> 8;
      const byte = tag & 255;
      const row = pathRows[depth - 1] as number;
      let to = row < 0 ? -1 : (table[row + ((pathClasses[depth - 1] as Uint8Array)[byte] as number)] as number);
      if (to < 0) {
        to = lexemes.next(path[depth - 1] as number, byte);
        table = rows.table;
        if (rows.resets !== resets) {
          resets = rows.resets;
          for (let k = 0; k < depth; k++) pathRows[k] = rows.offset(path[k] as number);
        } else pathRows[depth - 1] = rows.offset(path[depth - 1] as number);
      }
      const after = skip[i] as number;
      if (to === NEVER) {
        i = after;
        continue;
      }
      if (after - i > WORTH_ASKING && ((below[i] as number) & ~this.#staysOn(to)) === 0) {
        this.#pushAll(order.subarray(firstToken[i], firstToken[after]));
        i = after;
        continue;
      }
      const id = token[i] as number;
      if (id >= 0) this.#push(id);
      if (after === i + 1) {
        i = after;
        continue;
      }
      if (lexemes.nullable(to)) {
        this.#exits.push(i);
        if (to === EPSILON) {
          i = after;
          continue;
        }
      }
      path[depth] = to;
      pathRows[depth] = rows.offset(to);
      pathClasses[depth] = lexemes.classes(to).of;
      i++;
    }
  }

  /**
   * The mask of `lexeme` from that of one without bounds, which treats all texts of up to `reach` bytes alike: only what
   * is longer is looked at.
   */
  #bounded(lexeme: number, reach: number, dense: DenseMask, known: LexemeMask): LexemeMask {
    const lexemes = this.#lexemes;
    const { trie } = known;
    const { label, skip, token, size, deepest } = trie;
    const safe = lexemes.safeReach(lexeme);
    const { unsafeTrie } = this.#vocabulary;
    const words = trie === unsafeTrie && safe.exact ? this.#withSafe(dense.words, safe.length) : dense.words.slice();
    const exits: number[] = [];
    let taken = 0;
    const path = this.#path;
    path[0] = lexeme;
    for (let i = 0; i < size; ) {
      const end = skip[i] as number;
      if ((deepest[i] as number) <= reach) {
        i = end;
        continue;
      }
      const depth = (label[i] as number) >> 8;
      const to = lexemes.next(path[depth - 1] as number, (label[i] as number) & 255);
      if (depth <= reach) {
        path[depth] = to;
        i = to === NEVER ? end : i + 1;
        continue;
      }
      // From here on nothing is taken over: neither tokens nor exits.
      for (; taken < known.exits.length && (known.exits[taken] as number) < i; taken++)
        exits.push(known.exits[taken] as number);
      if (to === NEVER) {
        for (let k = i; k < end; k++) {
          const id = token[k] as number;
          if (id >= 0) words[id >> 5] = (words[id >> 5] as number) & ~(1 << (id & 31));
        }
        while (taken < known.exits.length && (known.exits[taken] as number) < end) taken++;
        i = end;
        continue;
      }
      if (known.exits[taken] === i) taken++;
      path[depth] = to;
      const id = token[i] as number;
      if (id >= 0) words[id >> 5] = (words[id >> 5] as number) | (1 << (id & 31));
      if (end > i + 1 && lexemes.nullable(to)) exits.push(i);
      i++;
    }
    for (; taken < known.exits.length; taken++) exits.push(known.exits[taken] as number);
    return { list: undefined, dense: { words, hash: hashOf(words) }, exits: Int32Array.from(exits), trie };
  }

  /** A copy of `words` in which, of the tokens that are runs of JSON-safe characters, those of up to `length` are. */
  #withSafe(words: Int32Array, length: number): Int32Array {
    const all = this.#vocabulary.safeMask(Number.POSITIVE_INFINITY);
    const some = this.#vocabulary.safeMask(length);
    return words.map((word, i) => (word & ~(all[i] as number)) | (some[i] as number));
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

  /** Bytes after which the two may differ, as bits; undefined when that may be all. */
  #differOn(lexeme: number, base: number): Int32Array | undefined {
    if (lexeme === NEVER || base === NEVER) return undefined;
    const found = this.#lexemes.exceptions(lexeme);
    return found?.without === base ? found.bits : undefined;
  }

  /** The mask of `lexeme` from that of `base`: parts of the trie in which both lead to the same lexeme are taken over. */
  #differing(lexeme: number, base: number, dense: DenseMask, known: LexemeMask): LexemeMask {
    const lexemes = this.#lexemes;
    const { trie } = known;
    const { label, skip, token, size, below } = trie;
    const words = dense.words.slice();
    const exits: number[] = [];
    let taken = 0;
    const path = this.#path;
    const basePath = this.#basePath;
    const pathBits = this.#pathBits;
    path[0] = lexeme;
    basePath[0] = base;
    pathBits[0] = this.#differOn(lexeme, base);
    for (let i = 0; i < size; ) {
      const tag = label[i] as number;
      const depth = tag >> 8;
      const byte = tag & 255;
      const end = skip[i] as number;
      const bits = pathBits[depth - 1];
      let to = NEVER;
      let baseTo = NEVER;
      if (bits === undefined || ((bits[byte >> 5] as number) & (1 << (byte & 31))) !== 0) {
        const at = path[depth - 1] as number;
        const baseAt = basePath[depth - 1] as number;
        to = at === NEVER ? NEVER : lexemes.next(at, byte);
        baseTo = baseAt === NEVER ? NEVER : lexemes.next(baseAt, byte);
      }
      const same =
        to === baseTo ||
        (end - i > WORTH_ASKING &&
          to !== NEVER &&
          baseTo !== NEVER &&
          ((below[i] as number) & ~(this.#staysOn(to) & this.#staysOn(baseTo))) === 0);
      if (same) {
        while (taken < known.exits.length && (known.exits[taken] as number) < i) taken++;
        for (; taken < known.exits.length && (known.exits[taken] as number) < end; taken++)
          exits.push(known.exits[taken] as number);
        i = end;
        continue;
      }
      path[depth] = to;
      basePath[depth] = baseTo;
      pathBits[depth] = this.#differOn(to, baseTo);
      const id = token[i] as number;
      if (id >= 0) {
        const bit = 1 << (id & 31);
        const word = words[id >> 5] as number;
        words[id >> 5] = to === NEVER ? word & ~bit : word | bit;
      }
      if (to !== NEVER && end > i + 1 && lexemes.nullable(to)) exits.push(i);
      i++;
    }
    return { list: undefined, dense: { words, hash: hashOf(words) }, exits: Int32Array.from(exits), trie };
  }
}
