/**
 * Writes value sets as program nodes: the JSON texts of all values in a set.
 *
 * First all formulas that can come up are found and it is decided, by a least fixed point, which of them have any value
 * at all (recursion can make a schema unfulfillable). Then rules are declared; their bodies are built when the automaton
 * first needs them, and offer only what can be completed. The two walkers at the end (members of an object, items of an
 * array) answer one question, what may come next so that the rest can follow, and are used by the writer
 * alone; the file is long because they share its tables.
 */
import type { JsonLexemes } from "./json-lexemes.js";
import { compareBytes, NEVER } from "./lexeme.js";
import { type ObjectPlan, planObject } from "./object-plan.js";
import type { Program } from "./program.js";
import type { SchemaReader } from "./schema-reader.js";
import { type ArrayShape, FALSE, type Formula, itemAt, TRUE, type ValueSet } from "./schema-set.js";
import type { Layout } from "./whitespace.js";

interface FormulaPlan {
  readonly set: ValueSet;
  readonly scalars: number;
  readonly objects: readonly ObjectPlan[];
  readonly arrays: readonly ArrayShape[];
  /** Number of the plan; part of rule keys. */
  readonly id: number;
  productive: boolean;
}

export interface WriterOptions {
  readonly layout: Layout;
  /** Whether named properties come as declared, or in any order. */
  readonly propertyOrder: "declared" | "any";
}

/** Distinct items a `uniqueItems` array may choose from. */
const MAX_UNIQUE = 256;
/** `contains` rules on one array: each item is tried against every subset of them. */
const MAX_CONTAINS = 4;

const LONE_COLON = ":";
const NO_KEYS = (): number => NEVER;
const ENDLESS = Number.POSITIVE_INFINITY;
const NONE_SEEN: readonly number[] = [];

export class SchemaWriter {
  readonly #program: Program;
  /** Part of every rule key: a program may hold several schemas. */
  readonly #scope: number;
  readonly #reader: SchemaReader;
  readonly #json: JsonLexemes;
  readonly #layout: Layout;
  readonly #anyOrder: boolean;
  readonly #plans = new Map<Formula, FormulaPlan>();
  readonly #nodes = new Map<string, number>();
  readonly #keys = new Map<string, number>();
  readonly #colon: number;

  constructor(program: Program, reader: SchemaReader, options: WriterOptions) {
    this.#program = program;
    this.#scope = program.newScope();
    this.#reader = reader;
    this.#json = reader.json;
    this.#layout = options.layout;
    this.#anyOrder = options.propertyOrder === "any";
    const { lexemes } = program;
    this.#colon = lexemes.cat(this.#layout.beforeColon, this.#json.text(LONE_COLON), this.#layout.afterColon);
  }

  /** The node of all texts of the formula. @throws SglangError INVALID_REQUEST when there is none. */
  write(formula: Formula): number | undefined {
    this.#discover(formula);
    return this.#plan(formula).productive ? this.#value(formula, 0) : undefined;
  }

  #plan(formula: Formula): FormulaPlan {
    return this.#plans.get(formula) as FormulaPlan;
  }

  // ---- planning -----------------------------------------------------------------------------------------------

  #discover(root: Formula): void {
    const order: Formula[] = [];
    const work = [root];
    while (work.length > 0) {
      const formula = work.pop() as Formula;
      if (this.#plans.has(formula)) continue;
      const made = this.#makePlan(formula);
      this.#plans.set(formula, made);
      order.push(formula);
      for (const object of made.objects) {
        for (const name of object.names) if (name.value !== FALSE) work.push(name.value);
        for (const extra of object.extras) if (extra.value !== FALSE) work.push(extra.value);
      }
      for (const shape of made.arrays) for (const item of this.#itemFormulas(shape)) work.push(item);
    }
    for (let changed = true; changed; ) {
      changed = false;
      for (let i = order.length - 1; i >= 0; i--) {
        const made = this.#plan(order[i] as Formula);
        if (made.productive || !this.#findProductive(made)) continue;
        made.productive = true;
        changed = true;
      }
    }
  }

  #makePlan(formula: Formula): FormulaPlan {
    const reader = this.#reader;
    const set = reader.setOf(formula);
    const pointer = reader.pointerOf(formula);
    const words: number[] = [];
    if (set.hasNull) words.push(this.#json.text("null"));
    if (set.hasTrue) words.push(this.#json.text("true"));
    if (set.hasFalse) words.push(this.#json.text("false"));
    if (reader.hasNumbers(set.numbers)) words.push(this.#json.numberLexeme(set.numbers));
    if (reader.hasStrings(set.strings)) words.push(this.#json.quoted(this.#json.stringContent(set.strings)));
    for (const shape of set.arrays) {
      if (shape.contains.length > MAX_CONTAINS)
        reader.refuse(pointer, "contains", "too many contains rules meet in one array");
      if (shape.unique) this.#uniqueChoices(shape, pointer);
    }
    return {
      set,
      scalars: this.#program.lexemes.alt(words),
      objects: set.objects.flatMap((shape) => planObject(shape, reader, pointer)),
      arrays: set.arrays,
      id: this.#plans.size,
      productive: false,
    };
  }

  #isProductive(formula: Formula): boolean {
    return formula !== FALSE && this.#plan(formula).productive;
  }

  #findProductive(made: FormulaPlan): boolean {
    if (made.scalars !== 0) return true;
    const isProductive = (formula: Formula): boolean => this.#isProductive(formula);
    if (
      made.objects.some((plan) =>
        isUncounted(plan)
          ? plan.names.every((name) => !name.required || isProductive(name.value))
          : new ObjectWriter(plan, isProductive, this.#anyOrder).isPossible(),
      )
    )
      return true;
    return made.arrays.some((shape) => this.#arrayPossible(shape));
  }

  // ---- values -------------------------------------------------------------------------------------------------

  #value(formula: Formula, depth: number): number {
    const at = this.#layout.depthMatters ? depth : 0;
    const key = `${formula}@${at}`;
    const known = this.#nodes.get(key);
    if (known !== undefined) return known;
    const made = this.#plan(formula);
    const node =
      made.objects.length === 0 && made.arrays.length === 0
        ? this.#program.lexeme(made.scalars)
        : this.#program.rule(() => this.#body(made, at));
    this.#nodes.set(key, node);
    return node;
  }

  #body(made: FormulaPlan, depth: number): number {
    const items = [this.#program.lexeme(made.scalars)];
    made.arrays.forEach((shape, i) => {
      if (this.#arrayPossible(shape)) items.push(this.#array(shape, `${this.#scope}.${made.id}.${i}`, depth));
    });
    made.objects.forEach((plan, i) => {
      const writer = new ObjectWriter(plan, (f) => this.#isProductive(f), this.#anyOrder);
      if (writer.isPossible()) items.push(this.#object(writer, `${this.#scope}.${made.id}.${i}`, depth));
    });
    return this.#program.choice(items);
  }

  // ---- objects ------------------------------------------------------------------------------------------------

  #object(writer: ObjectWriter, id: string, depth: number): number {
    const start = writer.start();
    const inside = writer.hasMember(start) ? this.#member(writer, start, id, depth) : undefined;
    return this.#container("{", "}", depth, writer.mayClose(start), inside);
  }

  /** An opening bracket, then nothing or `inside` (which closes itself). White space that both begin with is read once. */
  #container(open: string, close: string, depth: number, mayBeEmpty: boolean, inside: number | undefined): number {
    const program = this.#program;
    const { lexemes } = program;
    const layout = this.#layout;
    const gap = layout.afterOpen(depth);
    const empty = this.#json.text(close);
    const begin = (blank: number): number => program.lexeme(lexemes.cat(this.#json.text(open), blank));
    if (mayBeEmpty && inside !== undefined && gap === layout.inEmpty)
      return program.sequence(begin(gap), program.choice([program.lexeme(empty), inside]));
    const items: number[] = [];
    if (mayBeEmpty) items.push(program.sequence(begin(layout.inEmpty), program.lexeme(empty)));
    if (inside !== undefined) items.push(program.sequence(begin(gap), inside));
    return program.choice(items);
  }

  /** After a member or item: the closing bracket, or a comma and `more`. White space before them is read once. */
  #closeOrMore(close: string, depth: number, mayClose: boolean, more: number | undefined): number {
    const program = this.#program;
    const { lexemes } = program;
    const layout = this.#layout;
    const gap = layout.beforeComma;
    const shared = gap === layout.beforeClose(depth);
    const items: number[] = [];
    if (mayClose) {
      const end = this.#json.text(close);
      items.push(program.lexeme(shared ? end : lexemes.cat(layout.beforeClose(depth), end)));
    }
    if (more !== undefined) {
      const comma = lexemes.cat(this.#json.text(","), layout.afterComma(depth));
      items.push(program.sequence(program.lexeme(shared ? comma : lexemes.cat(gap, comma)), more));
    }
    return shared ? program.sequence(program.lexeme(gap), program.choice(items)) : program.choice(items);
  }

  /** A key, its value, and what follows. What follows is written when the key has been read: there are many keys. */
  #member(writer: ObjectWriter, state: ObjectState, id: string, depth: number): number {
    const program = this.#program;
    const { lexemes } = program;
    const rest = (member: Member): number =>
      program.sequence(
        this.#value(member.value, depth + 1),
        this.#afterMember(writer, writer.after(state, member), id, depth),
      );
    const afterName = (member: Member): number =>
      program.sequence(
        program.lexeme(this.#colon),
        program.rule(() => rest(member)),
      );
    const body = (members: readonly Member[]): number => {
      const items: number[] = [];
      const named: Member[] = [];
      for (const member of members) {
        if (member.index >= 0) {
          named.push(member);
          continue;
        }
        const key = program.lexeme(lexemes.cat(this.#json.quoted(member.keys()), this.#colon));
        items.push(
          program.sequence(
            key,
            program.rule(() => rest(member)),
          ),
        );
      }
      const [only] = named;
      if (named.length === 1 && only !== undefined) {
        items.push(program.sequence(program.lexeme(this.#name(only)), afterName(only)));
      } else if (named.length > 1) {
        const sorted = writer.sorted(named);
        const list = lexemes.names(sorted.map((member) => this.#name(member)));
        items.push(program.names(list, (i) => afterName(sorted[i] as Member)));
      }
      return program.choice(items);
    };
    return program.keyedRule(
      `o${id}@${depth} ${writer.key(state)}`,
      () => body(writer.members(state)),
      () => body(writer.nextMembers(state)),
    );
  }

  /** A property's name, in quotes. */
  #name({ name }: Member): number {
    let known = this.#keys.get(name);
    if (known === undefined) {
      known = this.#json.text(JSON.stringify(name));
      this.#keys.set(name, known);
    }
    return known;
  }

  #afterMember(writer: ObjectWriter, state: ObjectState, id: string, depth: number): number {
    return this.#program.keyedRule(`a${id}@${depth} ${writer.key(state)}`, () => {
      const more = writer.hasMember(state) ? this.#member(writer, state, id, depth) : undefined;
      return this.#closeOrMore("}", depth, writer.mayClose(state), more);
    });
  }

  #comma(depth: number): number {
    const { lexemes } = this.#program;
    return this.#program.lexeme(
      lexemes.cat(this.#layout.beforeComma, this.#json.text(","), this.#layout.afterComma(depth)),
    );
  }

  // ---- arrays -------------------------------------------------------------------------------------------------

  #array(shape: ArrayShape, id: string, depth: number): number {
    const program = this.#program;
    if (shape.unique) return this.#uniqueArray(shape, id, depth);
    if (shape.prefix.length === 0 && shape.contains.length === 0 && (shape.min > 1 || shape.max < ENDLESS)) {
      let inside: number | undefined;
      if (shape.max > 0 && this.#isProductive(shape.rest)) {
        const item = this.#value(shape.rest, depth + 1);
        const more = program.repeat(
          program.sequence(this.#comma(depth), item),
          Math.max(0, shape.min - 1),
          shape.max - 1,
        );
        const close = program.lexeme(program.lexemes.cat(this.#layout.beforeClose(depth), this.#json.text("]")));
        inside = program.sequence(item, more, close);
      }
      return this.#container("[", "]", depth, shape.min === 0, inside);
    }
    const walk = new ArrayWalk(shape, this.#reader, (f) => this.#isProductive(f));
    const item = (state: readonly number[]): number =>
      program.keyedRule(`i${id}@${depth} ${state}`, () =>
        program.choice(
          walk.steps(state).map(({ value, to }) => program.sequence(this.#value(value, depth + 1), after(to))),
        ),
      );
    const after = (state: readonly number[]): number =>
      program.keyedRule(`j${id}@${depth} ${state}`, () =>
        this.#closeOrMore("]", depth, walk.mayClose(state), walk.steps(state).length > 0 ? item(state) : undefined),
      );
    const inside = walk.steps(walk.start).length > 0 ? item(walk.start) : undefined;
    return this.#container("[", "]", depth, walk.mayClose(walk.start), inside);
  }

  #uniqueArray(shape: ArrayShape, id: string, depth: number): number {
    const program = this.#program;
    const choices = this.#uniqueChoices(shape, "");
    const most = Math.min(shape.max, choices.length);
    const item = (seen: readonly number[]): number =>
      program.keyedRule(`u${id}@${depth} ${seen}`, () => {
        const items: number[] = [];
        choices.forEach((text, i) => {
          if (seen.includes(i)) return;
          const now = [...seen, i].sort((a, b) => a - b);
          items.push(program.sequence(program.lexeme(this.#json.text(text)), after(now)));
        });
        return program.choice(items);
      });
    const after = (seen: readonly number[]): number =>
      program.keyedRule(`v${id}@${depth} ${seen}`, () =>
        this.#closeOrMore("]", depth, seen.length >= shape.min, seen.length < most ? item(seen) : undefined),
      );
    return this.#container("[", "]", depth, shape.min === 0, most > 0 ? item([]) : undefined);
  }

  /** The texts a `uniqueItems` array may hold; refused when they are not few and simple. */
  #uniqueChoices(shape: ArrayShape, pointer: string): string[] {
    const reader = this.#reader;
    const refuse = (): never =>
      reader.refuse(
        pointer,
        "uniqueItems",
        `only items out of at most ${MAX_UNIQUE} known scalars can be kept distinct`,
      );
    if (shape.prefix.length > 0 || shape.contains.length > 0) refuse();
    const set = reader.setOf(shape.rest);
    const numbers = this.#json.finiteNumbers(set.numbers) ?? refuse();
    const strings = this.#json.finiteStrings(set.strings) ?? refuse();
    if (set.arrays.length > 0 || set.objects.length > 0 || numbers.length + strings.length > MAX_UNIQUE) refuse();
    const out = [...strings.map((value) => JSON.stringify(value)), ...numbers.map((value) => String(value))];
    if (set.hasNull) out.push("null");
    if (set.hasTrue) out.push("true");
    if (set.hasFalse) out.push("false");
    return out;
  }

  #itemFormulas(shape: ArrayShape): Formula[] {
    if (shape.contains.length > 0) return new ArrayWalk(shape, this.#reader, () => true).formulas();
    return [...shape.prefix, shape.rest].filter((item) => item !== FALSE);
  }

  #arrayPossible(shape: ArrayShape): boolean {
    if (shape.unique) return this.#uniqueChoices(shape, "").length >= shape.min;
    const walk = new ArrayWalk(shape, this.#reader, (f) => this.#isProductive(f));
    return walk.canFinish(walk.start);
  }
}

/** Where an object is: next name (or the set of names seen, 32 bits a number), members so far as far as it matters, demands met. */
interface ObjectState {
  readonly at: number;
  readonly seen: readonly number[];
  readonly count: number;
  readonly met: number;
  /** Names that may still come, and how many of them must: both follow from the above. */
  readonly open: number;
  readonly required: number;
}

interface Member {
  /** "" for other keys. */
  readonly name: string;
  /** Index of the name; -1 for other keys. */
  readonly index: number;
  readonly keys: () => number;
  readonly value: Formula;
  readonly required: boolean;
  /** Demands that this one fulfils. */
  readonly proves: number;
}

/** Whether nothing but its required names has to come. */
function isUncounted({ min, max, demands }: ObjectPlan): boolean {
  return min === 0 && max === ENDLESS && demands === 0;
}

/** Which members may come when, so that the object can always be completed. */
class ObjectWriter {
  readonly #plan: ObjectPlan;
  readonly #names: readonly { name: string; value: Formula; required: boolean }[];
  readonly #extras: ObjectPlan["extras"];
  readonly #impossible: boolean;
  readonly #anyOrder: boolean;
  readonly #counting: boolean;
  #ranks: Int32Array | undefined;
  /** Required names from index i on. */
  readonly #requiredFrom: number[];
  /** By demands met: how many more members it takes at least to meet the rest; Infinity when it cannot be done. */
  readonly #proofs: number[];

  constructor(plan: ObjectPlan, isProductive: (formula: Formula) => boolean, anyOrder: boolean) {
    this.#plan = plan;
    this.#anyOrder = anyOrder;
    this.#impossible = plan.names.some((name) => name.required && !isProductive(name.value));
    this.#names = plan.names.filter((name) => isProductive(name.value));
    this.#extras = plan.extras.filter((extra) => isProductive(extra.value));
    this.#counting = plan.min > 0 || plan.max !== Number.POSITIVE_INFINITY;
    this.#requiredFrom = new Array<number>(this.#names.length + 1).fill(0);
    for (let i = this.#names.length - 1; i >= 0; i--) {
      this.#requiredFrom[i] = (this.#requiredFrom[i + 1] as number) + (this.#names[i]?.required ? 1 : 0);
    }
    this.#proofs = new Array<number>(plan.demands + 1).fill(Number.POSITIVE_INFINITY);
    this.#proofs[plan.demands] = 0;
    for (let met = plan.demands - 1; met >= 0; met--) {
      for (const extra of this.#extras) {
        const after = this.#proofs[met | extra.proves] as number;
        if ((met | extra.proves) !== met) this.#proofs[met] = Math.min(this.#proofs[met] as number, after + 1);
      }
    }
  }

  /** Members with names, ascending by the bytes the names are spelled with. */
  sorted(members: readonly Member[]): Member[] {
    if (this.#ranks === undefined) {
      const spelled = this.#names.map(({ name }) => new TextEncoder().encode(JSON.stringify(name)));
      const order = spelled.map((_, i) => i);
      order.sort((a, b) => compareBytes(spelled[a] as Uint8Array, spelled[b] as Uint8Array));
      const ranks = new Int32Array(order.length);
      order.forEach((name, place) => {
        ranks[name] = place;
      });
      this.#ranks = ranks;
    }
    const places = new Array<Member | undefined>(this.#names.length).fill(undefined);
    for (const member of members) places[this.#ranks[member.index] as number] = member;
    return places.filter((member) => member !== undefined);
  }

  start(): ObjectState {
    const seen = this.#anyOrder ? new Array<number>((this.#names.length + 31) >> 5).fill(0) : NONE_SEEN;
    return { at: 0, seen, count: 0, met: 0, open: this.#names.length, required: this.#requiredFrom[0] as number };
  }

  key(state: ObjectState): string {
    return `${state.at},${state.seen.join(".")},${state.count},${state.met}`;
  }

  isPossible(): boolean {
    if (this.#impossible) return false;
    const { count, required, met, open } = this.start();
    return this.#canFinish(count, required, met, open);
  }

  mayClose(state: ObjectState): boolean {
    return state.required === 0 && state.count >= this.#plan.min && state.met === this.#plan.demands;
  }

  hasMember(state: ObjectState): boolean {
    return this.#find(state, true).length > 0;
  }

  members(state: ObjectState): Member[] {
    return this.#find(state, false);
  }

  /** Where the object is after a member. */
  after(state: ObjectState, { index, required, proves }: Member): ObjectState {
    const count = this.#counted(state.count + 1);
    const met = state.met | proves;
    if (index < 0) {
      return this.#anyOrder ? { ...state, count, met } : { ...state, count, met, at: this.#names.length, open: 0 };
    }
    if (this.#anyOrder) {
      const seen = state.seen.slice();
      seen[index >> 5] = (seen[index >> 5] as number) | (1 << (index & 31));
      return { at: 0, seen, count, met, open: state.open - 1, required: state.required - (required ? 1 : 0) };
    }
    return {
      at: index + 1,
      seen: NONE_SEEN,
      count,
      met,
      open: this.#names.length - index - 1,
      required: this.#requiredFrom[index + 1] as number,
    };
  }

  /** The members that may come, or (`any`) one of them if there are any. */
  #find(state: ObjectState, any: boolean): Member[] {
    const out: Member[] = [];
    const count = this.#counted(state.count + 1);
    const names = state.met === 0 ? this.#names : [];
    for (let i = this.#anyOrder ? 0 : state.at; i < names.length; i++) {
      if (this.#anyOrder && ((state.seen[i >> 5] as number) & (1 << (i & 31))) !== 0) continue;
      const { name, value, required } = names[i] as { name: string; value: Formula; required: boolean };
      const left = this.#anyOrder
        ? { required: state.required - (required ? 1 : 0), open: state.open - 1 }
        : { required: this.#requiredFrom[i + 1] as number, open: names.length - i - 1 };
      if (this.#canFinish(count, left.required, state.met, left.open))
        out.push({ name, index: i, keys: NO_KEYS, value, required, proves: 0 });
      if ((any && out.length > 0) || (required && !this.#anyOrder)) return out;
    }
    for (const { keys, value, proves } of this.#extras) {
      // Members that fulfil a demand come last: a later member of the same key would take their place.
      if (proves === 0 && state.met !== 0) continue;
      if (proves !== 0 && (state.met | proves) === state.met) continue;
      if (proves !== 0 && state.required > 0) continue;
      if (this.#canFinish(count, state.required, state.met | proves, this.#anyOrder ? state.open : 0))
        out.push({ name: "", index: -1, keys, value, required: false, proves });
    }
    return out;
  }

  /** Some of the members, those of a shortest text among them: in any order, the order of declaration is one. */
  nextMembers(state: ObjectState): Member[] {
    const all = this.members(state);
    if (!this.#anyOrder) return all;
    const required = all.find((member) => member.required);
    return required === undefined ? all.filter((member, i) => i === 0 || member.index < 0) : [required];
  }

  #counted(count: number): number {
    if (!this.#counting) return 0;
    return this.#plan.max === Number.POSITIVE_INFINITY ? Math.min(count, this.#plan.min) : count;
  }

  #canFinish(count: number, required: number, met: number, open: number): boolean {
    const { min, max } = this.#plan;
    const proofs = this.#proofs[met] as number;
    if (count + required + proofs > max) return false;
    if (proofs === Number.POSITIVE_INFINITY) return false;
    if (count >= min) return true;
    const names = met === 0 ? open : 0;
    const others = this.#extras.some((extra) => extra.proves === 0) && met === 0;
    return others || count + names + proofs >= min;
  }
}

/** Walks arrays with positions and `contains` rules: a state is [index, count per rule], each as far as it matters. */
class ArrayWalk {
  readonly start: readonly number[];
  readonly #shape: ArrayShape;
  readonly #reader: SchemaReader;
  readonly #isProductive: (formula: Formula) => boolean;
  readonly #finish = new Map<string, boolean>();
  readonly #lastIndex: number;

  constructor(shape: ArrayShape, reader: SchemaReader, isProductive: (formula: Formula) => boolean) {
    this.#shape = shape;
    this.#reader = reader;
    this.#isProductive = isProductive;
    this.start = [0, ...shape.contains.map(() => 0)];
    const differs = Math.max(shape.prefix.length, shape.min, ...shape.contains.map((rule) => rule.from));
    this.#lastIndex = shape.max === Number.POSITIVE_INFINITY ? differs : shape.max;
  }

  mayClose(state: readonly number[]): boolean {
    if ((state[0] as number) < this.#shape.min) return false;
    return this.#shape.contains.every((rule, i) => (state[i + 1] as number) >= rule.min);
  }

  /** Items that may come next, such that the array can be completed after them. */
  steps(state: readonly number[]): { value: Formula; to: readonly number[] }[] {
    return this.#moves(state).filter(({ value, to }) => this.#isProductive(value) && this.canFinish(to));
  }

  /** Depth first, on a stack of its own: an array may have to have very many items. */
  canFinish(start: readonly number[]): boolean {
    const path: { key: string; moves: readonly { value: Formula; to: readonly number[] }[]; next: number }[] = [];
    /** What is known of a state; undefined: it was put on the path. */
    const look = (state: readonly number[]): boolean | undefined => {
      if (this.mayClose(state)) return true;
      const key = String(state);
      const known = this.#finish.get(key);
      if (known !== undefined) return known;
      // Counts only grow, so the only way back to a state is an item that changes nothing: that cannot help.
      this.#finish.set(key, false);
      path.push({ key, moves: this.#moves(state), next: 0 });
      return undefined;
    };
    let result = look(start);
    for (let at = path.at(-1); at !== undefined; at = path.at(-1)) {
      if (result === true) {
        for (const { key } of path.splice(0)) this.#finish.set(key, true);
        break;
      }
      const move = at.moves[at.next++];
      if (move === undefined) {
        path.pop();
        result = false;
      } else if (this.#isProductive(move.value)) result = look(move.to);
    }
    return result === true;
  }

  /** Every formula an item may have to fulfil. */
  formulas(): Formula[] {
    const out = new Set<Formula>();
    const most = this.#shape.prefix.length + Math.max(0, ...this.#shape.contains.map((rule) => rule.from)) + 1;
    for (let index = 0; index <= most; index++) for (const { value } of this.#choices(index)) out.add(value);
    out.delete(FALSE);
    return [...out];
  }

  #moves(state: readonly number[]): { value: Formula; to: readonly number[] }[] {
    const index = state[0] as number;
    if (index >= this.#shape.max) return [];
    const out: { value: Formula; to: readonly number[] }[] = [];
    for (const { value, hits } of this.#choices(index)) {
      const to = [Math.min(index + 1, this.#lastIndex)];
      let allowed = value !== FALSE;
      this.#shape.contains.forEach((rule, i) => {
        const count = (state[i + 1] as number) + (hits.includes(i) ? 1 : 0);
        if (count > rule.max) allowed = false;
        to.push(rule.max === Number.POSITIVE_INFINITY ? Math.min(count, rule.min) : count);
      });
      if (allowed) out.push({ value, to });
    }
    return out;
  }

  #choices(index: number): { value: Formula; hits: readonly number[] }[] {
    const { formulas } = this.#reader;
    let out: { value: Formula; hits: readonly number[] }[] = [{ value: itemAt(this.#shape, index), hits: [] }];
    this.#shape.contains.forEach((rule, i) => {
      if (index < rule.from) return;
      out = out.flatMap(({ value, hits }) => [
        { value: formulas.and([value, rule.value]), hits: [...hits, i] },
        {
          value: rule.max === Number.POSITIVE_INFINITY ? value : formulas.and([value, formulas.not(rule.value)]),
          hits,
        },
      ]);
    });
    return out.filter(({ value }) => value !== FALSE && (value === TRUE || !this.#reader.isSurelyEmpty(value)));
  }
}
