/**
 * The byte form of an automaton over code points: a {@link ByteMachine} whose states are an automaton state plus the
 * bytes of a character read so far. States are made as they are visited.
 */
import type { Encoding } from "./encode.js";
import type { CodePointRanges, Expression, TextAutomaton } from "./ir.js";
import { type ByteMachine, EPSILON, NEVER } from "./lexeme.js";

/** What is needed of the encoder: the bytes of a class as a lexeme, and the derivatives of lexemes. */
export interface ClassEncoder {
  characterClass(ranges: CodePointRanges, encoding: Encoding): number;
  /** The lexeme after one byte, or `NEVER`. */
  next(lexeme: number, byte: number): number;
}

/** Unfinished characters: each a lexeme for the bytes still to come and the automaton state after them. */
type Pending = readonly (readonly [lexeme: number, to: number])[];

const EVERY_BYTE: readonly number[] = Array.from({ length: 256 }, (_, byte) => byte);

const names = new WeakMap<TextAutomaton, number>();
let named = 0;

/** Texts that lead `automaton` from `state` to an accepting state, spelled in `encoding`. */
export function textMachine(
  automaton: TextAutomaton,
  state: number,
  encoding: Encoding,
  encoder: ClassEncoder,
): ByteMachine {
  let id = names.get(automaton);
  if (id === undefined) {
    id = named++;
    names.set(automaton, id);
  }
  const count = automaton.accepting.length;
  // States below `count` are those of the automaton; the ones above are inside a character.
  const pending: Pending[] = [];
  const pendingIds = new Map<string, number>();
  const edges: (Pending | undefined)[] = [];
  const edgesOf = (from: number): Pending => {
    const known = edges[from];
    if (known) return known;
    const made = automaton.edges[from].map(({ ranges, to }) => [encoder.characterClass(ranges, encoding), to] as const);
    edges[from] = made;
    return made;
  };
  return {
    name: `text-automaton ${id}.${state} ${encoding}`,
    start: state,
    alphabet: alphabetOf(automaton, encoding),
    accepts: (at) => at < count && automaton.accepting[at],
    distance: (at) => (at < count ? (distancesOf(automaton)[at] as number) : 1),
    next: (at, byte) => {
      const from = at < count ? edgesOf(at) : pending[at - count];
      const rest: [number, number][] = [];
      for (const [lexeme, to] of from) {
        const after = encoder.next(lexeme, byte);
        // Spellings are prefix-free and classes are disjoint: a finished character is the only possibility left.
        if (after === EPSILON) return to;
        if (after !== NEVER) rest.push([after, to]);
      }
      if (rest.length === 0) return -1;
      const key = rest.join(";");
      let next = pendingIds.get(key);
      if (next === undefined) {
        next = pending.push(rest) - 1;
        pendingIds.set(key, next);
      }
      return count + next;
    },
  };
}

const distances = new WeakMap<TextAutomaton, Int32Array>();

/** By state: how many characters lead to an accepting one. Every state can accept. */
function distancesOf(automaton: TextAutomaton): Int32Array {
  let known = distances.get(automaton);
  if (known !== undefined) return known;
  const count = automaton.accepting.length;
  const sources: number[][] = Array.from({ length: count }, () => []);
  automaton.edges.forEach((edges, from) => {
    for (const { to } of edges) (sources[to] as number[]).push(from);
  });
  known = new Int32Array(count).fill(-1);
  const work: number[] = [];
  automaton.accepting.forEach((accepts, state) => {
    if (!accepts) return;
    (known as Int32Array)[state] = 0;
    work.push(state);
  });
  for (let i = 0; i < work.length; i++) {
    const state = work[i] as number;
    for (const from of sources[state] as number[]) {
      if ((known[from] as number) >= 0) continue;
      known[from] = (known[state] as number) + 1;
      work.push(from);
    }
  }
  distances.set(automaton, known);
  return known;
}

/** Remainders up to which ways are measured. */
const MAX_MEASURED = 50_000;

/** By remainder: how many digits lead to one that is accepted. */
function digitsToAccept(divisor: number, accepts: (remainder: number) => boolean): Int32Array {
  const distances = new Int32Array(divisor).fill(FAR);
  let left = 0;
  for (let r = 0; r < divisor; r++) {
    if (accepts(r)) distances[r] = 0;
    else left++;
  }
  for (let distance = 1; left > 0; distance++) {
    const before = left;
    for (let r = 0; r < divisor; r++) {
      if ((distances[r] as number) < distance) continue;
      for (let digit = 0; digit < 10; digit++) {
        if ((distances[(r * 10 + digit) % divisor] as number) !== distance - 1) continue;
        distances[r] = distance;
        left--;
        break;
      }
    }
    if (left === before) break;
  }
  return distances;
}

const FAR = 1_000;
const DIGITS: readonly number[] = Array.from({ length: 10 }, (_, digit) => 0x30 + digit);

/** Digits of a whole number by the remainder they leave: state 0 is the beginning, 1 a lone zero, then the remainders. */
export function remainderMachine(expression: Extract<Expression, { kind: "remainder" }>): ByteMachine {
  const { divisor, name, accepts } = expression;
  let distances: Int32Array | undefined;
  return {
    name: `remainder ${divisor} ${name}`,
    start: 0,
    alphabet: DIGITS,
    accepts: (at) => at !== 0 && accepts(at === 1 ? 0 : at - 2),
    distance: (at) => {
      if (divisor > MAX_MEASURED || at === 1) return 1;
      distances ??= digitsToAccept(divisor, accepts);
      return distances[at === 0 ? 0 : at - 2] as number;
    },
    next: (at, byte) => {
      if (byte < 0x30 || byte > 0x39 || at === 1) return -1;
      if (at === 0 && byte === 0x30) return 1;
      return 2 + (((at === 0 ? 0 : at - 2) * 10 + byte - 0x30) % divisor);
    },
  };
}

const alphabets = new WeakMap<TextAutomaton, readonly number[]>();

/** The bytes an automaton over ASCII reads in plain text; fewer bytes to tell apart make searches shorter. */
function alphabetOf(automaton: TextAutomaton, encoding: Encoding): readonly number[] {
  if (encoding !== "utf8") return EVERY_BYTE;
  let known = alphabets.get(automaton);
  if (known === undefined) {
    known = asciiAlphabet(automaton) ?? EVERY_BYTE;
    alphabets.set(automaton, known);
  }
  return known;
}

function asciiAlphabet(automaton: TextAutomaton): readonly number[] | undefined {
  const bytes = new Set<number>();
  for (const edges of automaton.edges) {
    for (const { ranges } of edges) {
      if ((ranges[ranges.length - 1] as number) >= 0x80) return undefined;
      for (let i = 0; i < ranges.length; i += 2)
        for (let c = ranges[i] as number; c <= (ranges[i + 1] as number); c++) bytes.add(c);
    }
  }
  return [...bytes];
}
