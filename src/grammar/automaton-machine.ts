/**
 * The byte form of an automaton over code points: a {@link ByteMachine} whose states are an automaton state plus the
 * bytes of a character read so far. States are made as they are visited.
 */
import type { Encoding } from "./encode.js";
import type { CodePointRanges, TextAutomaton } from "./ir.js";
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
