/**
 * Sets of JSON values, and their algebra: what schemas are normalised to.
 *
 * A {@link ValueSet} says for every JSON type which values are in. Strings and numbers are terms over regular languages.
 * Arrays and objects are unions of *shapes*; a shape is a conjunction of simple demands whose parts (the schema of a
 * property, of an item) are {@link Formula}s, numbers that stand for a Boolean combination of schemas and are looked at
 * only when needed. Intersection, union and complement are exact; what would become too large is refused.
 */
import type { StringTerm } from "./json-lexemes.js";
import type { NumberTerm } from "./number-term.js";

/** A Boolean combination of schemas; see {@link Formulas}. */
export type Formula = number;

export const TRUE: Formula = 0;
export const FALSE: Formula = 1;

/**
 * A set of property names: a lexeme (string content, JSON spelling), or everything but some names and patterns. The
 * second form is `additionalProperties`; kept apart because most questions about it are answered without automata.
 */
export type KeySet =
  | { readonly kind: "lexeme"; readonly lexeme: number }
  | { readonly kind: "outside"; readonly names: ReadonlySet<string>; readonly patterns: readonly number[] };

/** Every key in `keys` must have a value in `value`. */
export interface KeyRule {
  readonly keys: KeySet;
  readonly value: Formula;
}

export interface ObjectShape {
  /** Named properties, in order of declaration, and what their values must fulfil beside the rules. */
  readonly names: ReadonlyMap<string, Formula>;
  readonly rules: readonly KeyRule[];
  readonly required: ReadonlySet<string>;
  readonly min: number;
  readonly max: number;
  /** For each: some key in `keys` must have a value in `value`. */
  readonly exists: readonly KeyRule[];
}

/** Between `min` and `max` of the items from index `from` on are in `value`. */
export interface ContainsRule {
  readonly value: Formula;
  readonly from: number;
  readonly min: number;
  readonly max: number;
}

export interface ArrayShape {
  readonly prefix: readonly Formula[];
  readonly rest: Formula;
  readonly min: number;
  readonly max: number;
  readonly contains: readonly ContainsRule[];
  readonly unique: boolean;
}

export interface ValueSet {
  readonly hasNull: boolean;
  readonly hasTrue: boolean;
  readonly hasFalse: boolean;
  readonly numbers: NumberTerm;
  readonly strings: StringTerm;
  readonly arrays: readonly ArrayShape[];
  readonly objects: readonly ObjectShape[];
}

const NO_RULES: readonly KeyRule[] = [];
export const ANY_OBJECT: ObjectShape = {
  names: new Map(),
  rules: NO_RULES,
  required: new Set(),
  min: 0,
  max: Number.POSITIVE_INFINITY,
  exists: NO_RULES,
};
export const ANY_ARRAY: ArrayShape = {
  prefix: [],
  rest: TRUE,
  min: 0,
  max: Number.POSITIVE_INFINITY,
  contains: [],
  unique: false,
};
export const ALL_VALUES: ValueSet = {
  hasNull: true,
  hasTrue: true,
  hasFalse: true,
  numbers: { kind: "any" },
  strings: { kind: "any" },
  arrays: [ANY_ARRAY],
  objects: [ANY_OBJECT],
};
export const NO_VALUES: ValueSet = {
  hasNull: false,
  hasTrue: false,
  hasFalse: false,
  numbers: { kind: "none" },
  strings: { kind: "none" },
  arrays: [],
  objects: [],
};

/** Boolean combinations of schemas, hash-consed. Atoms are schemas; their number is chosen by the caller. */
export class Formulas {
  readonly #ids = new Map<string, Formula>();
  readonly #nodes: FormulaNode[] = [{ kind: "true" }, { kind: "false" }];
  /** Conjunctions of two, by both: shapes are multiplied far more often than they differ. */
  readonly #pairs = new Map<number, Formula>();

  get size(): number {
    return this.#nodes.length;
  }

  get(formula: Formula): FormulaNode {
    return this.#nodes[formula] as FormulaNode;
  }

  atom(index: number): Formula {
    return this.#make(`a${index}`, { kind: "atom", index });
  }

  and(items: readonly Formula[]): Formula {
    const flat = new Set<Formula>();
    for (const item of items) {
      const node = this.get(item);
      if (node.kind === "and") for (const part of node.items) flat.add(part);
      else if (item !== TRUE) flat.add(item);
    }
    if (flat.has(FALSE)) return FALSE;
    if (flat.size <= 1) return flat.size === 0 ? TRUE : (flat.values().next().value as Formula);
    for (const item of flat) if (flat.has(this.not(item))) return FALSE;
    const sorted = [...flat].sort((a, b) => a - b);
    return this.#make(`&${sorted.join()}`, { kind: "and", items: sorted });
  }

  /** The conjunction of two. */
  both(a: Formula, b: Formula): Formula {
    if (a === b || b === TRUE) return a;
    if (a === TRUE) return b;
    const key = Math.min(a, b) * PAIR + Math.max(a, b);
    let known = this.#pairs.get(key);
    if (known === undefined) {
      known = this.and([a, b]);
      this.#pairs.set(key, known);
    }
    return known;
  }

  not(item: Formula): Formula {
    if (item === TRUE) return FALSE;
    if (item === FALSE) return TRUE;
    const node = this.get(item);
    return node.kind === "not" ? node.item : this.#make(`!${item}`, { kind: "not", item });
  }

  #make(key: string, node: FormulaNode): Formula {
    let id = this.#ids.get(key);
    if (id === undefined) {
      id = this.#nodes.push(node) - 1;
      this.#ids.set(key, id);
    }
    return id;
  }
}

/** Above every formula. */
const PAIR = 2 ** 26;

export type FormulaNode =
  | { readonly kind: "true" | "false" }
  | { readonly kind: "atom"; readonly index: number }
  | { readonly kind: "and"; readonly items: readonly Formula[] }
  | { readonly kind: "not"; readonly item: Formula };

/** What the algebra must be able to ask about the parts of shapes. */
export interface PartOracle {
  readonly formulas: Formulas;
  /** Whether the set of keys holds this name. */
  hasKey(keys: KeySet, name: string): boolean;
  /** True only if no value fulfils the formula. May miss emptiness that hides behind recursion. */
  isSurelyEmpty(formula: Formula): boolean;
  /** @throws when a set of shapes grows past what is reasonable. */
  checkSize(shapes: number): void;
  /** @throws: the complement of `uniqueItems` is not enforced. */
  refuseNotUnique(): never;
  hasNumbers(term: NumberTerm): boolean;
  hasStrings(term: StringTerm): boolean;
}

export function intersectSets(a: ValueSet, b: ValueSet, oracle: PartOracle): ValueSet {
  if (a === ALL_VALUES) return b;
  if (b === ALL_VALUES) return a;
  return {
    hasNull: a.hasNull && b.hasNull,
    hasTrue: a.hasTrue && b.hasTrue,
    hasFalse: a.hasFalse && b.hasFalse,
    numbers: intersectTerms(a.numbers, b.numbers),
    strings: intersectTerms(a.strings, b.strings),
    arrays: products(a.arrays, b.arrays, oracle, intersectArrays),
    objects: products(a.objects, b.objects, oracle, intersectObjects),
  };
}

export function uniteSets(sets: readonly ValueSet[], oracle: PartOracle): ValueSet {
  const arrays = new Set(sets.flatMap((set) => set.arrays));
  const objects = new Set(sets.flatMap((set) => set.objects));
  oracle.checkSize(Math.max(arrays.size, objects.size));
  return {
    hasNull: sets.some((set) => set.hasNull),
    hasTrue: sets.some((set) => set.hasTrue),
    hasFalse: sets.some((set) => set.hasFalse),
    numbers: uniteTerms(sets.map((set) => set.numbers)),
    strings: uniteTerms(sets.map((set) => set.strings)),
    arrays: arrays.has(ANY_ARRAY) ? [ANY_ARRAY] : [...arrays],
    objects: objects.has(ANY_OBJECT) ? [ANY_OBJECT] : [...objects],
  };
}

export function complementSet(set: ValueSet, oracle: PartOracle): ValueSet {
  return {
    hasNull: !set.hasNull,
    hasTrue: !set.hasTrue,
    hasFalse: !set.hasFalse,
    numbers: complementTerm(set.numbers),
    strings: complementTerm(set.strings),
    arrays: set.arrays
      .map((shape) => complementArray(shape, oracle))
      .reduce<readonly ArrayShape[]>((a, b) => products(a, b, oracle, intersectArrays), [ANY_ARRAY]),
    objects: set.objects
      .map((shape) => complementObject(shape, oracle))
      .reduce<readonly ObjectShape[]>((a, b) => products(a, b, oracle, intersectObjects), [ANY_OBJECT]),
  };
}

/** The formula a value at `name` must fulfil in that shape. */
export function valueAt(shape: ObjectShape, name: string, oracle: PartOracle): Formula {
  let value = shape.names.get(name) ?? TRUE;
  for (const rule of shape.rules) {
    if (rule.value !== TRUE && oracle.hasKey(rule.keys, name)) value = oracle.formulas.both(value, rule.value);
  }
  return value;
}

/** The formula of item `index`, contains rules aside. */
export function itemAt(shape: ArrayShape, index: number): Formula {
  return index < shape.prefix.length ? (shape.prefix[index] as Formula) : shape.rest;
}

type Term = NumberTerm | StringTerm;

function intersectTerms<T extends Term>(a: T, b: T): T {
  if (a.kind === "any" || b.kind === "none" || a === b) return b;
  if (b.kind === "any" || a.kind === "none") return a;
  // Lists are intersected, and lose what is excluded, at once: most schemas tell cases apart by a few constants.
  const parts = new Set<T>();
  let values: readonly unknown[] | undefined;
  let excluded: T | undefined;
  for (const part of [a, b].flatMap((term) => (term.kind === "and" ? (term.items as readonly T[]) : [term]))) {
    if (part.kind === "values") values = values === undefined ? part.values : withIn(values, part.values, true);
    else if (part.kind === "not" && part.item.kind === "values") excluded = unlike(excluded, part);
    else parts.add(part);
  }
  if (values !== undefined) {
    const left = excluded === undefined ? values : withIn(values, listOf(excluded), false);
    if (left.length === 0) return { kind: "none" } as T;
    parts.add({ kind: "values", values: left } as unknown as T);
  } else if (excluded !== undefined) parts.add(excluded);
  return parts.size === 1 ? ([...parts][0] as T) : ({ kind: "and", items: [...parts] } as unknown as T);
}

/** Those of `values` that are, or are not, in `list`. */
function withIn(values: readonly unknown[], list: readonly unknown[], wanted: boolean): readonly unknown[] {
  const known = new Set(list);
  return values.filter((value) => known.has(value) === wanted);
}

/** What an exclusion of values excludes. */
function listOf(term: Term): readonly unknown[] {
  return term.kind === "not" && term.item.kind === "values" ? term.item.values : [];
}

/** Excludes what either excludes. */
function unlike<T extends Term>(a: T | undefined, b: T): T {
  if (a === undefined || a === b) return b;
  const more = withIn(listOf(b), listOf(a), false);
  if (more.length === 0) return a;
  return { kind: "not", item: { kind: "values", values: [...listOf(a), ...more] } } as unknown as T;
}

function uniteTerms<T extends Term>(terms: readonly T[]): T {
  const parts = [...new Set(terms)].filter((term) => term.kind !== "none");
  const any = parts.find((term) => term.kind === "any");
  if (any !== undefined) return any;
  if (parts.length === 0) return { kind: "none" } as T;
  return parts.length === 1 ? (parts[0] as T) : ({ kind: "or", items: parts } as unknown as T);
}

function complementTerm<T extends Term>(term: T): T {
  if (term.kind === "any") return { kind: "none" } as T;
  if (term.kind === "none") return { kind: "any" } as T;
  return term.kind === "not" ? (term.item as T) : ({ kind: "not", item: term } as unknown as T);
}

/** Whether some value may be in both sets. False is certain; true may miss emptiness that hides behind recursion. */
export function mayOverlap(a: ValueSet, b: ValueSet, oracle: PartOracle): boolean {
  if ((a.hasNull && b.hasNull) || (a.hasTrue && b.hasTrue) || (a.hasFalse && b.hasFalse)) return true;
  const some = <Shape>(
    left: readonly Shape[],
    right: readonly Shape[],
    meet: (a: Shape, b: Shape, oracle: PartOracle) => boolean,
  ): boolean => left.some((one) => right.some((other) => meet(one, other, oracle)));
  if (some(a.arrays, b.arrays, (one, other) => intersectArrays(one, other, oracle) !== undefined)) return true;
  if (some(a.objects, b.objects, (one, other) => one === other || objectsMeet(one, other, oracle))) return true;
  return (
    oracle.hasNumbers(intersectTerms(a.numbers, b.numbers)) || oracle.hasStrings(intersectTerms(a.strings, b.strings))
  );
}

function products<Shape>(
  a: readonly Shape[],
  b: readonly Shape[],
  oracle: PartOracle,
  intersect: (a: Shape, b: Shape, oracle: PartOracle) => Shape | undefined,
): readonly Shape[] {
  const out: Shape[] = [];
  for (const left of a) {
    for (const right of b) {
      const both = intersect(left, right, oracle);
      if (both !== undefined) out.push(both);
      oracle.checkSize(out.length);
    }
  }
  return out;
}

function intersectObjects(a: ObjectShape, b: ObjectShape, oracle: PartOracle): ObjectShape | undefined {
  if (a === ANY_OBJECT || a === b) return b;
  if (b === ANY_OBJECT) return a;
  if (!objectsMeet(a, b, oracle)) return undefined;
  const names = new Map(a.names);
  for (const [name, formula] of b.names) {
    const own = names.get(name);
    names.set(name, own === undefined ? formula : oracle.formulas.both(own, formula));
  }
  return {
    names,
    rules: mergeRules(a.rules, b.rules),
    required: joined(a.required, b.required),
    min: Math.max(a.min, b.min),
    max: Math.min(a.max, b.max),
    exists: mergeRules(a.exists, b.exists),
  };
}

function joined(a: ReadonlySet<string>, b: ReadonlySet<string>): ReadonlySet<string> {
  if (b.size === 0) return a;
  return a.size === 0 ? b : new Set([...a, ...b]);
}

/** Whether two shapes have objects in common, as far as can be seen without putting them together. */
function objectsMeet(a: ObjectShape, b: ObjectShape, oracle: PartOracle): boolean {
  const least = Math.max(a.min, b.min);
  const most = Math.min(a.max, b.max);
  if (least > most) return false;
  let count = a.required.size;
  const fits = (name: string): boolean =>
    !oracle.isSurelyEmpty(oracle.formulas.both(valueAt(a, name, oracle), valueAt(b, name, oracle)));
  for (const name of a.required) if (!fits(name)) return false;
  for (const name of b.required) {
    if (a.required.has(name)) continue;
    count++;
    if (!fits(name)) return false;
  }
  return count <= most;
}

function mergeRules(a: readonly KeyRule[], b: readonly KeyRule[]): readonly KeyRule[] {
  if (b.length === 0) return a;
  const fresh = b.filter((rule) => !a.some((other) => other.keys === rule.keys && other.value === rule.value));
  return fresh.length === 0 ? a : [...a, ...fresh];
}

/** True when some demand can be seen to be unfulfillable. */
export function isImpossibleObject(shape: ObjectShape, oracle: PartOracle): boolean {
  if (shape.required.size > shape.max || shape.min > shape.max) return true;
  for (const name of shape.required) if (oracle.isSurelyEmpty(valueAt(shape, name, oracle))) return true;
  return false;
}

function intersectArrays(a: ArrayShape, b: ArrayShape, oracle: PartOracle): ArrayShape | undefined {
  if (a === ANY_ARRAY || a === b) return b;
  if (b === ANY_ARRAY) return a;
  const prefix: Formula[] = [];
  for (let i = 0; i < Math.max(a.prefix.length, b.prefix.length); i++) {
    prefix.push(oracle.formulas.and([itemAt(a, i), itemAt(b, i)]));
  }
  const shape: ArrayShape = {
    prefix,
    rest: oracle.formulas.and([a.rest, b.rest]),
    min: Math.max(a.min, b.min),
    max: Math.min(a.max, b.max),
    contains: [...a.contains, ...b.contains],
    unique: a.unique || b.unique,
  };
  if (shape.min > shape.max) return undefined;
  for (let i = 0; i < Math.min(shape.min, prefix.length + 1); i++) {
    if (oracle.isSurelyEmpty(itemAt(shape, i))) return undefined;
  }
  return shape;
}

function complementObject(shape: ObjectShape, oracle: PartOracle): ObjectShape[] {
  const { formulas } = oracle;
  const out: ObjectShape[] = [];
  for (const name of shape.required) {
    // Absent or wrong is one demand on the name, which need not be there.
    const wrong = formulas.not(shape.names.get(name) ?? TRUE);
    out.push({ ...ANY_OBJECT, names: new Map([[name, wrong]]) });
  }
  if (shape.min > 0) out.push({ ...ANY_OBJECT, max: shape.min - 1 });
  if (shape.max !== Number.POSITIVE_INFINITY) out.push({ ...ANY_OBJECT, min: shape.max + 1 });
  for (const [name, formula] of shape.names) {
    if (shape.required.has(name)) continue;
    const wrong = formulas.not(formula);
    if (wrong === FALSE || oracle.isSurelyEmpty(wrong)) continue;
    out.push({ ...ANY_OBJECT, names: new Map([[name, wrong]]), required: new Set([name]) });
  }
  for (const rule of shape.rules) {
    const wrong = formulas.not(rule.value);
    if (wrong === FALSE || oracle.isSurelyEmpty(wrong)) continue;
    out.push({ ...ANY_OBJECT, exists: [{ keys: rule.keys, value: wrong }] });
  }
  for (const rule of shape.exists) {
    out.push({ ...ANY_OBJECT, rules: [{ keys: rule.keys, value: formulas.not(rule.value) }] });
  }
  return out;
}

function complementArray(shape: ArrayShape, oracle: PartOracle): ArrayShape[] {
  const { formulas } = oracle;
  if (shape.unique) oracle.refuseNotUnique();
  const out: ArrayShape[] = [];
  if (shape.min > 0) out.push({ ...ANY_ARRAY, max: shape.min - 1 });
  if (shape.max !== Number.POSITIVE_INFINITY) out.push({ ...ANY_ARRAY, min: shape.max + 1 });
  shape.prefix.forEach((formula, i) => {
    const wrong = formulas.not(formula);
    if (wrong === FALSE || oracle.isSurelyEmpty(wrong)) return;
    out.push({ ...ANY_ARRAY, prefix: [...new Array<Formula>(i).fill(TRUE), wrong], min: i + 1 });
  });
  const wrong = formulas.not(shape.rest);
  if (wrong !== FALSE && !oracle.isSurelyEmpty(wrong)) {
    out.push({
      ...ANY_ARRAY,
      contains: [{ value: wrong, from: shape.prefix.length, min: 1, max: Number.POSITIVE_INFINITY }],
    });
  }
  for (const rule of shape.contains) {
    if (rule.min > 0) out.push({ ...ANY_ARRAY, contains: [{ ...rule, min: 0, max: rule.min - 1 }] });
    if (rule.max !== Number.POSITIVE_INFINITY) {
      out.push({ ...ANY_ARRAY, contains: [{ ...rule, min: rule.max + 1, max: Number.POSITIVE_INFINITY }] });
    }
  }
  return out;
}
