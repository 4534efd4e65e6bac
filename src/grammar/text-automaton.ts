/**
 * Deterministic automata over code points: building them from a step function, making them minimal, running them.
 * Front ends use them where a language is regular but its expression would be huge; the engine sees them through the
 * `automaton` expression of `ir.ts`.
 */
import type { CodePoints } from "./char-class.js";
import { includes, union } from "./char-class.js";
import { automatonState, type Expression, NEVER, type TextAutomaton } from "./ir.js";

/** What {@link buildAutomaton} explores. `State` is any value; equal keys are one state. */
export interface AutomatonSource<State> {
  start: State;
  key(state: State): string | number;
  accepting(state: State): boolean;
  /** The state after one code point of letter `letter`, or null when none can follow. */
  step(state: State, letter: number): State | null;
  /** The alphabet: disjoint sets of code points. */
  letters: readonly CodePoints[];
  /** Whether equal states are joined. Costs time; not worth it where keys tell few equal states apart. @default true */
  join?: boolean;
  /** Called when there are more than `limit` states; throws. */
  limit: number;
  tooLarge(): never;
}

/** Above this many states equal states are kept: joining them is worth less than it costs. */
const MAX_JOINED_STATES = 1000;

/** Explores all states reachable from the start, then removes dead ones and joins equal ones. */
export function buildAutomaton<State>(source: AutomatonSource<State>): TextAutomaton {
  const { letters } = source;
  const ids = new Map<string | number, number>();
  const states: State[] = [];
  const enter = (state: State): number => {
    const key = source.key(state);
    const known = ids.get(key);
    if (known !== undefined) return known;
    if (states.length >= source.limit) source.tooLarge();
    ids.set(key, states.length);
    states.push(state);
    return states.length - 1;
  };
  enter(source.start);
  const table: Int32Array[] = [];
  const accepting: boolean[] = [];
  for (let id = 0; id < states.length; id++) {
    const state = states[id];
    accepting.push(source.accepting(state));
    const row = new Int32Array(letters.length);
    for (let letter = 0; letter < letters.length; letter++) {
      const next = source.step(state, letter);
      row[letter] = next === null ? -1 : enter(next);
    }
    table.push(row);
  }
  return minimize(table, accepting, letters, source.join ?? true);
}

/** The expression of an automaton's language. */
export function automatonExpression(automaton: TextAutomaton): Expression {
  return automaton.accepting.length === 0 ? NEVER : automatonState(automaton, 0);
}

/** Whether the automaton accepts `text`. */
export function runAutomaton(automaton: TextAutomaton, text: string): boolean {
  if (automaton.accepting.length === 0) return false;
  let state = 0;
  for (const char of text) {
    const edge = automaton.edges[state].find(({ ranges }) => includes(ranges, char.codePointAt(0)!));
    if (!edge) return false;
    state = edge.to;
  }
  return automaton.accepting[state];
}

/** Drops dead states and joins equal ones (Moore's refinement); state 0 stays the start. An empty language gives an automaton without states. */
function minimize(
  table: Int32Array[],
  accepting: boolean[],
  letters: readonly CodePoints[],
  join: boolean,
): TextAutomaton {
  const alive = liveStates(table, accepting);
  if (!alive[0]) return { accepting: [], edges: [] };
  const joined = join && table.length <= MAX_JOINED_STATES;
  let live = 0;
  let block = Int32Array.from(accepting, (accepts, id) => (!alive[id] ? -1 : !joined ? live++ : accepts ? 1 : 0));
  let count = live;
  while (joined) {
    const signatures = new Map<string, number>();
    const next = new Int32Array(block.length).fill(-1);
    for (let id = 0; id < block.length; id++) {
      if (!alive[id]) continue;
      let signature = `${block[id]}`;
      const row = table[id];
      for (let letter = 0; letter < row.length; letter++) signature += `,${row[letter] < 0 ? -1 : block[row[letter]]}`;
      const known = signatures.get(signature);
      if (known === undefined) {
        next[id] = signatures.size;
        signatures.set(signature, signatures.size);
      } else next[id] = known;
    }
    block = next;
    if (signatures.size === count) break;
    count = signatures.size;
  }
  const representative = new Int32Array(count).fill(-1);
  for (let id = 0; id < block.length; id++)
    if (alive[id] && representative[block[id]] < 0) representative[block[id]] = id;
  // The same few sets of letters lead on from most states.
  const unions = new Map<number, CodePoints>();
  const unionOf = (found: readonly number[]): CodePoints => {
    if (letters.length > 31) return union(...found.map((letter) => letters[letter]));
    let key = 0;
    for (const letter of found) key |= 1 << letter;
    let known = unions.get(key);
    if (known === undefined) {
      known = union(...found.map((letter) => letters[letter]));
      unions.set(key, known);
    }
    return known;
  };
  // The start comes first among all ids, so it is block 0.
  return {
    accepting: Array.from(representative, (id) => accepting[id]),
    edges: Array.from(representative, (id) => {
      const byTarget = new Map<number, number[]>();
      table[id].forEach((to, letter) => {
        if (to < 0 || !alive[to]) return;
        const found = byTarget.get(block[to]);
        if (found) found.push(letter);
        else byTarget.set(block[to], [letter]);
      });
      return [...byTarget].map(([to, found]) => ({ ranges: unionOf(found), to }));
    }),
  };
}

/** States from which an accepting one can be reached. */
function liveStates(table: readonly Int32Array[], accepting: readonly boolean[]): boolean[] {
  const into: number[][] = table.map(() => []);
  table.forEach((row, from) => {
    let last = -1;
    for (const to of row) {
      if (to >= 0 && to !== last) into[to].push(from);
      last = to;
    }
  });
  const alive = table.map(() => false);
  const queue: number[] = [];
  const mark = (id: number): void => {
    if (alive[id]) return;
    alive[id] = true;
    queue.push(id);
  };
  accepting.forEach((accepts, id) => {
    if (accepts) mark(id);
  });
  for (let id = queue.pop(); id !== undefined; id = queue.pop()) for (const from of into[id]) mark(from);
  return alive;
}
