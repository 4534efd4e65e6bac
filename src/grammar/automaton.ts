/**
 * Runs a {@link Program} byte by byte, deterministically: a *configuration* is the set of all ways the text read so far
 * can be understood, interned to a small integer; reading a byte is one table lookup once it has been done before.
 *
 * - A *frame* is "match this node, then go on with the parent frame". Frames are interned, so the second element of an
 *   array, or the second object of a kind, meets the very configurations the first one made.
 * - A *head* is a lexeme being read plus the frame to go on with after it. While names are not told apart yet, their
 *   head has the frame of the names themselves; it gets the one of what follows as soon as one name is left.
 * - A configuration is a sorted set of heads plus whether the text may end here.
 *
 * Tail calls cost no frame: a node with nothing after it goes on with its parent's frame, so right recursion does not
 * grow the stack and depth is real nesting only.
 *
 * Invariant: every configuration but {@link DEAD} can be completed. Frames hold productive nodes only and lexemes prune
 * their own dead ends.
 */
import { SglangError } from "../core/errors.js";
import { EPSILON, type Lexemes, NEVER } from "./lexeme.js";
import { NodeKind, type Program } from "./program.js";
import { RecordTable } from "./record-table.js";
import { RowTable } from "./row-table.js";

/** The configuration from which nothing can be accepted. */
export const DEAD = 0;

/** The frame after which the text is complete. */
const DONE = 0;

/** Entries of transition rows kept before all are forgotten; they are only a memo. */
const MAX_ROW_ENTRIES = 8_388_608;

const EVERY_BYTE = Uint8Array.from({ length: 256 }, (_, byte) => byte);

export interface AutomatonLimits {
  /** Alternatives one configuration may hold. @default 20_000 */
  maxHeads?: number;
  /** Configurations of one grammar. @default 4_000_000 */
  maxConfigurations?: number;
}

export class Automaton {
  readonly program: Program;
  readonly #lexemes: Lexemes;
  readonly #frames = new RecordTable();
  readonly #configurations = new RecordTable();
  /** Known transitions, by configuration: -1 unknown. Read directly by the mask walk, through `columns`. */
  readonly rows = new RowTable(MAX_ROW_ENTRIES);
  /** By configuration that has a row: the column of each byte. */
  readonly columns: Uint8Array[] = [];
  readonly #maxHeads: number;
  readonly #maxConfigurations: number;
  readonly start: number;
  /** By frame: the configuration in which it comes next, or 0 when not known (nothing leads there). */
  #entering = new Int32Array(256);
  /** The heads being put together: flat pairs. */
  #heads: number[] = [];
  /** Frames still to be looked at for a closure, and by frame the closure that saw it last. */
  readonly #work: number[] = [];
  #seen = new Int32Array(256);
  #round = 0;
  readonly #others = new Int32Array(8);
  readonly #pair = [0, 0];
  #found = 0;

  constructor(program: Program, root: number, limits: AutomatonLimits = {}) {
    this.program = program;
    this.#lexemes = program.lexemes;
    this.#maxHeads = limits.maxHeads ?? 20_000;
    this.#maxConfigurations = limits.maxConfigurations ?? 4_000_000;
    this.#frames.intern([-1, -1]);
    this.#configurations.intern([0]);
    this.start = this.entering(this.#frame(root, DONE));
  }

  /** Configurations met so far. */
  get size(): number {
    return this.#configurations.size;
  }

  /** Whether the text may end here. */
  accepts(configuration: number): boolean {
    return this.#configurations.pool[this.#configurations.start(configuration)] === 1;
  }

  /** Whether anything may follow. */
  continues(configuration: number): boolean {
    const end = this.#configurations.end(configuration);
    for (let i = this.#configurations.start(configuration) + 1; i < end; i += 2)
      if (this.#lexemes.continues(this.#configurations.pool[i] as number)) return true;
    return false;
  }

  /** The configuration after `byte`; {@link DEAD} when the text leaves the grammar. */
  next(configuration: number, byte: number): number {
    const { rows } = this;
    let row = rows.offset(configuration);
    if (row < 0) row = this.#newRow(configuration);
    const known = rows.table[row + ((this.columns[configuration] as Uint8Array)[byte] as number)] as number;
    if (known >= 0) return known;
    const result = this.#step(configuration, byte);
    this.#fill(configuration, row, byte, result);
    return result;
  }

  /** A row that knows which bytes lead nowhere. */
  #newRow(configuration: number): number {
    const start = this.#configurations.start(configuration) + 1;
    const end = this.#configurations.end(configuration);
    if (end - start === 2) {
      // One head: bytes are told apart as its lexeme does.
      const classes = this.#lexemes.classes(this.#configurations.pool[start] as number);
      this.columns[configuration] = classes.of;
      return this.rows.add(configuration, classes.members.length, -1);
    }
    this.columns[configuration] = EVERY_BYTE;
    const row = this.rows.add(configuration, 256, DEAD);
    const { table } = this.rows;
    for (let i = start; i < end; i += 2) {
      const bits = this.#lexemes.firstBits(this.#configurations.pool[i] as number);
      for (let k = 0; k < 8; k++) {
        for (let word = bits[k] as number; word !== 0; word &= word - 1)
          table[row + 32 * k + 31 - Math.clz32(word & -word)] = -1;
      }
    }
    return row;
  }

  /** Enters a result for `byte` and for bytes that cannot be told from it: same class of the only lexeme that takes them. */
  #fill(configuration: number, row: number, byte: number, result: number): void {
    const { table } = this.rows;
    const { pool } = this.#configurations;
    const start = this.#configurations.start(configuration) + 1;
    const end = this.#configurations.end(configuration);
    if (end - start === 2) {
      table[row + ((this.columns[configuration] as Uint8Array)[byte] as number)] = result;
      return;
    }
    const word = byte >> 5;
    const bit = 1 << (byte & 31);
    let taker = -1;
    for (let i = start; i < end; i += 2) {
      if (((this.#lexemes.firstBits(pool[i] as number)[word] as number) & bit) === 0) continue;
      if (taker >= 0) {
        table[row + byte] = result;
        return;
      }
      taker = i;
    }
    if (taker < 0) {
      table[row + byte] = result;
      return;
    }
    const classes = this.#lexemes.classes(pool[taker] as number);
    const alike = classes.members[classes.of[byte] as number] as Uint8Array;
    const others = this.#others.fill(0);
    for (let i = start; i < end; i += 2) {
      if (i === taker) continue;
      const bits = this.#lexemes.firstBits(pool[i] as number);
      for (let k = 0; k < 8; k++) others[k] = (others[k] as number) | (bits[k] as number);
    }
    for (let i = 0; i < alike.length; i++) {
      const b = alike[i] as number;
      if (((others[b >> 5] as number) & (1 << (b & 31))) === 0) table[row + b] = result;
    }
  }

  /** The configuration after all of `bytes`. */
  read(configuration: number, bytes: Uint8Array): number {
    let at = configuration;
    for (let i = 0; i < bytes.length && at !== DEAD; i++) at = this.next(at, bytes[i] as number);
    return at;
  }

  /** Heads as flat pairs (lexeme, frame). */
  heads(configuration: number): Int32Array {
    const start = this.#configurations.start(configuration);
    return this.#configurations.pool.subarray(start + 1, this.#configurations.end(configuration));
  }

  /** `[node, parent]` of a frame; node -1 for the end of the text. */
  frame(frame: number): readonly [number, number] {
    const at = this.#frames.start(frame);
    return [this.#frames.pool[at] as number, this.#frames.pool[at + 1] as number];
  }

  /** The configuration in which `frame` comes next. */
  entering(frame: number): number {
    if (frame < this.#entering.length && this.#entering[frame] !== 0) return this.#entering[frame] as number;
    const made = this.#closure(frame);
    if (frame >= this.#entering.length) this.#entering = grown(this.#entering, frame);
    this.#entering[frame] = made;
    return made;
  }

  /** The configuration in which any of the frames of `heads[from..end)` comes next. */
  enteringAny(heads: Int32Array, from: number, end: number): number {
    const out = this.#heads;
    const entered: number[] = [];
    for (let i = from + 1; i < end; i += 2) entered.push(this.entering(heads[i] as number));
    out.length = 0;
    let accepts = 0;
    for (const configuration of entered) accepts |= this.#addHeads(configuration);
    return this.#intern(accepts);
  }

  /** Adds the heads of a configuration to those being put together. @returns 1 if the text may end there. */
  #addHeads(configuration: number): number {
    const start = this.#configurations.start(configuration);
    const end = this.#configurations.end(configuration);
    const { pool } = this.#configurations;
    for (let i = start + 1; i < end; i++) this.#heads.push(pool[i] as number);
    return pool[start] as number;
  }

  #frame(node: number, parent: number): number {
    this.#pair[0] = node;
    this.#pair[1] = parent;
    return this.#frames.intern(this.#pair, 2);
  }

  /** The one byte that must come next, or -1 when there is a choice or the text may end here. */
  forcedByte(configuration: number): number {
    if (this.accepts(configuration)) return -1;
    let forced = -1;
    const end = this.#configurations.end(configuration);
    for (let i = this.#configurations.start(configuration) + 1; i < end; i += 2) {
      const only = this.#lexemes.onlyByte(this.#configurations.pool[i] as number);
      if (only < 0 || (forced >= 0 && only !== forced)) return -1;
      forced = only;
    }
    return forced;
  }

  #step(configuration: number, byte: number): number {
    const lexemes = this.#lexemes;
    const start = this.#configurations.start(configuration);
    const end = this.#configurations.end(configuration);
    const word = byte >> 5;
    const bit = 1 << (byte & 31);
    // Frames that are entered first: what is put together in between would be lost.
    for (let i = start + 1; i < end; i += 2) {
      if (((lexemes.firstBits(this.#configurations.pool[i] as number)[word] as number) & bit) === 0) continue;
      const from = this.#configurations.pool[i] as number;
      const frame = this.#configurations.pool[i + 1] as number;
      const told = this.#told(from, frame, byte);
      const lexeme = lexemes.next(told < 0 ? from : lexemes.nameIn(from, told), byte);
      if (lexeme !== NEVER && lexemes.nullable(lexeme)) this.entering(told < 0 ? frame : this.afterName(frame, told));
    }
    const out = this.#heads;
    out.length = 0;
    let accepts = 0;
    for (let i = start + 1; i < end; i += 2) {
      const { pool } = this.#configurations;
      if (((lexemes.firstBits(pool[i] as number)[word] as number) & bit) === 0) continue;
      const from = pool[i] as number;
      let parent = pool[i + 1] as number;
      const told = this.#told(from, parent, byte);
      const lexeme = lexemes.next(told < 0 ? from : lexemes.nameIn(from, told), byte);
      if (lexeme === NEVER) continue;
      if (told >= 0) parent = this.afterName(parent, told);
      if (lexeme !== EPSILON) out.push(lexeme, parent);
      if (lexemes.nullable(lexeme)) accepts |= this.#addHeads(this.entering(parent));
    }
    return this.#intern(accepts);
  }

  /** The only name that is left after `byte`, by its index; -1 when it is no head of names, or they are not told apart. */
  #told(lexeme: number, frame: number, byte: number): number {
    return this.hasNames(frame) ? this.#lexemes.nameAfter(lexeme, byte) : -1;
  }

  /** Whether a head with this frame is one of names that are not told apart yet. */
  hasNames(frame: number): boolean {
    const node = this.#frames.pool[this.#frames.start(frame)] as number;
    return node >= 0 && this.program.nodes.pool[this.program.nodes.start(node)] === NodeKind.Names;
  }

  /** The frame after the name of that index, for a head of names with this frame. */
  afterName(frame: number, index: number): number {
    const at = this.#frames.start(frame);
    const parent = this.#frames.pool[at + 1] as number;
    const { nodes } = this.program;
    const group = nodes.pool[nodes.start(this.#frames.pool[at] as number) + 1] as number;
    return this.#frame(this.program.afterName(group, index), parent);
  }

  /** The configuration of the heads that were put together. */
  #intern(accepts: number): number {
    const heads = this.#heads;
    sortPairs(heads);
    if (heads.length > 2 * this.#maxHeads) {
      throw tooComplex(`can be understood in more than ${this.#maxHeads} ways at one place; make it less ambiguous`);
    }
    heads.unshift(accepts);
    const id = this.#configurations.intern(heads);
    if (id > this.#maxConfigurations) throw tooComplex(`needs more than ${this.#maxConfigurations} configurations`);
    return id;
  }

  /** Where reading starts when `frame` is next. */
  #closure(frame: number): number {
    const { nodes } = this.program;
    const work = this.#work;
    work.length = 0;
    this.#round++;
    this.#found = 0;
    this.#see(frame);
    const heads = this.#heads;
    heads.length = 0;
    let accepts = 0;
    while (work.length > 0) {
      if (this.#found > 4 * this.#maxHeads) {
        throw tooComplex(
          "expands without end before reading anything; remove left recursion and deep empty repetition",
        );
      }
      const current = work.pop() as number;
      if (current === DONE) {
        accepts = 1;
        continue;
      }
      const at = this.#frames.start(current);
      const node = this.#frames.pool[at] as number;
      const parent = this.#frames.pool[at + 1] as number;
      const start = nodes.start(node);
      const first = nodes.pool[start + 1] as number;
      switch (nodes.pool[start]) {
        case NodeKind.Lexeme:
          if (first !== EPSILON) heads.push(first, parent);
          if (this.#lexemes.nullable(first)) this.#see(parent);
          break;
        case NodeKind.Sequence: {
          const rest = nodes.pool[start + 2] as number;
          if (this.program.isProductive(rest)) this.#push(first, this.#frame(rest, parent));
          break;
        }
        case NodeKind.Choice: {
          const end = nodes.end(node);
          for (let i = start + 1; i < end; i++) this.#push(nodes.pool[i] as number, parent);
          break;
        }
        case NodeKind.Repeat: {
          const min = nodes.pool[start + 2] as number;
          const max = nodes.pool[start + 3] as number;
          const bound = max < 0 ? Number.POSITIVE_INFINITY : max - 1;
          if (min === 0) this.#push(this.program.empty, parent);
          const rest = this.program.repeat(first, Math.max(0, min - 1), bound);
          this.#push(first, rest === this.program.empty ? parent : this.#frame(rest, parent));
          break;
        }
        case NodeKind.Names:
          heads.push(this.program.namesOf(first), current);
          break;
        default:
          this.#push(this.program.body(first), parent);
      }
    }
    return this.#intern(accepts);
  }

  /** Looks at a node and what comes after it, in the closure being made. */
  #push(node: number, parent: number): void {
    if (!this.program.isProductive(node)) return;
    this.#see(node === this.program.empty ? parent : this.#frame(node, parent));
  }

  #see(frame: number): void {
    if (frame >= this.#seen.length) this.#seen = grown(this.#seen, frame);
    if (this.#seen[frame] === this.#round) return;
    this.#seen[frame] = this.#round;
    this.#found++;
    this.#work.push(frame);
  }
}

/** Pairs that are sorted by moving them one by one; more are sorted as numbers. */
const FEW_PAIRS = 12;
/** Above every frame: `lexeme * PAIR + frame` is exact and sorts as the pair does. */
const PAIR = 2 ** 31;

/** Sorts flat pairs and drops repeats, in place. */
function sortPairs(flat: number[]): void {
  const count = flat.length >> 1;
  if (count <= 1) return;
  if (count <= FEW_PAIRS) {
    for (let i = 2; i < flat.length; i += 2) {
      const lexeme = flat[i] as number;
      const frame = flat[i + 1] as number;
      let at = i;
      for (; at > 0; at -= 2) {
        const before = flat[at - 2] as number;
        if (before < lexeme || (before === lexeme && (flat[at - 1] as number) <= frame)) break;
        flat[at] = before;
        flat[at + 1] = flat[at - 1] as number;
      }
      flat[at] = lexeme;
      flat[at + 1] = frame;
    }
  } else {
    const keys = new Float64Array(count);
    for (let i = 0; i < count; i++) keys[i] = (flat[2 * i] as number) * PAIR + (flat[2 * i + 1] as number);
    keys.sort();
    for (let i = 0; i < count; i++) {
      const key = keys[i] as number;
      const lexeme = Math.floor(key / PAIR);
      flat[2 * i] = lexeme;
      flat[2 * i + 1] = key - lexeme * PAIR;
    }
  }
  let kept = 2;
  for (let i = 2; i < flat.length; i += 2) {
    if (flat[i] === flat[kept - 2] && flat[i + 1] === flat[kept - 1]) continue;
    flat[kept] = flat[i] as number;
    flat[kept + 1] = flat[i + 1] as number;
    kept += 2;
  }
  flat.length = kept;
}

/** A copy with room for `index`. */
function grown(array: Int32Array, index: number): Int32Array<ArrayBuffer> {
  const out = new Int32Array(Math.max(2 * array.length, index + 1));
  out.set(array);
  return out;
}

function tooComplex(what: string): SglangError {
  return new SglangError("UNSUPPORTED", `The grammar ${what}.`, { field: "grammar" });
}
