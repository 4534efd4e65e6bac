/**
 * Regular languages over bytes as hash-consed expressions with Brzozowski derivatives.
 *
 * A lexeme is a small integer; reading a byte gives another lexeme ({@link Lexemes.next}), so every lexeme is a state of a
 * deterministic automaton that is built as far as it is visited. Boolean algebra is free: the derivative of an
 * intersection is the intersection of the derivatives.
 *
 * Invariant: `next` never returns a lexeme that matches nothing other than {@link NEVER}: dead ends are pruned by a
 * search for an accepting state, done once per lexeme and only where an intersection or a complement makes it necessary.
 *
 * One arena serves many grammars, so that the automata of JSON strings and numbers are built once per process.
 *
 * Longer than most files here: constructors, derivatives and emptiness share the arena's private tables.
 */
import { SglangError } from "../core/errors.js";
import { type ByteClasses, ByteClassTable } from "./byte-classes.js";
import { RecordTable } from "./record-table.js";
import { RowTable } from "./row-table.js";

/** The lexeme that matches nothing. */
export const NEVER = 0;
/** The lexeme that matches the empty text only. */
export const EPSILON = 1;

enum Kind {
  Never,
  Epsilon,
  /** [set]: one byte of a set. */
  Set,
  /** [first, rest]. `first` is never a Cat. */
  Cat,
  /** [...items], sorted. */
  Alt,
  /** [...items], sorted. */
  And,
  /** [item]. */
  Not,
  /** [item, min, max]; max -1 is unbounded. */
  Repeat,
  /** [list, lo, hi, depth]: the literals lo..hi-1 of a sorted list, which agree on their first `depth` bytes. */
  Literals,
  /** [machine, state]. */
  Machine,
}

/** A hand-written deterministic automaton, for what derivatives of expressions express badly (numbers in a range). */
export interface ByteMachine {
  /** Two machines with one name must be the same machine. */
  readonly name: string;
  readonly start: number;
  /** @returns the next state, or -1 for none. */
  next(state: number, byte: number): number;
  accepts(state: number): boolean;
  /** At least so many bytes lead from the state to one that accepts, as far as that is known. */
  distance?(state: number): number;
  /** Bytes it can tell apart; all others behave alike (and usually lead nowhere). */
  readonly alphabet: readonly number[];
}

/** Limits of one arena. Past them a typed error is thrown; nothing is ever approximated. */
export interface LexemeLimits {
  /** Lexemes (automaton states) in the arena. @default 1_000_000 */
  maxLexemes?: number;
  /** States one search for an accepting state may look at. @default 4_000 */
  maxSearch?: number;
}

const UNKNOWN = -1;

/** Entries of transition rows (one for each class of bytes) kept before all are forgotten; they are only a memo. */
const MAX_ROW_ENTRIES = 16_777_216;

/** The same for derivatives of parts. */
const MAX_PART_ENTRIES = 4_194_304;

/**
 * How many JSON-safe characters may follow whatever they are. `exact`: one more is refused whatever it is, and the lexeme
 * cannot end before or after any of them.
 */
export interface SafeReach {
  readonly length: number;
  readonly exact: boolean;
}

/** A lexeme taken apart: `repeat` has one item. */
export interface LexemeView {
  readonly kind: "cat" | "alt" | "and" | "repeat" | "other";
  readonly items: readonly number[];
  readonly min: number;
  /** Infinity for unbounded. */
  readonly max: number;
}

/** Texts of a list that are tried one by one. */
const MAX_FILTERED = 256;
/** Distances are told apart up to here. */
const MAX_DISTANCE = 4_096;
/** First bytes that are few. */
const NARROW = 24;

const NO_REACH: SafeReach = { length: 0, exact: false };
const ENDLESS_REACH: SafeReach = { length: Number.POSITIVE_INFINITY, exact: true };
/** Every first byte of a JSON-safe character. */
const SAFE_FIRST_BYTES = Int32Array.of(0, ~4, ~(1 << 28), -1, 0, 0, ~3, 0x1fffff);

export class Lexemes {
  readonly #table = new RecordTable();
  readonly #sets = new RecordTable();
  readonly #literalLists: Uint8Array[][] = [];
  readonly #literalKeys = new Map<string, number>();
  /** By list of {@link names}: for each of its texts the list of that text alone. */
  readonly #nameLists = new Map<number, readonly number[]>();
  readonly #machines: ByteMachine[] = [];
  readonly #machineIds = new Map<string, number>();
  readonly #rows = new RowTable(MAX_ROW_ENTRIES, 65_536);
  /** Derivatives of parts of intersections, dead ends and all. */
  readonly #parts = new RowTable(MAX_PART_ENTRIES);
  /** Bit 0 nullable, bit 1 may be empty for a reason that needs a search, bits 2-3 result of it (1 empty, 2 not). */
  readonly #facts: number[] = [];
  readonly #reach: SafeReach[] = [];
  readonly #firstBits: Int32Array[] = [];
  readonly #lexemeClasses: ByteClasses[] = [];
  readonly #continues = new Map<number, boolean>();
  readonly #distances: (number | undefined)[] = [];
  readonly #leastBytes: (number | undefined)[] = [];
  readonly #classes = new ByteClassTable();
  readonly #machineClasses: ByteClasses[] = [];
  readonly #safeCharacters = new Set<number>();
  readonly #maxLexemes: number;
  readonly #maxSearch: number;
  /** Matches every byte string. */
  readonly all: number;

  constructor(limits: LexemeLimits = {}) {
    this.#maxLexemes = limits.maxLexemes ?? 1_000_000;
    this.#maxSearch = limits.maxSearch ?? 4_000;
    this.#make([Kind.Never], 0);
    this.#make([Kind.Epsilon], 1);
    this.all = this.#make([Kind.Not, NEVER], 1);
  }

  /** Lexemes made so far; the compiler starts a new arena when this grows too large. */
  get size(): number {
    return this.#table.size;
  }

  nullable(lexeme: number): boolean {
    return ((this.#facts[lexeme] as number) & 1) !== 0;
  }

  /** Known transitions by lexeme and class of byte: -1 unknown. For walks that read many. */
  get rows(): RowTable {
    return this.#rows;
  }

  /** The lexeme after reading `byte`, or {@link NEVER} when no continuation can be accepted. */
  next(lexeme: number, byte: number): number {
    const rows = this.#rows;
    const classes = this.classes(lexeme);
    const kind = classes.of[byte] as number;
    let row = rows.offset(lexeme);
    if (row >= 0) {
      const known = rows.table[row + kind] as number;
      if (known !== UNKNOWN) return known;
    }
    const derived = this.#derive(lexeme, byte);
    const result = this.isEmpty(derived) ? NEVER : derived;
    // Deciding emptiness may have used the table.
    row = rows.offset(lexeme);
    if (row < 0) row = rows.add(lexeme, classes.members.length, UNKNOWN);
    rows.table[row + kind] = result;
    return result;
  }

  // ---- constructors -------------------------------------------------------------------------------------------

  /** One byte of the given set. */
  byteSet(bits: Int32Array): number {
    let any = 0;
    for (let i = 0; i < 8; i++) any |= bits[i] as number;
    return any === 0 ? NEVER : this.#make([Kind.Set, this.#sets.intern(bits, 8)], 0);
  }

  /** One byte between `lo` and `hi`, inclusive. */
  byteRange(lo: number, hi: number): number {
    const bits = new Int32Array(8);
    for (let b = lo; b <= hi; b++) (bits as Int32Array)[b >> 5] = (bits[b >> 5] as number) | (1 << (b & 31));
    return this.byteSet(bits);
  }

  /** Exactly these bytes. */
  literal(bytes: Uint8Array): number {
    return this.#sortedLiterals([bytes]);
  }

  /** Any one of these byte strings. */
  literals(list: readonly Uint8Array[]): number {
    if (list.length === 0) return NEVER;
    const sorted = [...list]
      .sort(compareBytes)
      .filter((b, i, all) => i === 0 || compareBytes(all[i - 1] as Uint8Array, b) !== 0);
    return this.#sortedLiterals(sorted);
  }

  #sortedLiterals(sorted: Uint8Array[]): number {
    const key = sorted.length === 1 ? latin1(sorted[0] as Uint8Array) : sorted.map(latin1).join("\u0100");
    let id = this.#literalKeys.get(key);
    if (id === undefined) {
      id = this.#literalLists.push(sorted) - 1;
      this.#literalKeys.set(key, id);
    }
    return this.#literalsNode(id, 0, sorted.length, 0);
  }

  /**
   * Any one of several texts, to be told apart while they are read: see {@link namesIn}.
   * @param texts lexemes made by {@link literal}, ascending by their bytes; none begins another.
   */
  names(texts: readonly number[]): number {
    const { pool } = this.#table;
    const own = texts.map((text) => pool[this.#table.start(text) + 1] as number);
    const list =
      this.#literalLists.push(own.map((id) => (this.#literalLists[id] as Uint8Array[])[0] as Uint8Array)) - 1;
    this.#nameLists.set(list, own);
    return this.#literalsNode(list, 0, own.length, 0);
  }

  /** Which of the texts of {@link names} a lexeme that came from it may still become: indices `[from, to)`. */
  namesIn(lexeme: number): readonly [from: number, to: number] {
    const start = this.#table.start(lexeme);
    return [this.#table.pool[start + 2] as number, this.#table.pool[start + 3] as number];
  }

  /** What is left of one of these texts. */
  nameIn(lexeme: number, index: number): number {
    const start = this.#table.start(lexeme);
    const own = this.#nameLists.get(this.#table.pool[start + 1] as number) as readonly number[];
    return this.#literalsNode(own[index] as number, 0, 1, this.#table.pool[start + 4] as number);
  }

  /** The index of the only one of these texts that goes on with `byte`; -1 when there is none, or more than one. */
  nameAfter(lexeme: number, byte: number): number {
    const start = this.#table.start(lexeme);
    const { pool } = this.#table;
    const depth = pool[start + 4] as number;
    const list = pool[start + 1] as number;
    const [from, to] = this.#goingOn(list, pool[start + 2] as number, pool[start + 3] as number, depth, byte);
    return to === from + 1 ? from : -1;
  }

  machine(machine: ByteMachine): number {
    let id = this.#machineIds.get(machine.name);
    if (id === undefined) {
      id = this.#machines.push(machine) - 1;
      this.#machineIds.set(machine.name, id);
    }
    return this.#machineNode(id, machine.start);
  }

  cat(...items: readonly number[]): number {
    let out = EPSILON;
    for (let i = items.length - 1; i >= 0; i--) out = this.#cat(items[i] as number, out);
    return out;
  }

  alt(items: readonly number[]): number {
    if (items.length === 0) return NEVER;
    if (items.length === 1) return items[0] as number;
    const flat = this.#flat(Kind.Alt, items);
    if (flat.includes(this.all)) return this.all;
    if (flat[0] === NEVER) flat.shift();
    if (flat.length > 1) this.#mergeSets(flat);
    if (flat[0] === EPSILON && flat.some((item) => item !== EPSILON && this.nullable(item))) flat.shift();
    if (flat.length <= 1) return flat[0] ?? NEVER;
    flat.unshift(Kind.Alt);
    return this.#make(flat, flat.some((item, i) => i > 0 && this.nullable(item)) ? 1 : 0);
  }

  and(items: readonly number[]): number {
    if (items.length === 0) return this.all;
    if (items.length === 1) return items[0] as number;
    let flat = this.#flat(Kind.And, items);
    if (flat[0] === NEVER) return NEVER;
    const { pool } = this.#table;
    if (flat[0] === EPSILON) return flat.every((item) => this.nullable(item)) ? EPSILON : NEVER;
    let anything = false;
    for (const item of flat) {
      const start = this.#table.start(item);
      if (item === this.all) anything = true;
      else if (pool[start] === Kind.Not && flat.includes(pool[start + 1] as number)) return NEVER;
    }
    if (anything) flat = flat.filter((item) => item !== this.all);
    if (flat.length <= 1) return flat[0] ?? this.all;
    flat.unshift(Kind.And);
    return this.#make(flat, flat.every((item, i) => i === 0 || this.nullable(item)) ? 1 : 0);
  }

  /** The same as {@link and}; where one item is a list of texts, what is left of the list. */
  meet(items: readonly number[]): number {
    const list = items.find((item) => this.#isList(item));
    if (list === undefined) return this.and(items);
    const strings = this.#literalLists[this.#table.pool[this.#table.start(list) + 1] as number] as Uint8Array[];
    const left = strings.filter((text) => items.every((item) => item === list || this.matches(item, text)));
    return left.length === strings.length ? list : this.literals(left);
  }

  /** Whether the lexeme is a short list of whole texts. */
  #isList(lexeme: number): boolean {
    const { pool } = this.#table;
    const at = this.#table.start(lexeme);
    if (pool[at] !== Kind.Literals || pool[at + 4] !== 0) return false;
    const { length } = this.#literalLists[pool[at + 1] as number] as Uint8Array[];
    return pool[at + 3] === length && length <= MAX_FILTERED;
  }

  /** Byte strings the lexeme does not match. Intersect with a universe: its result contains ill-formed text too. */
  not(lexeme: number): number {
    const start = this.#table.start(lexeme);
    if (this.#table.pool[start] === Kind.Not) return this.#table.pool[start + 1] as number;
    return this.#make([Kind.Not, lexeme], this.nullable(lexeme) ? 0 : 1);
  }

  /** @param max Infinity for unbounded. */
  repeat(item: number, min: number, max: number): number {
    if (min > max) return NEVER;
    if (item === EPSILON || max === 0) return EPSILON;
    if (item === NEVER) return min === 0 ? EPSILON : NEVER;
    const least = this.nullable(item) ? 0 : min;
    if (least === 1 && max === 1) return item;
    const bound = max === Number.POSITIVE_INFINITY ? -1 : max;
    return this.#make([Kind.Repeat, item, least, bound], least === 0 ? 1 : 0);
  }

  optional(item: number): number {
    return this.alt([EPSILON, item]);
  }

  /** Declares a lexeme to match at least every JSON-safe character: what the vocabulary's slices are asked about. */
  declareSafeCharacter(lexeme: number): void {
    this.#safeCharacters.add(lexeme);
  }

  // ---- questions ----------------------------------------------------------------------------------------------

  /** True when nothing matches. Remembered per lexeme. @throws SglangError UNSUPPORTED past `maxSearch` states. */
  isEmpty(lexeme: number): boolean {
    const facts = this.#facts[lexeme] as number;
    if ((facts & 2) === 0) return lexeme === NEVER;
    const known = (facts >> 2) & 3;
    if (known !== 0) return known === 1;
    const empty = this.#decideEmpty(lexeme);
    this.#facts[lexeme] = (this.#facts[lexeme] as number) | ((empty ? 1 : 2) << 2);
    return empty;
  }

  /** See {@link SafeReach}; of length 0 when unknown. Masks of vocabulary slices rest on it. */
  safeReach(lexeme: number): SafeReach {
    const known = this.#reach[lexeme];
    if (known !== undefined) return known;
    const reach = this.#decideReach(lexeme);
    this.#reach[lexeme] = reach;
    return reach;
  }

  /** How the lexeme is put together, as far as it is put together from others. */
  view(lexeme: number): LexemeView {
    const { pool } = this.#table;
    const start = this.#table.start(lexeme);
    switch (pool[start]) {
      case Kind.Cat:
      case Kind.Alt:
      case Kind.And: {
        const kind = pool[start] === Kind.Cat ? "cat" : pool[start] === Kind.Alt ? "alt" : "and";
        return { kind, items: Array.from(pool.subarray(start + 1, this.#table.end(lexeme))), min: 1, max: 1 };
      }
      case Kind.Repeat: {
        const max = pool[start + 3] as number;
        const items = [pool[start + 1] as number];
        return { kind: "repeat", items, min: pool[start + 2] as number, max: max < 0 ? Number.POSITIVE_INFINITY : max };
      }
      default:
        return { kind: "other", items: [], min: 1, max: 1 };
    }
  }

  /**
   * A lexeme that is another one but for finitely many texts excepted at its beginning (any key but these names): the
   * other one, and the first bytes of those texts, as bits. After all other bytes the two are the same.
   */
  exceptions(lexeme: number): { readonly without: number; readonly bits: Int32Array } | undefined {
    const { pool } = this.#table;
    const start = this.#table.start(lexeme);
    const isCat = pool[start] === Kind.Cat;
    const head = isCat ? (pool[start + 1] as number) : lexeme;
    if (pool[this.#table.start(head)] !== Kind.And) return undefined;
    const rest = isCat ? (pool[start + 2] as number) : EPSILON;
    const kept: number[] = [];
    const bits = new Int32Array(8);
    for (const item of this.view(head).items) {
      const at = this.#table.start(item);
      const excepted = this.#table.pool[at + 1] as number;
      if (this.#table.pool[at] !== Kind.Not || !this.#isFinite(excepted)) {
        kept.push(item);
        continue;
      }
      this.firstBits(excepted).forEach((word, i) => {
        bits[i] = (bits[i] as number) | word;
      });
    }
    if (kept.length === 0 || kept.length === this.view(head).items.length) return undefined;
    const without = this.and(kept);
    // Where only one of the two may be empty, only one of them goes on with the rest at once.
    if (this.nullable(without) !== this.nullable(head)) {
      this.firstBits(rest).forEach((word, i) => {
        bits[i] = (bits[i] as number) | word;
      });
    }
    return { without: this.#cat(without, rest), bits };
  }

  /** Every text of the lexeme has at least so many bytes. Remembered: lexemes share their parts. */
  leastBytes(lexeme: number): number {
    let known = this.#leastBytes[lexeme];
    if (known === undefined) {
      known = this.#findLeastBytes(lexeme);
      this.#leastBytes[lexeme] = known;
    }
    return known;
  }

  #findLeastBytes(lexeme: number): number {
    const { kind, items, min } = this.view(lexeme);
    if (kind === "other") return this.nullable(lexeme) ? 0 : 1;
    const parts = items.map((item) => this.leastBytes(item));
    if (kind === "cat") return parts.reduce((sum, part) => sum + part, 0);
    if (kind === "alt") return Math.min(...parts);
    return kind === "and" ? Math.max(...parts) : min * (parts[0] as number);
  }

  /** Bytes that may come first: 256 bits, a few too many where it takes a search to know. Not to be written to. */
  firstBits(lexeme: number): Int32Array {
    const known = this.#firstBits[lexeme];
    if (known !== undefined) return known;
    const bits = this.#decideFirstBits(lexeme);
    this.#firstBits[lexeme] = bits;
    return bits;
  }

  /**
   * The bytes that a lexeme must begin with, as far as they are written down in it, and the lexeme after them; undefined
   * when it does not begin with such bytes.
   */
  prefix(lexeme: number): { readonly bytes: readonly number[]; readonly rest: number } | undefined {
    const bytes: number[] = [];
    let at = lexeme;
    for (;;) {
      const { pool } = this.#table;
      const start = this.#table.start(at);
      const isCat = pool[start] === Kind.Cat;
      const first = isCat ? this.#table.start(pool[start + 1] as number) : start;
      const lo = pool[first + 2] as number;
      if (pool[first] !== Kind.Literals || (pool[first + 3] as number) !== lo + 1) break;
      const text = (this.#literalLists[pool[first + 1] as number] as Uint8Array[])[lo] as Uint8Array;
      for (let i = pool[first + 4] as number; i < text.length; i++) bytes.push(text[i] as number);
      at = isCat ? (pool[start + 2] as number) : EPSILON;
    }
    return bytes.length === 0 ? undefined : { bytes, rest: at };
  }

  /** Whether many bytes may come first: letters, and not only digits, say. */
  takesMany(lexeme: number): boolean {
    let count = 0;
    for (let word of this.firstBits(lexeme)) for (; word !== 0; word &= word - 1) count++;
    return count > NARROW;
  }

  /** Bytes partitioned so that all of a class lead to the same lexeme. */
  classes(lexeme: number): ByteClasses {
    let classes = this.#lexemeClasses[lexeme];
    if (classes === undefined) {
      classes = this.#makeClasses(lexeme);
      this.#lexemeClasses[lexeme] = classes;
    }
    return classes;
  }

  /** Bytes, one of each kind, that between them show every behaviour of the lexeme. */
  representatives(lexeme: number): Uint8Array {
    return this.classes(lexeme).bytes;
  }

  /** Whether any byte may come next. A lexeme that may end here may have no continuation left. */
  continues(lexeme: number): boolean {
    if (lexeme === NEVER || lexeme === EPSILON) return false;
    if (!this.nullable(lexeme)) return true;
    let known = this.#continues.get(lexeme);
    if (known === undefined) {
      known = this.representatives(lexeme).some((byte) => this.next(lexeme, byte) !== NEVER);
      this.#continues.set(lexeme, known);
    }
    return known;
  }

  /** The only byte that may come next, or -1 when there is a choice, or nothing more has to come. */
  onlyByte(lexeme: number): number {
    if (this.nullable(lexeme)) return -1;
    const classes = this.classes(lexeme);
    let only = -1;
    for (let i = 0; i < classes.bytes.length; i++) {
      if (this.next(lexeme, classes.bytes[i] as number) === NEVER) continue;
      if (only >= 0 || (classes.members[i] as Uint8Array).length > 1) return -1;
      only = classes.bytes[i] as number;
    }
    return only;
  }

  /** Whether the lexeme matches these bytes, whole. */
  matches(lexeme: number, bytes: Uint8Array): boolean {
    let state = lexeme;
    for (const byte of bytes) {
      state = this.#derive(state, byte);
      if (state === NEVER) return false;
    }
    return this.nullable(state);
  }

  // ---- internals ----------------------------------------------------------------------------------------------

  #make(record: readonly number[], nullable: number): number {
    const before = this.#table.size;
    const id = this.#table.intern(record);
    if (this.#table.size === before) return id;
    if (id >= this.#maxLexemes) {
      throw new SglangError(
        "UNSUPPORTED",
        `The grammar needs more than ${this.#maxLexemes} automaton states; simplify its patterns or lower their repetition counts.`,
        { field: "grammar", expected: `at most ${this.#maxLexemes} states` },
      );
    }
    this.#facts.push(nullable | (this.#needsSearch(record) ? 2 : 0));
    return id;
  }

  #needsSearch(record: readonly number[]): boolean {
    switch (record[0]) {
      case Kind.And:
      case Kind.Not:
      case Kind.Machine:
        return true;
      case Kind.Cat:
      case Kind.Alt:
        return record.some((item, i) => i > 0 && ((this.#facts[item] as number) & 2) !== 0);
      case Kind.Repeat:
        return ((this.#facts[record[1] as number] as number) & 2) !== 0;
      default:
        return false;
    }
  }

  #cat(first: number, rest: number): number {
    if (first === NEVER || rest === NEVER) return NEVER;
    if (first === EPSILON) return rest;
    if (rest === EPSILON) return first;
    const start = this.#table.start(first);
    if (this.#table.pool[start] === Kind.Cat) {
      const head = this.#table.pool[start + 1] as number;
      const tail = this.#table.pool[start + 2] as number;
      return this.#cat(head, this.#cat(tail, rest));
    }
    return this.#make([Kind.Cat, first, rest], this.nullable(first) && this.nullable(rest) ? 1 : 0);
  }

  /** The items, those of items of that kind in their stead; ascending, each once. */
  #flat(kind: Kind, items: readonly number[]): number[] {
    const { pool } = this.#table;
    const flat: number[] = [];
    for (const item of items) {
      const start = this.#table.start(item);
      if (pool[start] !== kind) flat.push(item);
      else for (let i = start + 1, end = this.#table.end(item); i < end; i++) flat.push(pool[i] as number);
    }
    sortNumbers(flat);
    let kept = 1;
    for (let i = 1; i < flat.length; i++) if (flat[i] !== flat[i - 1]) flat[kept++] = flat[i] as number;
    flat.length = kept;
    return flat;
  }

  /** Sets among ascending items become one. */
  #mergeSets(flat: number[]): void {
    const { pool } = this.#table;
    const isSet = (item: number): boolean => pool[this.#table.start(item)] === Kind.Set;
    let count = 0;
    for (const item of flat) if (isSet(item)) count++;
    if (count < 2) return;
    const bits = new Int32Array(8);
    let kept = 0;
    for (const item of flat) {
      if (!isSet(item)) {
        flat[kept++] = item;
        continue;
      }
      const from = this.#sets.start(pool[this.#table.start(item) + 1] as number);
      for (let i = 0; i < 8; i++) bits[i] = (bits[i] as number) | (this.#sets.pool[from + i] as number);
    }
    flat.length = kept;
    const merged = this.byteSet(bits);
    if (flat.includes(merged)) return;
    flat.push(merged);
    sortNumbers(flat);
  }

  #literalsNode(list: number, lo: number, hi: number, depth: number): number {
    if (lo >= hi) return NEVER;
    const first = (this.#literalLists[list] as Uint8Array[])[lo] as Uint8Array;
    const nullable = first.length === depth;
    if (nullable && hi === lo + 1) return EPSILON;
    return this.#make([Kind.Literals, list, lo, hi, depth], nullable ? 1 : 0);
  }

  #machineNode(machine: number, state: number): number {
    if (state < 0) return NEVER;
    const accepts = (this.#machines[machine] as ByteMachine).accepts(state);
    return this.#make([Kind.Machine, machine, state], accepts ? 1 : 0);
  }

  #derive(lexeme: number, byte: number): number {
    const start = this.#table.start(lexeme);
    const pool = this.#table.pool;
    const a = pool[start + 1] as number;
    switch (pool[start]) {
      case Kind.Set: {
        const word = this.#sets.pool[this.#sets.start(a) + (byte >> 5)] as number;
        return (word >>> (byte & 31)) & 1 ? EPSILON : NEVER;
      }
      case Kind.Cat: {
        const rest = pool[start + 2] as number;
        const stepped = this.#cat(this.#derive(a, byte), rest);
        return this.nullable(a) ? this.alt([stepped, this.#derive(rest, byte)]) : stepped;
      }
      case Kind.Alt:
      case Kind.And: {
        const isAlt = pool[start] === Kind.Alt;
        const items: number[] = [];
        const end = this.#table.end(lexeme);
        for (let i = start + 1; i < end; i++) {
          const item = this.#table.pool[i] as number;
          const derived = isAlt ? this.#derive(item, byte) : this.#derivePart(item, byte);
          if (derived === NEVER) {
            if (!isAlt) return NEVER;
          } else items.push(derived);
        }
        return isAlt ? this.alt(items) : this.and(items);
      }
      case Kind.Not:
        return this.not(this.#derive(a, byte));
      case Kind.Repeat: {
        const min = pool[start + 2] as number;
        const max = pool[start + 3] as number;
        const stepped = this.#derive(a, byte);
        if (stepped === NEVER) return NEVER;
        const rest = this.repeat(a, Math.max(0, min - 1), max < 0 ? Number.POSITIVE_INFINITY : max - 1);
        return this.#cat(stepped, rest);
      }
      case Kind.Literals:
        return this.#deriveLiterals(
          a,
          pool[start + 2] as number,
          pool[start + 3] as number,
          pool[start + 4] as number,
          byte,
        );
      case Kind.Machine:
        return this.#machineNode(a, (this.#machines[a] as ByteMachine).next(pool[start + 2] as number, byte));
      default:
        return NEVER;
    }
  }

  /** The same for a part of an intersection: it comes up again in many intersections, so it is remembered. */
  #derivePart(lexeme: number, byte: number): number {
    const rows = this.#parts;
    const classes = this.classes(lexeme);
    const kind = classes.of[byte] as number;
    let row = rows.offset(lexeme);
    if (row >= 0) {
      const known = rows.table[row + kind] as number;
      if (known !== UNKNOWN) return known;
    }
    const derived = this.#derive(lexeme, byte);
    row = rows.offset(lexeme);
    if (row < 0) row = rows.add(lexeme, classes.members.length, UNKNOWN);
    rows.table[row + kind] = derived;
    return derived;
  }

  #deriveLiterals(list: number, lo: number, hi: number, depth: number, byte: number): number {
    const [from, to] = this.#goingOn(list, lo, hi, depth, byte);
    return this.#literalsNode(list, from, to, depth + 1);
  }

  /** Those of the literals lo..hi-1 that have `byte` at `depth`. */
  #goingOn(list: number, lo: number, hi: number, depth: number, byte: number): readonly [from: number, to: number] {
    const strings = this.#literalLists[list] as Uint8Array[];
    const lower = (target: number): number => {
      let from = lo;
      let to = hi;
      while (from < to) {
        const mid = (from + to) >> 1;
        const s = strings[mid] as Uint8Array;
        const value = depth < s.length ? (s[depth] as number) : -1;
        if (value < target) from = mid + 1;
        else to = mid;
      }
      return from;
    };
    return [lower(byte), lower(byte + 1)];
  }

  #decideEmpty(lexeme: number): boolean {
    const start = this.#table.start(lexeme);
    const pool = this.#table.pool;
    if (this.nullable(lexeme)) return false;
    switch (pool[start]) {
      case Kind.Cat: {
        const rest = pool[start + 2] as number;
        return this.isEmpty(pool[start + 1] as number) || this.isEmpty(rest);
      }
      case Kind.Alt: {
        const items = Array.from(pool.subarray(start + 1, this.#table.end(lexeme)));
        return items.every((item) => this.isEmpty(item));
      }
      case Kind.Repeat:
        return this.isEmpty(pool[start + 1] as number);
      default:
        // Endless text without finitely many texts: no search needed. This is every key of an open object.
        return this.safeReach(lexeme).length === 0 && this.#search(lexeme);
    }
  }

  /**
   * Searches for an accepting state, nearest first as far as {@link #distance} knows; everything found on the way to one
   * is remembered as not empty. Where patterns ask for words to be contained, a search by length alone would try all
   * texts as long as the words together.
   */
  #search(root: number): boolean {
    const order = [root];
    const places = new Map<number, number>([[root, 0]]);
    /** Ways to each state, linked: the state at its other end, and the way found before. */
    const lastWay = [-1];
    const waySource: number[] = [];
    const wayBefore: number[] = [];
    const queue: number[][] = [];
    const enqueue = (place: number): void => {
      const distance = this.#distance(order[place] as number);
      while (queue.length <= distance) queue.push([]);
      (queue[distance] as number[]).push(place);
      if (distance < nearest) nearest = distance;
    };
    let nearest = 0;
    enqueue(0);
    const taken: number[] = [];
    let live = -1;
    while (live < 0) {
      while (nearest < queue.length && (taken[nearest] ?? 0) === (queue[nearest] as number[]).length) nearest++;
      if (nearest >= queue.length) break;
      const at = taken[nearest] ?? 0;
      taken[nearest] = at + 1;
      const place = (queue[nearest] as number[])[at] as number;
      const state = order[place] as number;
      const bytes = this.representatives(state);
      for (let i = 0; i < bytes.length; i++) {
        const to = this.#derive(state, bytes[i] as number);
        if (to === NEVER) continue;
        const facts = this.#facts[to] as number;
        const known = facts >> 2;
        if (known === 1) continue;
        let found = places.get(to);
        if (found === undefined) {
          found = order.push(to) - 1;
          places.set(to, found);
          lastWay.push(-1);
          if (order.length > this.#maxSearch) throw this.#tooManyStates();
          enqueue(found);
        }
        wayBefore.push(lastWay[found] as number);
        lastWay[found] = waySource.push(place) - 1;
        if ((facts & 2) === 0 || known === 2 || this.nullable(to)) {
          live = found;
          break;
        }
      }
    }
    if (live < 0) {
      for (const state of order) this.#facts[state] = (this.#facts[state] as number) | (1 << 2);
      return true;
    }
    const marked = new Uint8Array(order.length);
    const work = [live];
    while (work.length > 0) {
      const place = work.pop() as number;
      if (marked[place] === 1) continue;
      marked[place] = 1;
      const state = order[place] as number;
      const facts = this.#facts[state] as number;
      if ((facts & 2) !== 0) this.#facts[state] = (facts & 3) | (2 << 2);
      for (let way = lastWay[place] as number; way >= 0; way = wayBefore[way] as number)
        work.push(waySource[way] as number);
    }
    return false;
  }

  #tooManyStates(): SglangError {
    return new SglangError(
      "UNSUPPORTED",
      `A combination of patterns needs more than ${this.#maxSearch} states to be decided; simplify the patterns or the lengths they are combined with.`,
      { field: "grammar", expected: `at most ${this.#maxSearch} states` },
    );
  }

  /** A guess of how many bytes a shortest text has, to order searches by: parts of an intersection count one by one. */
  #distance(lexeme: number): number {
    const known = this.#distances[lexeme];
    if (known !== undefined) return known;
    const distance = Math.min(MAX_DISTANCE, this.nullable(lexeme) ? 0 : this.#guessDistance(lexeme));
    this.#distances[lexeme] = distance;
    return distance;
  }

  #guessDistance(lexeme: number): number {
    const { pool } = this.#table;
    const start = this.#table.start(lexeme);
    const end = this.#table.end(lexeme);
    const first = pool[start + 1] as number;
    switch (pool[start]) {
      case Kind.Cat:
        return this.#distance(first) + this.#distance(pool[start + 2] as number);
      case Kind.And: {
        let sum = 0;
        for (let i = start + 1; i < end; i++) sum += this.#distance(pool[i] as number);
        return sum;
      }
      case Kind.Alt: {
        let least = MAX_DISTANCE;
        for (let i = start + 1; i < end; i++) least = Math.min(least, this.#distance(pool[i] as number));
        return least;
      }
      case Kind.Repeat:
        return (pool[start + 2] as number) * this.#distance(first);
      case Kind.Literals: {
        const text = (this.#literalLists[first] as Uint8Array[])[pool[start + 2] as number] as Uint8Array;
        return text.length - (pool[start + 4] as number);
      }
      case Kind.Machine:
        return (this.#machines[first] as ByteMachine).distance?.(pool[start + 2] as number) ?? 1;
      default:
        return 1;
    }
  }

  #makeClasses(lexeme: number): ByteClasses {
    const { pool } = this.#table;
    const start = this.#table.start(lexeme);
    const first = pool[start + 1] as number;
    switch (pool[start]) {
      case Kind.Set:
        return this.#classes.ofSet(this.#sets.pool, this.#sets.start(first));
      case Kind.Cat: {
        const classes = this.classes(first);
        return this.nullable(first) ? this.#classes.meet(classes, this.classes(pool[start + 2] as number)) : classes;
      }
      case Kind.Alt:
      case Kind.And: {
        let classes = this.#classes.whole;
        const end = this.#table.end(lexeme);
        for (let i = start + 1; i < end; i++) classes = this.#classes.meet(classes, this.classes(pool[i] as number));
        return classes;
      }
      case Kind.Not:
      case Kind.Repeat:
        return this.classes(first);
      case Kind.Literals: {
        const strings = this.#literalLists[first] as Uint8Array[];
        const depth = pool[start + 4] as number;
        const from = pool[start + 2] as number;
        const to = pool[start + 3] as number;
        if (to === from + 1) return this.#classes.ofSingle((strings[from] as Uint8Array)[depth] as number);
        const singles: number[] = [];
        for (let i = from; i < to; ) {
          const byte = (strings[i] as Uint8Array)[depth];
          if (byte !== undefined) singles.push(byte);
          i = byte === undefined ? i + 1 : endOfByte(strings, i, to, depth, byte);
        }
        return this.#classes.ofSingles(singles);
      }
      case Kind.Machine: {
        let classes = this.#machineClasses[first];
        if (classes === undefined) {
          classes = this.#classes.ofSingles((this.#machines[first] as ByteMachine).alphabet);
          this.#machineClasses[first] = classes;
        }
        return classes;
      }
      default:
        return this.#classes.whole;
    }
  }

  #decideFirstBits(lexeme: number): Int32Array {
    const start = this.#table.start(lexeme);
    const pool = this.#table.pool;
    const a = pool[start + 1] as number;
    switch (pool[start]) {
      case Kind.Never:
      case Kind.Epsilon:
        return NO_BITS;
      case Kind.Set:
        return this.#sets.pool.slice(this.#sets.start(a), this.#sets.start(a) + 8);
      case Kind.Cat: {
        const first = this.firstBits(a);
        if (!this.nullable(a)) return first;
        const rest = this.firstBits(pool[start + 2] as number);
        return first.map((word, i) => word | (rest[i] as number));
      }
      case Kind.Alt:
      case Kind.And: {
        const isAlt = pool[start] === Kind.Alt;
        const bits = new Int32Array(8).fill(isAlt ? 0 : -1);
        for (const item of Array.from(pool.subarray(start + 1, this.#table.end(lexeme)))) {
          const own = this.firstBits(item);
          for (let i = 0; i < 8; i++)
            bits[i] = isAlt ? (bits[i] as number) | (own[i] as number) : (bits[i] as number) & (own[i] as number);
        }
        return bits;
      }
      case Kind.Repeat:
        return this.firstBits(a);
      case Kind.Not:
        return ALL_BITS;
      case Kind.Literals: {
        const strings = this.#literalLists[a] as Uint8Array[];
        const depth = pool[start + 4] as number;
        const from = pool[start + 2] as number;
        const to = pool[start + 3] as number;
        if (to === from + 1) return singleBits((strings[from] as Uint8Array)[depth] as number);
        const bits = new Int32Array(8);
        for (let i = from; i < to; ) {
          const byte = (strings[i] as Uint8Array)[depth];
          if (byte !== undefined) bits[byte >> 5] = (bits[byte >> 5] as number) | (1 << (byte & 31));
          i = byte === undefined ? i + 1 : endOfByte(strings, i, to, depth, byte);
        }
        return bits;
      }
      default: {
        const machine = this.#machines[a] as ByteMachine;
        if (machine.alphabet.length > MAX_TRIED) return ALL_BITS;
        const state = pool[start + 2] as number;
        const known = new Set(machine.alphabet);
        let other = 0;
        while (known.has(other)) other++;
        const bits = new Int32Array(8).fill(other < 256 && machine.next(state, other) >= 0 ? -1 : 0);
        for (const byte of known) {
          const bit = 1 << (byte & 31);
          const word = bits[byte >> 5] as number;
          bits[byte >> 5] = machine.next(state, byte) >= 0 ? word | bit : word & ~bit;
        }
        return bits;
      }
    }
  }

  #decideReach(lexeme: number): SafeReach {
    const start = this.#table.start(lexeme);
    const pool = this.#table.pool;
    switch (pool[start]) {
      case Kind.Cat: {
        const rest = pool[start + 2] as number;
        if (this.isEmpty(rest)) return NO_REACH;
        const reach = this.safeReach(pool[start + 1] as number);
        if (reach.length === 0 || reach.length === Number.POSITIVE_INFINITY) return reach;
        const single = pool[this.#table.start(pool[start + 1] as number)] === Kind.Repeat;
        const exact = single && !this.nullable(rest) && !overlap(this.firstBits(rest), SAFE_FIRST_BYTES);
        return { length: reach.length, exact };
      }
      case Kind.Repeat: {
        if (!this.#safeCharacters.has(pool[start + 1] as number)) return NO_REACH;
        const max = pool[start + 3] as number;
        return max < 0 ? ENDLESS_REACH : { length: max, exact: false };
      }
      case Kind.Alt: {
        for (const item of Array.from(pool.subarray(start + 1, this.#table.end(lexeme))))
          if (this.safeReach(item).length === Number.POSITIVE_INFINITY) return ENDLESS_REACH;
        return NO_REACH;
      }
      case Kind.And: {
        // One endless part, all others complements of finite sets: whatever is read, something stays to be read.
        const items = Array.from(pool.subarray(start + 1, this.#table.end(lexeme)));
        let endless = 0;
        for (const item of items) {
          const at = this.#table.start(item);
          if (this.#table.pool[at] === Kind.Not && this.#isFinite(this.#table.pool[at + 1] as number)) continue;
          if (this.safeReach(item).length !== Number.POSITIVE_INFINITY) return NO_REACH;
          endless++;
        }
        return endless === 1 ? ENDLESS_REACH : NO_REACH;
      }
      default:
        return lexeme === this.all ? ENDLESS_REACH : NO_REACH;
    }
  }

  #isFinite(lexeme: number): boolean {
    const start = this.#table.start(lexeme);
    const pool = this.#table.pool;
    switch (pool[start]) {
      case Kind.Never:
      case Kind.Epsilon:
      case Kind.Set:
      case Kind.Literals:
        return true;
      case Kind.Cat:
        return this.#isFinite(pool[start + 1] as number) && this.#isFinite(pool[start + 2] as number);
      case Kind.Alt: {
        const items = Array.from(pool.subarray(start + 1, this.#table.end(lexeme)));
        return items.every((item) => this.#isFinite(item));
      }
      default:
        return false;
    }
  }
}

/** Letters of a machine that are tried one by one to know which may come. */
const MAX_TRIED = 64;
const NO_BITS = new Int32Array(8);
const ALL_BITS = new Int32Array(8).fill(-1);
const SINGLE_BITS: Int32Array[] = [];

function singleBits(byte: number): Int32Array {
  let bits = SINGLE_BITS[byte];
  if (bits === undefined) {
    bits = new Int32Array(8);
    bits[byte >> 5] = 1 << (byte & 31);
    SINGLE_BITS[byte] = bits;
  }
  return bits;
}

/** Few numbers are sorted by moving them one by one. */
const FEW = 24;

function sortNumbers(list: number[]): void {
  if (list.length > FEW) {
    list.sort((a, b) => a - b);
    return;
  }
  for (let i = 1; i < list.length; i++) {
    const value = list[i] as number;
    let at = i;
    for (; at > 0 && (list[at - 1] as number) > value; at--) list[at] = list[at - 1] as number;
    list[at] = value;
  }
}

function overlap(a: Int32Array, b: Int32Array): boolean {
  return a.some((word, i) => (word & (b[i] as number)) !== 0);
}

/** The first of the sorted texts from `from` to `end` that has no `byte` at `depth`, given that the first has. */
function endOfByte(texts: readonly Uint8Array[], from: number, end: number, depth: number, byte: number): number {
  let lo = from + 1;
  let hi = end;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (((texts[mid] as Uint8Array)[depth] as number) === byte) lo = mid + 1;
    else hi = mid;
  }
  return lo;
}

export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const n = Math.min(a.length, b.length);
  for (let i = 0; i < n; i++) {
    const d = (a[i] as number) - (b[i] as number);
    if (d !== 0) return d;
  }
  return a.length - b.length;
}

function latin1(bytes: Uint8Array): string {
  let out = "";
  for (const byte of bytes) out += String.fromCharCode(byte);
  return out;
}
