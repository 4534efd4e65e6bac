/**
 * Reads JSON Schema keywords into {@link ValueSet}s: what each keyword means, and which are refused.
 *
 * Every keyword that restricts values is either taken into the set exactly or refused with an error that carries the
 * JSON pointer of the keyword. Annotations are skipped; formats nobody defined are reported in `warnings`.
 *
 * Longer than most files here: it is the list of keywords, and they are best read in one place.
 */
import { SglangError } from "../core/errors.js";
import { lengthBounds } from "./encode.js";
import { formatExpression } from "./formats.js";
import type { Expression } from "./ir.js";
import type { JsonLexemes, StringTerm } from "./json-lexemes.js";
import type { JsonObject, JsonValue } from "./json-text.js";
import { hasNumber } from "./number-decision.js";
import { isTrackable } from "./number-range.js";
import type { NumberTerm } from "./number-term.js";
import { regexToExpression } from "./regex.js";
import type { SchemaDocument } from "./schema-document.js";
import { type Condition, type Evaluated, evaluations } from "./schema-evaluated.js";
import { KEYWORDS } from "./schema-keywords.js";
import {
  ALL_VALUES,
  ANY_ARRAY,
  ANY_OBJECT,
  type ArrayShape,
  type ContainsRule,
  complementSet,
  FALSE,
  type Formula,
  Formulas,
  intersectSets,
  isImpossibleObject,
  type KeyRule,
  type KeySet,
  mayOverlap,
  NO_VALUES,
  type ObjectShape,
  type PartOracle,
  TRUE,
  uniteSets,
  type ValueSet,
} from "./schema-set.js";

export interface ReaderLimits {
  /** Alternatives one schema may multiply out to. @default 512 */
  maxShapes?: number;
  /** Combinations of schemas that may come up. @default 200_000 */
  maxFormulas?: number;
  /** Steps of multiplying out; what bounds the time a schema can take. @default 100_000 */
  maxSteps?: number;
  /** Milliseconds the normalisation of a schema may take. @default 2_000 */
  maxCompileMs?: number;
}

type PatternTerm = StringTerm & { readonly kind: "pattern" };

interface Atom {
  readonly node: JsonObject;
  readonly pointer: string;
  /** Base URI for references inside. */
  readonly base: string;
}

const EVALUATES_PROPERTIES = ["properties", "patternProperties", "additionalProperties", "unevaluatedProperties"];
const EVALUATES_ITEMS = ["prefixItems", "items", "additionalItems", "contains", "unevaluatedItems"];
/** Characters, and items or properties, that a schema may ask for at least. */
const MAX_LENGTH = 1_000_000_000;
const MAX_ITEMS = 10_000;

/** How deep emptiness is looked for inside parts while shapes are multiplied; deeper is decided later, exactly. */
const EMPTINESS_DEPTH = 4;

export class SchemaReader implements PartOracle {
  readonly formulas = new Formulas();
  readonly json: JsonLexemes;
  readonly document: SchemaDocument;
  /** What was not enforced because the specification makes it an annotation. */
  readonly warnings: string[] = [];
  readonly #atoms: Atom[] = [];
  readonly #atomIds = new Map<JsonObject, Formula>();
  readonly #sets = new Map<Formula, ValueSet>();
  readonly #open = new Set<Formula>();
  readonly #empty = new Map<Formula, boolean>();
  readonly #anyStrings = new Map<StringTerm, boolean>();
  readonly #maxShapes: number;
  readonly #maxFormulas: number;
  readonly #maxSteps: number;
  readonly #deadline: number;
  #steps = 0;
  #emptinessDepth = 0;
  /** Where we are, for errors raised inside the algebra. */
  #pointer = "#";

  constructor(document: SchemaDocument, json: JsonLexemes, limits: ReaderLimits = {}) {
    this.document = document;
    this.json = json;
    this.#maxShapes = limits.maxShapes ?? 512;
    this.#maxFormulas = limits.maxFormulas ?? 200_000;
    this.#maxSteps = limits.maxSteps ?? 100_000;
    this.#deadline = performance.now() + (limits.maxCompileMs ?? 2_000);
  }

  /** The formula of the whole document. */
  root(): Formula {
    return this.#formula(this.document.root, "#", this.document.baseUri);
  }

  /** Where the formula, or the first part of it, was written. */
  pointerOf(formula: Formula): string {
    const node = this.formulas.get(formula);
    if (node.kind === "atom") return (this.#atoms[node.index] as Atom).pointer;
    if (node.kind === "and") return this.pointerOf(node.items[0] as Formula);
    return node.kind === "not" ? this.pointerOf(node.item) : "#";
  }

  /** The values that fulfil a formula. Remembered. */
  setOf(formula: Formula): ValueSet {
    const known = this.#sets.get(formula);
    if (known !== undefined) return known;
    if (this.#open.has(formula)) this.#refuse("$ref", "a reference leads back to itself without anything in between");
    if (this.formulas.size > this.#maxFormulas) this.#refuse("", "the schema combines too many parts");
    const pointer = this.#pointer;
    this.#spend();
    this.#open.add(formula);
    try {
      const set = this.#makeSet(formula);
      this.#sets.set(formula, set);
      return set;
    } finally {
      this.#open.delete(formula);
      this.#pointer = pointer;
    }
  }

  #makeSet(formula: Formula): ValueSet {
    const node = this.formulas.get(formula);
    switch (node.kind) {
      case "true":
        return ALL_VALUES;
      case "false":
        return NO_VALUES;
      case "not":
        return this.#complement(node.item);
      case "and":
        return node.items.map((item) => this.setOf(item)).reduce((a, b) => intersectSets(a, b, this));
      case "atom":
        return this.#read(this.#atoms[node.index] as Atom);
    }
  }

  #complement(item: Formula): ValueSet {
    const set = this.setOf(item);
    this.#pointer = this.pointerOf(item);
    return complementSet(set, this);
  }

  // ---- what the algebra asks ----------------------------------------------------------------------------------

  hasKey(keys: KeySet, name: string): boolean {
    const matches = (lexeme: number): boolean =>
      this.json.hasString({ kind: "pattern", lexeme, bounds: [0, Number.POSITIVE_INFINITY] }, name);
    if (keys.kind === "lexeme") return matches(keys.lexeme);
    return !keys.names.has(name) && !keys.patterns.some(matches);
  }

  isSurelyEmpty(formula: Formula): boolean {
    if (formula === TRUE) return false;
    if (formula === FALSE) return true;
    const known = this.#empty.get(formula);
    if (known !== undefined) return known;
    if (this.#open.has(formula) || this.#emptinessDepth >= EMPTINESS_DEPTH) return false;
    this.#emptinessDepth++;
    try {
      const empty = this.isEmptySet(this.setOf(formula));
      this.#empty.set(formula, empty);
      return empty;
    } catch (error) {
      // It may be open further up, or too large: if it matters, it comes up again where it must be answered.
      if (!SglangError.isInstance(error)) throw error;
      this.#empty.set(formula, false);
      return false;
    } finally {
      this.#emptinessDepth--;
    }
  }

  /** True when no value of any type is left; shapes count as values. */
  isEmptySet(set: ValueSet): boolean {
    if (set.hasNull || set.hasTrue || set.hasFalse || set.arrays.length > 0 || set.objects.length > 0) return false;
    return !this.hasNumbers(set.numbers) && !this.hasStrings(set.strings);
  }

  hasNumbers(term: NumberTerm): boolean {
    return hasNumber(term) ?? !this.json.lexemes.isEmpty(this.json.numberLexeme(term));
  }

  hasStrings(term: StringTerm): boolean {
    const known = this.#anyStrings.get(term);
    if (known !== undefined) return known;
    const found = this.json.hasAnyString(term);
    this.#anyStrings.set(term, found);
    return found;
  }

  checkSize(shapes: number): void {
    this.#spend();
    if (shapes > this.#maxShapes) {
      this.#refuse("", `its combinations multiply out to more than ${this.#maxShapes} alternatives`);
    }
  }

  #spend(): void {
    this.#steps++;
    if (this.#steps <= this.#maxSteps && (this.#steps & 15) !== 0) return;
    if (this.#steps > this.#maxSteps || performance.now() > this.#deadline) {
      this.#refuse("", "multiplying out its combinations takes too long");
    }
  }

  refuseNotUnique(): never {
    this.#refuse("uniqueItems", "it cannot be enforced under a negation or an overlapping oneOf");
  }

  /** @throws SglangError UNSUPPORTED that names `pointer/keyword`. */
  refuse(pointer: string, keyword: string, why: string): never {
    const field = keyword === "" ? pointer : `${pointer}/${keyword}`;
    throw new SglangError("UNSUPPORTED", `The schema cannot be enforced exactly at ${field}: ${why}.`, { field });
  }

  #refuse(keyword: string, why: string): never {
    this.refuse(this.#pointer, keyword, why);
  }

  #malformed(keyword: string, expected: string, found: JsonValue | undefined): never {
    const field = `${this.#pointer}/${keyword}`;
    const shown = JSON.stringify(found instanceof Map ? Object.fromEntries(found) : found)?.slice(0, 60) ?? "nothing";
    throw new SglangError("INVALID_REQUEST", `${field} must be ${expected}, got ${shown}.`, {
      field,
      expected,
      found: shown,
    });
  }

  // ---- schemas ------------------------------------------------------------------------------------------------

  #formula(node: JsonValue | undefined, pointer: string, base: string): Formula {
    if (node === true) return TRUE;
    if (node === false) return FALSE;
    if (!(node instanceof Map)) {
      const at = pointer.lastIndexOf("/");
      this.#pointer = pointer.slice(0, Math.max(at, 1));
      this.#malformed(pointer.slice(at + 1), "a schema (an object or a boolean)", node);
    }
    if (node.size === 0) return TRUE;
    const known = this.#atomIds.get(node);
    if (known !== undefined) return known;
    const formula = this.formulas.atom(this.#atoms.push({ node, pointer, base: this.document.baseOf(node, base) }) - 1);
    this.#atomIds.set(node, formula);
    return formula;
  }

  /** A formula for exactly that value. */
  #constant(value: JsonValue): Formula {
    return this.#formula(new Map<string, JsonValue>([["enum", [value]]]), this.#pointer, this.document.baseUri);
  }

  #child(atom: Atom, node: JsonValue | undefined, ...path: (string | number)[]): Formula {
    const suffix = path.map((part) => `/${String(part).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
    const formula = this.#formula(node, atom.pointer + suffix, atom.base);
    this.#pointer = atom.pointer;
    return formula;
  }

  #read(atom: Atom): ValueSet {
    this.#pointer = atom.pointer;
    const { node } = atom;
    const ref = node.get("$ref");
    if (ref !== undefined && this.document.refHidesSiblings) return this.#reference(atom, "$ref", ref);
    this.#reportIgnored(atom);
    let set = this.#typed(atom);
    const and = (other: ValueSet): void => {
      this.#pointer = atom.pointer;
      set = intersectSets(set, other, this);
    };
    if (node.has("enum")) {
      const values = node.get("enum");
      if (!Array.isArray(values)) this.#malformed("enum", "an array", values);
      and(this.#values(values));
    }
    if (node.has("const") && this.document.has("const")) and(this.#values([node.get("const") as JsonValue]));
    for (const keyword of ["$ref", "$dynamicRef", "$recursiveRef"] as const) {
      const target = node.get(keyword);
      if (target !== undefined) and(this.#reference(atom, keyword, target));
    }
    for (const part of this.#schemas(atom, "allOf")) and(this.setOf(part));
    const any = this.#schemas(atom, "anyOf");
    if (any.length > 0) and(this.#union(atom, any));
    const one = this.#schemas(atom, "oneOf");
    if (one.length > 0) and(this.#exactlyOne(atom, one));
    if (node.has("not")) and(this.setOf(this.formulas.not(this.#child(atom, node.get("not"), "not"))));
    if (node.has("if") && this.document.has("if")) and(this.#conditional(atom));
    this.#dependencies(atom, and);
    for (const keyword of ["unevaluatedProperties", "unevaluatedItems"] as const)
      if (node.has(keyword)) and(this.#unevaluated(atom, keyword));
    this.#pointer = atom.pointer;
    return set;
  }

  #unevaluated(atom: Atom, keyword: "unevaluatedProperties" | "unevaluatedItems"): ValueSet {
    const value = this.#child(atom, atom.node.get(keyword), keyword);
    if (value === TRUE) return ALL_VALUES;
    const alternatives = evaluations(atom, {
      keywords: keyword === "unevaluatedProperties" ? EVALUATES_PROPERTIES : EVALUATES_ITEMS,
      resolve: (reference, target, { base }) => {
        if (typeof target !== "string") return undefined;
        const found = this.document.resolve(target, base, reference);
        if (found === "dynamic")
          this.#refuse(keyword, `beside ${reference} what counts as evaluated depends on the value`);
        return found;
      },
      refuse: () => this.#refuse(keyword, "what counts as evaluated depends on the value in too many ways"),
    });
    const sets = alternatives.map(({ conditions, by }) => {
      // A schema below with the same keyword evaluates everything.
      const others = by.filter(({ node }) => node !== atom.node);
      const all = others.some(({ node }) => node.has(keyword));
      const closed =
        keyword === "unevaluatedProperties" ? this.#closedObjects(by, value) : this.#closedArrays(atom, by);
      return conditions.reduce(
        (set, condition) => intersectSets(set, this.#condition(condition), this),
        all ? ALL_VALUES : closed,
      );
    });
    this.#pointer = `${atom.pointer}/${keyword}`;
    return uniteSets(sets, this);
  }

  #condition(condition: Condition): ValueSet {
    if (condition.kind === "has")
      return { ...ALL_VALUES, objects: [{ ...ANY_OBJECT, required: new Set([condition.name]) }] };
    const formula = this.#formula(condition.place.node, condition.place.pointer, condition.place.base);
    return this.setOf(condition.kind === "holds" ? formula : this.formulas.not(formula));
  }

  /** Objects whose properties fit `value`, but for those that `by` evaluates. */
  #closedObjects(by: Evaluated["by"], value: Formula): ValueSet {
    if (by.some(({ node }) => node.has("additionalProperties"))) return ALL_VALUES;
    const names = new Set(by.flatMap(({ node }) => [...this.#table(node, "properties").keys()]));
    const patterns = by.flatMap(({ node }) =>
      [...this.#table(node, "patternProperties").keys()].map(
        (source) => this.#pattern(source, "patternProperties").lexeme,
      ),
    );
    const rules: KeyRule[] = [{ keys: { kind: "outside", names, patterns }, value }];
    return { ...ALL_VALUES, objects: [{ ...ANY_OBJECT, rules }] };
  }

  /** The same for items, by position, and by `contains` where the dialect lets it evaluate. */
  #closedArrays(atom: Atom, by: Evaluated["by"]): ValueSet {
    let longest = 0;
    const contained: JsonValue[] = [];
    for (const { node, pointer, base } of by) {
      const tuple = this.#tuple(node);
      if (node.has(tuple === "items" ? "additionalItems" : "items")) return ALL_VALUES;
      longest = Math.max(longest, tuple === undefined ? 0 : (node.get(tuple) as JsonValue[]).length);
      if (!node.has("contains") || !this.document.has("prefixItems")) continue;
      const item = node.get("contains") as JsonValue;
      // Read where it stands, for its references.
      this.#formula(item, `${pointer}/contains`, base);
      contained.push(item);
    }
    const rest = atom.node.get("unevaluatedItems") as JsonValue;
    const either = contained.length === 0 ? rest : new Map([["anyOf", [rest, ...contained]]]);
    const value = this.#formula(either, `${atom.pointer}/unevaluatedItems`, atom.base);
    const prefix = Array.from({ length: longest }, () => TRUE);
    return { ...ALL_VALUES, arrays: [{ ...ANY_ARRAY, prefix, rest: value }] };
  }

  #reportIgnored(atom: Atom): void {
    for (const keyword of atom.node.keys()) {
      const known = KEYWORDS.get(keyword);
      if (known !== undefined && known.status !== "reported") continue;
      const what = known === undefined ? "is not a keyword of JSON Schema" : "is an annotation by definition";
      this.warnings.push(`${atom.pointer}: ${JSON.stringify(keyword)} ${what} and restricts nothing.`);
    }
  }

  #schemas(atom: Atom, keyword: string): Formula[] {
    const list = atom.node.get(keyword);
    if (list === undefined) return [];
    this.#pointer = atom.pointer;
    if (!Array.isArray(list) || list.length === 0) this.#malformed(keyword, "an array of schemas, not empty", list);
    return list.map((item, i) => this.#child(atom, item, keyword, i));
  }

  #union(atom: Atom, parts: readonly Formula[]): ValueSet {
    const sets = parts.map((part) => this.setOf(part));
    this.#pointer = `${atom.pointer}/anyOf`;
    return uniteSets(sets, this);
  }

  /** Each branch without those others that overlap with it. */
  #exactlyOne(atom: Atom, parts: readonly Formula[]): ValueSet {
    const own = parts.map((part) => this.setOf(part));
    const overlaps = parts.map(() => new Set<number>());
    parts.forEach((part, i) => {
      for (let j = 0; j < i; j++) {
        this.#spend();
        this.#pointer = `${atom.pointer}/oneOf/${i}`;
        if (part !== parts[j] && !mayOverlap(own[i] as ValueSet, own[j] as ValueSet, this)) continue;
        (overlaps[i] as Set<number>).add(j);
        (overlaps[j] as Set<number>).add(i);
      }
    });
    const out = parts.map((part, i) => {
      let set = own[i] as ValueSet;
      for (const j of overlaps[i] as Set<number>) {
        const other = parts[j] as Formula;
        this.#pointer = `${atom.pointer}/oneOf/${j}`;
        if (part === other) set = NO_VALUES;
        else if (mayOverlap(set, own[j] as ValueSet, this)) {
          set = intersectSets(set, this.setOf(this.formulas.not(other)), this);
        }
      }
      return set;
    });
    this.#pointer = `${atom.pointer}/oneOf`;
    return uniteSets(out, this);
  }

  #conditional(atom: Atom): ValueSet {
    const condition = this.#child(atom, atom.node.get("if"), "if");
    const branch = (keyword: "then" | "else"): Formula =>
      atom.node.has(keyword) ? this.#child(atom, atom.node.get(keyword), keyword) : TRUE;
    const yes = branch("then");
    const no = branch("else");
    if (yes === TRUE && no === TRUE) return ALL_VALUES;
    const sets = [
      this.setOf(this.formulas.and([condition, yes])),
      this.setOf(this.formulas.and([this.formulas.not(condition), no])),
    ];
    this.#pointer = `${atom.pointer}/if`;
    return uniteSets(sets, this);
  }

  #dependencies(atom: Atom, and: (set: ValueSet) => void): void {
    for (const keyword of ["dependentRequired", "dependentSchemas", "dependencies"]) {
      const table = atom.node.get(keyword);
      if (table === undefined) continue;
      this.#pointer = atom.pointer;
      if (!(table instanceof Map)) this.#malformed(keyword, "an object", table);
      for (const [name, demand] of table) {
        const without: ObjectShape = { ...ANY_OBJECT, names: new Map([[name, FALSE]]) };
        if (Array.isArray(demand)) {
          const names = this.#nameList(demand, `${keyword}/${name}`);
          and({ ...ALL_VALUES, objects: [without, { ...ANY_OBJECT, required: new Set([name, ...names]) }] });
          continue;
        }
        const demanded = this.setOf(this.#child(atom, demand, keyword, name));
        const present: ValueSet = { ...ALL_VALUES, objects: [{ ...ANY_OBJECT, required: new Set([name]) }] };
        const both = intersectSets(present, demanded, this);
        and({ ...ALL_VALUES, objects: [without, ...both.objects] });
      }
    }
  }

  #reference(atom: Atom, keyword: string, target: JsonValue): ValueSet {
    if (typeof target !== "string") this.#malformed(keyword, "a string", target);
    const found = this.document.resolve(target, atom.base, keyword);
    if (found === undefined)
      this.#refuse(keyword, `${JSON.stringify(target)} does not lead to a schema in this document`);
    if (found === "dynamic") this.#refuse(keyword, "its target depends on the path taken to it");
    return this.setOf(this.#formula(found.node, found.pointer, found.base));
  }

  /** Exactly these values. */
  #values(values: readonly JsonValue[]): ValueSet {
    const numbers = values.filter((value): value is number => typeof value === "number");
    const strings = values.filter((value): value is string => typeof value === "string");
    const arrays: ArrayShape[] = [];
    const objects: ObjectShape[] = [];
    for (const value of values) {
      if (Array.isArray(value)) {
        const prefix = value.map((item) => this.#constant(item));
        arrays.push({ ...ANY_ARRAY, prefix, rest: FALSE, min: value.length, max: value.length });
      } else if (value instanceof Map) {
        const names = new Map([...value].map(([key, item]) => [key, this.#constant(item)]));
        objects.push({ ...ANY_OBJECT, names, required: new Set(value.keys()), max: value.size });
      }
    }
    return {
      hasNull: values.includes(null),
      hasTrue: values.includes(true),
      hasFalse: values.includes(false),
      numbers: numbers.length === 0 ? { kind: "none" } : { kind: "values", values: [...new Set(numbers)] },
      strings: strings.length === 0 ? { kind: "none" } : { kind: "values", values: [...new Set(strings)] },
      arrays,
      objects,
    };
  }

  // ---- keywords by type ---------------------------------------------------------------------------------------

  #typed(atom: Atom): ValueSet {
    const types = this.#types(atom.node);
    const has = (type: string): boolean => types === undefined || types.has(type);
    const numbers: NumberTerm[] = [];
    if (types?.has("integer") && !types.has("number")) numbers.push({ kind: "integer" });
    if (has("number") || has("integer")) this.#numberKeywords(atom, numbers);
    const objects = has("object") ? this.#objectKeywords(atom) : [];
    return {
      hasNull: has("null"),
      hasTrue: has("boolean"),
      hasFalse: has("boolean"),
      numbers: has("number") || has("integer") ? conjunction(numbers) : { kind: "none" },
      strings: has("string") ? this.#stringKeywords(atom) : { kind: "none" },
      arrays: has("array") ? this.#arrayKeywords(atom) : [],
      objects: objects.filter((shape) => !isImpossibleObject(shape, this)),
    };
  }

  #types(node: JsonObject): Set<string> | undefined {
    const type = node.get("type");
    if (type === undefined) return undefined;
    const list = Array.isArray(type) ? type : [type];
    const known = ["null", "boolean", "object", "array", "number", "string", "integer"];
    for (const item of list) {
      if (typeof item !== "string" || !known.includes(item))
        this.#malformed("type", `one of ${known.join(", ")}`, item);
    }
    return new Set(list as string[]);
  }

  #number(atom: Atom, keyword: string): number | undefined {
    const value = atom.node.get(keyword);
    if (value !== undefined && (typeof value !== "number" || !Number.isFinite(value)))
      this.#malformed(keyword, "a finite number", value);
    return value;
  }

  #count(atom: Atom, keyword: string): number | undefined {
    const value = this.#number(atom, keyword);
    if (value !== undefined && (!Number.isInteger(value) || value < 0))
      this.#malformed(keyword, "a whole number >= 0", value);
    const most = keyword === "minLength" ? MAX_LENGTH : MAX_ITEMS;
    if (value !== undefined && value > most) {
      // No text comes near such an upper bound.
      if (keyword.startsWith("max")) return value > MAX_LENGTH ? Number.POSITIVE_INFINITY : value;
      this.#refuse(keyword, `no answer holds so much; at most ${most} are counted`);
    }
    return value;
  }

  #numberKeywords(atom: Atom, out: NumberTerm[]): void {
    const minimum = this.#number(atom, "minimum");
    const maximum = this.#number(atom, "maximum");
    // Draft 4 writes exclusiveness as a flag beside the bound.
    const flag = (keyword: string): boolean => atom.node.get(keyword) === true;
    const bound = (keyword: string): number | undefined =>
      typeof atom.node.get(keyword) === "boolean" ? undefined : this.#number(atom, keyword);
    if (minimum !== undefined)
      out.push({ kind: "compare", comparison: flag("exclusiveMinimum") ? ">" : ">=", bound: minimum });
    if (maximum !== undefined)
      out.push({ kind: "compare", comparison: flag("exclusiveMaximum") ? "<" : "<=", bound: maximum });
    const above = bound("exclusiveMinimum");
    const below = bound("exclusiveMaximum");
    if (above !== undefined) out.push({ kind: "compare", comparison: ">", bound: above });
    if (below !== undefined) out.push({ kind: "compare", comparison: "<", bound: below });
    const divisor = this.#number(atom, "multipleOf");
    if (divisor === undefined) return;
    if (divisor <= 0) this.#malformed("multipleOf", "a number > 0", divisor);
    if (!isTrackable(divisor)) this.#refuse("multipleOf", `${divisor} has too many digits`);
    out.push({ kind: "multiple", of: divisor });
  }

  #stringKeywords(atom: Atom): StringTerm {
    const parts: StringTerm[] = [];
    const min = this.#count(atom, "minLength") ?? 0;
    const max = this.#count(atom, "maxLength") ?? Number.POSITIVE_INFINITY;
    if (min > max) return { kind: "none" };
    if (min > 0 || max !== Number.POSITIVE_INFINITY) parts.push({ kind: "length", min, max });
    const pattern = atom.node.get("pattern");
    if (pattern !== undefined) {
      if (typeof pattern !== "string") this.#malformed("pattern", "a string", pattern);
      parts.push(this.#pattern(pattern, "pattern"));
    }
    const format = atom.node.get("format");
    if (format !== undefined) parts.push(...this.#format(format));
    return conjunction(parts);
  }

  #format(format: JsonValue): StringTerm[] {
    if (typeof format !== "string") this.#malformed("format", "a string", format);
    const term = this.#regular(`format ${format}`, "format", () => formatExpression(format));
    if (term !== undefined) return [term];
    this.warnings.push(
      `${this.#pointer}/format: ${JSON.stringify(format)} is not a defined format and restricts nothing.`,
    );
    return [];
  }

  #pattern(source: string, keyword: string): PatternTerm {
    return this.#regular(source, keyword, () =>
      regexToExpression(source, undefined, { anchored: false }),
    ) as PatternTerm;
  }

  #regular(key: string, keyword: string, make: () => Expression | null): PatternTerm | undefined {
    const known = this.json.patterns.get(key);
    if (known !== undefined) return known;
    try {
      const expression = make();
      if (expression === null) return undefined;
      const lexeme = this.json.encoder.lexeme(expression, "json");
      const term: PatternTerm = { kind: "pattern", lexeme, bounds: lengthBounds(expression) };
      this.json.patterns.set(key, term);
      return term;
    } catch (error) {
      if (!SglangError.isInstance(error)) throw error;
      const field = `${this.#pointer}/${keyword}`;
      throw new SglangError(error.code, `${field}: ${error.message}`, { ...error.details, field }, { cause: error });
    }
  }

  #objectKeywords(atom: Atom): ObjectShape[] {
    const { node } = atom;
    const names = new Map<string, Formula>();
    const rules: KeyRule[] = [];
    const properties = this.#table(node, "properties");
    for (const [name, schema] of properties) names.set(name, this.#child(atom, schema, "properties", name));
    const patterns: number[] = [];
    for (const [source, schema] of this.#table(node, "patternProperties")) {
      const keys = this.#pattern(source, "patternProperties").lexeme;
      patterns.push(keys);
      const value = this.#child(atom, schema, "patternProperties", source);
      if (value !== TRUE) rules.push({ keys: { kind: "lexeme", lexeme: keys }, value });
    }
    if (node.has("additionalProperties")) {
      const value = this.#child(atom, node.get("additionalProperties"), "additionalProperties");
      if (value !== TRUE) rules.push({ keys: { kind: "outside", names: new Set(names.keys()), patterns }, value });
    }
    if (node.has("propertyNames") && this.document.has("propertyNames")) {
      const term = this.setOf(this.#child(atom, node.get("propertyNames"), "propertyNames")).strings;
      this.#pointer = atom.pointer;
      if (term.kind !== "any") {
        const patterns = term.kind === "none" ? [] : [this.json.stringContent(term)];
        rules.push({ keys: { kind: "outside", names: new Set(), patterns }, value: FALSE });
      }
    }
    const required = node.get("required");
    const demanded = required === undefined ? [] : this.#nameList(required, "required");
    return [
      {
        names,
        rules,
        required: new Set(demanded),
        min: this.#count(atom, "minProperties") ?? 0,
        max: this.#count(atom, "maxProperties") ?? Number.POSITIVE_INFINITY,
        exists: [],
      },
    ];
  }

  #table(node: JsonObject, keyword: string): JsonObject {
    const table = node.get(keyword);
    if (table === undefined) return new Map();
    if (!(table instanceof Map)) this.#malformed(keyword, "an object", table);
    return table;
  }

  #nameList(list: JsonValue, keyword: string): string[] {
    if (!Array.isArray(list) || list.some((item) => typeof item !== "string")) {
      this.#malformed(keyword, "an array of property names", list);
    }
    return list as string[];
  }

  #arrayKeywords(atom: Atom): ArrayShape[] {
    const { node } = atom;
    const list = this.#tuple(node);
    const items = list === undefined ? undefined : (node.get(list) as JsonValue[]);
    const prefix = (items ?? []).map((item, i) => this.#child(atom, item, list as string, i));
    const restKeyword = list === "items" ? "additionalItems" : "items";
    const rest = node.has(restKeyword) ? this.#child(atom, node.get(restKeyword), restKeyword) : TRUE;
    const min = this.#count(atom, "minItems") ?? 0;
    const max = this.#count(atom, "maxItems") ?? Number.POSITIVE_INFINITY;
    if (min > max) return [];
    const contains: ContainsRule[] = [];
    if (node.has("contains") && this.document.has("contains")) {
      const least = this.#count(atom, "minContains") ?? 1;
      const most = this.#count(atom, "maxContains") ?? Number.POSITIVE_INFINITY;
      contains.push({ value: this.#child(atom, node.get("contains"), "contains"), from: 0, min: least, max: most });
    }
    return [{ prefix, rest, min, max, contains, unique: node.get("uniqueItems") === true && max > 1 }];
  }

  /** The keyword that holds a list of schemas by position, if any. */
  #tuple(node: JsonObject): "prefixItems" | "items" | undefined {
    if (Array.isArray(node.get("items"))) return "items";
    return Array.isArray(node.get("prefixItems")) && this.document.has("prefixItems") ? "prefixItems" : undefined;
  }
}

function conjunction<T extends NumberTerm | StringTerm>(parts: readonly T[]): T {
  if (parts.length === 0) return { kind: "any" } as T;
  return parts.length === 1 ? (parts[0] as T) : ({ kind: "and", items: parts } as unknown as T);
}
