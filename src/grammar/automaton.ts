/**
 * Runs a {@link Program} byte by byte, deterministically: a *configuration* is the set of all ways the text read so far
 * can be understood, interned to a small integer; reading a byte is one table lookup once it has been done before.
 *
 * - A *frame* is "match this node, then go on with the parent frame". Frames are interned, so the second element of an
 *   array, or the second object of a kind, meets the very configurations the first one made.
 * - A *head* is a lexeme being read plus the frame to go on with after it.
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
  readonly #closures: (Int32Array | undefined)[] = [];
  readonly #configurations = new RecordTable();
  /** Known transitions, by configuration: -1 unknown. Read directly by the mask walk, through `columns`. */
  readonly rows = new RowTable(MAX_ROW_ENTRIES);
  /** By configuration that has a row: the column of each byte. */
  readonly columns: Uint8Array[] = [];
  readonly #maxHeads: number;
  readonly #maxConfigurations: number;
  readonly start: number;
  readonly #entering: number[] = [];
  #heads: number[] = [];

  constructor(program: Program, root: number, limits: AutomatonLimits = {}) {
    this.program = program;
    this.#lexemes = program.lexemes;
    this.#maxHeads = limits.maxHeads ?? 20_000;
    this.#maxConfigurations = limits.maxConfigurations ?? 4_000_000;
    this.#frames.intern([-1, -1]);
    this.#configurations.intern([0]);
    const first = this.#closure(this.#frames.intern([root, DONE]));
    this.start = this.#intern(first[0] as number, Array.from(first.subarray(1)));
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
    const heads = Array.from(this.heads(configuration));
    return heads.some((lexeme, i) => i % 2 === 0 && this.#lexemes.continues(lexeme));
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
    const others = new Int32Array(8);
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
    let known = this.#entering[frame];
    if (known === undefined) {
      const closure = this.#closure(frame);
      known = this.#configurations.intern(closure);
      this.#entering[frame] = known;
    }
    return known;
  }

  /** The configuration with some of the heads of another only, flat pairs in their order, and no end of the text. */
  withHeads(heads: readonly number[]): number {
    return this.#configurations.intern([0, ...heads]);
  }

  /** The one byte that must come next, or -1 when there is a choice or the text may end here. */
  forcedByte(configuration: number): number {
    if (this.accepts(configuration)) return -1;
    let forced = -1;
    const heads = Array.from(this.heads(configuration));
    for (let i = 0; i < heads.length; i += 2) {
      const only = this.#lexemes.onlyByte(heads[i] as number);
      if (only < 0 || (forced >= 0 && only !== forced)) return -1;
      forced = only;
    }
    return forced;
  }

  #step(configuration: number, byte: number): number {
    const lexemes = this.#lexemes;
    const start = this.#configurations.start(configuration);
    const end = this.#configurations.end(configuration);
    const out = this.#heads;
    out.length = 0;
    let accepts = 0;
    for (let i = start + 1; i < end; i += 2) {
      const pool = this.#configurations.pool;
      const parent = pool[i + 1] as number;
      const lexeme = lexemes.next(pool[i] as number, byte);
      if (lexeme === NEVER) continue;
      if (lexeme !== EPSILON) out.push(lexeme, parent);
      if (lexemes.nullable(lexeme)) {
        const closure = this.#closure(parent);
        accepts |= closure[0] as number;
        for (let k = 1; k < closure.length; k++) out.push(closure[k] as number);
      }
    }
    return this.#intern(accepts, out);
  }

  #intern(accepts: number, heads: number[]): number {
    const sorted = heads.length <= 2 ? heads : sortPairs(heads);
    if (sorted.length > 2 * this.#maxHeads) {
      throw tooComplex(`can be understood in more than ${this.#maxHeads} ways at one place; make it less ambiguous`);
    }
    sorted.unshift(accepts);
    const id = this.#configurations.intern(sorted);
    if (id > this.#maxConfigurations) throw tooComplex(`needs more than ${this.#maxConfigurations} configurations`);
    return id;
  }

  /** `[accepts, lexeme, frame, ...]`: where reading starts when `frame` is next. Remembered per frame. */
  #closure(frame: number): Int32Array {
    const known = this.#closures[frame];
    if (known !== undefined) return known;
    const { nodes } = this.program;
    const seen = new Set([frame]);
    const work = [frame];
    const heads: number[] = [];
    let accepts = 0;
    const push = (node: number, parent: number): void => {
      if (!this.program.isProductive(node)) return;
      const target = node === this.program.empty ? parent : this.#frames.intern([node, parent]);
      if (!seen.has(target)) {
        seen.add(target);
        work.push(target);
      }
    };
    while (work.length > 0) {
      if (seen.size > 4 * this.#maxHeads) {
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
          if (this.#lexemes.nullable(first) && !seen.has(parent)) {
            seen.add(parent);
            work.push(parent);
          }
          break;
        case NodeKind.Sequence: {
          const rest = nodes.pool[start + 2] as number;
          if (this.program.isProductive(rest)) push(first, this.#frames.intern([rest, parent]));
          break;
        }
        case NodeKind.Choice: {
          const end = nodes.end(node);
          for (let i = start + 1; i < end; i++) push(nodes.pool[i] as number, parent);
          break;
        }
        case NodeKind.Repeat: {
          const min = nodes.pool[start + 2] as number;
          const max = nodes.pool[start + 3] as number;
          const bound = max < 0 ? Number.POSITIVE_INFINITY : max - 1;
          if (min === 0) push(this.program.empty, parent);
          const rest = this.program.repeat(first, Math.max(0, min - 1), bound);
          push(first, rest === this.program.empty ? parent : this.#frames.intern([rest, parent]));
          break;
        }
        default:
          push(this.program.body(first), parent);
      }
    }
    const result = Int32Array.from([accepts, ...sortPairs(heads)]);
    this.#closures[frame] = result;
    return result;
  }
}

/** Sorted pairs without repeats, in a new array. */
function sortPairs(flat: readonly number[]): number[] {
  const count = flat.length >> 1;
  const order = new Array<number>(count);
  for (let i = 0; i < count; i++) order[i] = 2 * i;
  order.sort((a, b) => (flat[a] as number) - (flat[b] as number) || (flat[a + 1] as number) - (flat[b + 1] as number));
  const out: number[] = [];
  for (const at of order) {
    const lexeme = flat[at] as number;
    const frame = flat[at + 1] as number;
    if (out.length > 0 && out[out.length - 2] === lexeme && out[out.length - 1] === frame) continue;
    out.push(lexeme, frame);
  }
  return out;
}

function tooComplex(what: string): SglangError {
  return new SglangError("UNSUPPORTED", `The grammar ${what}.`, { field: "grammar" });
}
