/**
 * Regular expressions with assertions anywhere (look-ahead, look-behind, `\b`, `^` and `$` inside or under repetition) as
 * one deterministic automaton over whole texts.
 *
 * The pattern becomes a graph whose arcs read one code point, read nothing, or test an assertion. A state of the
 * automaton is a formula over places of that graph, true for the texts still acceptable: look-ahead makes it a
 * conjunction, negative look-ahead a negation, alternatives a disjunction. Formulas are kept in disjunctive normal form
 * with sorted terms, hence finitely many. What lies to the left is decided already: each look-behind carries the set of
 * places its body can be at. The letter that comes next is known when a step is computed, so `\b` and `$` need no memory.
 */
import { type CodePoints, includes, partition } from "./char-class.js";
import type { TextAutomaton } from "./ir.js";
import { type RegexNode, regexError } from "./regex-tree.js";
import { buildAutomaton } from "./text-automaton.js";
import { LINE_TERMINATORS } from "./unicode.js";

/** Counted repetition is written out here, so patterns with assertions under large counts are refused. */
const MAX_PLACES = 20_000;
const MAX_STATES = 4_000;
/** Conjunctions in one formula: more means that alternatives and look-ahead multiply. */
const MAX_TERMS = 1_000;
/** Places and terms looked at while the automaton is built; some hundred nanoseconds each. */
const MAX_WORK = 1_500_000;

type Test =
  | { kind: "ahead"; negate: boolean; start: number }
  | { kind: "behind"; negate: boolean; index: number }
  | { kind: "edge"; at: "start" | "end"; lines: boolean }
  | { kind: "word"; negate: boolean; set: CodePoints };

type Arc = { to: number } & ({ kind: "read"; set: CodePoints } | { kind: "free" } | { kind: "test"; test: Test });

/** A literal of a formula: place `p` as `p`, the negation of formula `f` as `-1 - f`. A term is a conjunction. */
type Term = readonly number[];
type Formula = readonly Term[];
const TRUE: Formula = [[]];
const FALSE: Formula = [];

/** What a step knows about the left: the places of every look-behind, and the letter just read (-1: the start). */
interface Left {
  behind: readonly (readonly number[])[];
  letter: number;
}

interface State {
  formula: Formula;
  left: Left;
}

/** The automaton of the texts that `node` matches: somewhere in the text, or as a whole if `anchored`. */
export function assertionAutomaton(node: RegexNode, anchored: boolean, source: string): TextAutomaton {
  return new AssertionCompiler(source).compile(node, anchored);
}

class AssertionCompiler {
  readonly #source: string;
  readonly #arcs: Arc[][] = [];
  /** Start and end place of every look-behind body, inner ones first. */
  readonly #behind: { start: number; end: number }[] = [];
  readonly #sets: CodePoints[] = [];
  /** Negated formulas, by id. */
  readonly #formulas: Formula[] = [];
  readonly #formulaIds = new Map<string, number>();
  #letters: readonly CodePoints[] = [];
  /** Sets of which tests ask whether the letter to the left is in. */
  readonly #leftSets: CodePoints[] = [];
  /** Places that accept whatever follows, and those that accept the end of the text only. */
  readonly #acceptAny = new Set<number>();
  #acceptEnd = -1;
  #work = 0;

  constructor(source: string) {
    this.#source = source;
  }

  compile(node: RegexNode, anchored: boolean): TextAutomaton {
    const start = this.#place();
    const end = this.#place();
    this.#connect(node, start, end, false);
    if (anchored) this.#acceptEnd = end;
    else this.#acceptAny.add(end);
    this.#letters = partition(this.#sets);
    const memberships = new Map<CodePoints, boolean[]>();
    this.#has = (set, letter) => {
      let row = memberships.get(set);
      if (!row) {
        row = this.#letters.map((letterSet) => includes(set, letterSet[0]));
        memberships.set(set, row);
      }
      return letter >= 0 && row[letter];
    };
    return buildAutomaton<State>({
      start: { formula: [[start]], left: { behind: this.#behind.map(({ start: at }) => [at]), letter: -1 } },
      letters: this.#letters,
      limit: MAX_STATES,
      tooLarge: () => this.#refuse(`its assertions need more than ${MAX_STATES} states`),
      key: (state) =>
        isTrue(state.formula)
          ? "true"
          : `${JSON.stringify(state.formula)}${JSON.stringify(state.left.behind)}${this.#leftKey(state.left.letter)}`,
      accepting: ({ formula, left }) => isTrue(this.#advance(formula, left, -1)),
      step: ({ formula, left }, letter) => {
        if (isTrue(formula)) return { formula, left };
        let next = this.#advance(formula, left, letter);
        // A search may also begin at the next position.
        if (!anchored && !isTrue(next)) next = this.#or([next, [[start]]]);
        if (next.length === 0) return null;
        return { formula: next, left: this.#advanceLeft(left, letter) };
      },
    });
  }

  #has: (set: CodePoints, letter: number) => boolean = () => false;

  /** What of the letter before matters: whether it is in one of the sets that tests ask about. */
  #leftKey(letter: number): string {
    return letter < 0 ? "^" : this.#leftSets.map((set) => (this.#has(set, letter) ? 1 : 0)).join("");
  }

  #refuse(why: string): never {
    throw regexError(this.#source, 0, `the pattern is too complex: ${why}`, "simplify its assertions or its counts");
  }

  #spend(work: number): void {
    this.#work += work;
    if (this.#work > MAX_WORK) this.#refuse("its assertions and repetitions multiply");
  }

  #place(): number {
    if (this.#arcs.length >= MAX_PLACES)
      this.#refuse(`it has more than ${MAX_PLACES} places with its counts written out`);
    this.#arcs.push([]);
    return this.#arcs.length - 1;
  }

  #free(from: number, to: number): void {
    this.#arcs[from].push({ kind: "free", to });
  }

  #connect(node: RegexNode, from: number, to: number, insideBehind: boolean): void {
    switch (node.kind) {
      case "chars":
        this.#sets.push(node.set);
        this.#arcs[from].push({ kind: "read", set: node.set, to });
        return;
      case "sequence": {
        let here = from;
        for (const item of node.items) {
          const next = this.#place();
          this.#connect(item, here, next, insideBehind);
          here = next;
        }
        this.#free(here, to);
        return;
      }
      case "choice":
        for (const item of node.items) this.#connect(item, from, to, insideBehind);
        return;
      case "repeat": {
        let here = from;
        for (let i = 0; i < node.min; i++) {
          const next = this.#place();
          this.#connect(node.item, here, next, insideBehind);
          here = next;
        }
        if (node.max === Number.POSITIVE_INFINITY) {
          const loop = this.#place();
          this.#free(here, loop);
          this.#connect(node.item, loop, loop, insideBehind);
          this.#free(loop, to);
          return;
        }
        this.#free(here, to);
        for (let i = node.min; i < node.max; i++) {
          const next = this.#place();
          this.#connect(node.item, here, next, insideBehind);
          this.#free(next, to);
          here = next;
        }
        return;
      }
      case "look": {
        if (!node.behind && insideBehind)
          throw regexError(
            this.#source,
            node.position,
            "look-ahead inside look-behind can't be enforced",
            "move the look-ahead out of the look-behind",
          );
        const start = this.#place();
        const end = this.#place();
        this.#connect(node.item, start, end, insideBehind || node.behind);
        if (node.behind) this.#behind.push({ start, end });
        else this.#acceptAny.add(end);
        const test: Test = node.behind
          ? { kind: "behind", negate: node.negate, index: this.#behind.length - 1 }
          : { kind: "ahead", negate: node.negate, start };
        this.#arcs[from].push({ kind: "test", test, to });
        return;
      }
      case "edge":
        if (node.lines) {
          this.#sets.push(LINE_TERMINATORS);
          this.#leftSets.push(LINE_TERMINATORS);
        }
        this.#arcs[from].push({ kind: "test", test: node, to });
        return;
      case "word":
        this.#sets.push(node.set);
        this.#leftSets.push(node.set);
        this.#arcs[from].push({ kind: "test", test: node, to });
        return;
    }
  }

  /** The formula after reading `letter` (-1: the text ends here, the result is then true or false). */
  #advance(formula: Formula, left: Left, letter: number): Formula {
    const truths: boolean[] = [];
    for (const { end } of this.#behind) {
      const index = truths.length;
      truths.push(this.#closure(left.behind[index], left, letter, truths).has(end));
    }
    const memo = new Map<number, Formula>();
    const terms = formula.map((term) =>
      this.#and(term.map((literal) => this.#literal(literal, left, letter, truths, memo))),
    );
    return this.#or(terms);
  }

  #literal(
    literal: number,
    left: Left,
    letter: number,
    truths: readonly boolean[],
    memo: Map<number, Formula>,
  ): Formula {
    const known = memo.get(literal);
    if (known) return known;
    let result: Formula;
    if (literal >= 0) result = this.#from(literal, left, letter, truths, memo);
    else {
      const negated = this.#formulas[-1 - literal].map((term) =>
        this.#and(term.map((inner) => this.#literal(inner, left, letter, truths, memo))),
      );
      result = this.#not(this.#or(negated));
    }
    memo.set(literal, result);
    return result;
  }

  /** All ways on from `place` before and with the next letter: arcs that read nothing are followed with their tests. */
  #from(place: number, left: Left, letter: number, truths: readonly boolean[], memo: Map<number, Formula>): Formula {
    const ways: Formula[] = [];
    const seen = new Set<string>();
    const queue: { at: number; conditions: Formula }[] = [{ at: place, conditions: TRUE }];
    for (let next = queue.pop(); next; next = queue.pop()) {
      const { at, conditions } = next;
      this.#spend(1);
      const key = `${at}:${JSON.stringify(conditions)}`;
      if (seen.has(key)) continue;
      seen.add(key);
      if (this.#acceptAny.has(at) || (at === this.#acceptEnd && letter < 0)) {
        ways.push(conditions);
        continue;
      }
      for (const arc of this.#arcs[at]) {
        if (arc.kind === "read") {
          if (this.#has(arc.set, letter)) ways.push(this.#and([conditions, this.#placeFormula(arc.to)]));
        } else if (arc.kind === "free") queue.push({ at: arc.to, conditions });
        else {
          const holds =
            arc.test.kind === "ahead"
              ? this.#ahead(arc.test, left, letter, truths, memo)
              : this.#holds(arc.test, left, letter, truths)
                ? TRUE
                : FALSE;
          const both = this.#and([conditions, holds]);
          if (both.length > 0) queue.push({ at: arc.to, conditions: both });
        }
      }
    }
    return this.#or(ways);
  }

  /** A place that accepts anything is simply true. */
  #placeFormula(place: number): Formula {
    return this.#acceptAny.has(place) ? TRUE : [[place]];
  }

  #ahead(
    test: { negate: boolean; start: number },
    left: Left,
    letter: number,
    truths: readonly boolean[],
    memo: Map<number, Formula>,
  ): Formula {
    const formula = this.#literal(test.start, left, letter, truths, memo);
    return test.negate ? this.#not(formula) : formula;
  }

  #holds(test: Exclude<Test, { kind: "ahead" }>, left: Left, letter: number, truths: readonly boolean[]): boolean {
    if (test.kind === "behind") return truths[test.index] !== test.negate;
    if (test.kind === "word") return (this.#has(test.set, left.letter) !== this.#has(test.set, letter)) !== test.negate;
    const neighbour = test.at === "start" ? left.letter : letter;
    return neighbour < 0 || (test.lines && this.#has(LINE_TERMINATORS, neighbour));
  }

  /** Places of a look-behind body reachable without reading. Bodies hold no look-ahead. */
  #closure(places: readonly number[], left: Left, letter: number, truths: readonly boolean[]): Set<number> {
    const reached = new Set(places);
    this.#spend(places.length);
    for (const place of reached)
      for (const arc of this.#arcs[place]) {
        if (arc.kind === "read") continue;
        if (arc.kind === "test" && (arc.test.kind === "ahead" || !this.#holds(arc.test, left, letter, truths)))
          continue;
        reached.add(arc.to);
      }
    return reached;
  }

  #advanceLeft(left: Left, letter: number): Left {
    const truths: boolean[] = [];
    const behind = this.#behind.map(({ start, end }, index) => {
      const closure = this.#closure(left.behind[index], left, letter, truths);
      truths.push(closure.has(end));
      const next = new Set([start]);
      for (const place of closure)
        for (const arc of this.#arcs[place]) if (arc.kind === "read" && this.#has(arc.set, letter)) next.add(arc.to);
      return [...next].sort((a, b) => a - b);
    });
    return { behind, letter };
  }

  #and(formulas: readonly Formula[]): Formula {
    let terms: Term[] = [[]];
    for (const formula of formulas) {
      if (isTrue(formula)) continue;
      const next: Term[] = [];
      for (const a of terms) for (const b of formula) next.push(mergeTerms(a, b));
      if (next.length > MAX_TERMS * 4) this.#refuse("its assertions multiply");
      terms = next;
    }
    return this.#normal(terms);
  }

  #or(formulas: readonly Formula[]): Formula {
    return this.#normal(formulas.flat());
  }

  /** Not of a disjunction of conjunctions: negated literals stay literals, so the result is one term per choice of them. */
  #not(formula: Formula): Formula {
    if (formula.length === 0) return TRUE;
    if (isTrue(formula)) return FALSE;
    // One opaque literal for the whole formula keeps the form small: its meaning is advanced as a formula of its own.
    const key = JSON.stringify(formula);
    let id = this.#formulaIds.get(key);
    if (id === undefined) {
      id = this.#formulas.length;
      this.#formulaIds.set(key, id);
      this.#formulas.push(formula);
    }
    return [[-1 - id]];
  }

  /** Sorted, without duplicates and without terms that another one implies. */
  #normal(terms: readonly Term[]): Formula {
    this.#spend(terms.length);
    if (terms.some((term) => term.length === 0)) return TRUE;
    const unique = [...new Map(terms.map((term) => [term.join(","), term])).values()];
    unique.sort((a, b) => a.length - b.length || compareTerms(a, b));
    const kept: Term[] = [];
    // Terms of one length can't imply one another, so the comparison starts where lengths differ.
    let shorter = 0;
    for (const term of unique) {
      while (shorter < kept.length && kept[shorter].length < term.length) shorter++;
      if (!kept.slice(0, shorter).some((smaller) => isSubset(smaller, term))) kept.push(term);
    }
    if (kept.length > MAX_TERMS) this.#refuse("its alternatives and assertions multiply");
    return kept;
  }
}

function isTrue(formula: Formula): boolean {
  return formula.length === 1 && formula[0].length === 0;
}

function mergeTerms(a: Term, b: Term): Term {
  if (a.length === 0) return b;
  if (b.length === 0) return a;
  return [...new Set([...a, ...b])].sort((x, y) => x - y);
}

function compareTerms(a: Term, b: Term): number {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i] - b[i];
  return 0;
}

function isSubset(small: Term, large: Term): boolean {
  let j = 0;
  for (const literal of small) {
    while (j < large.length && large[j] < literal) j++;
    if (large[j] !== literal) return false;
  }
  return true;
}
