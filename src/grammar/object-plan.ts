/**
 * Object shapes made ready for writing: named properties in order with what their values must fulfil, and the classes of
 * other keys, disjoint and without the names.
 */
import { NEVER } from "./lexeme.js";
import type { SchemaReader } from "./schema-reader.js";
import { FALSE, type Formula, type KeyRule, type KeySet, type ObjectShape, TRUE, valueAt } from "./schema-set.js";

export interface PlannedName {
  readonly name: string;
  readonly value: Formula;
  readonly required: boolean;
}

/** Keys beside the named ones. `proves` says which of the plan's `exists` demands such a member fulfils. */
export interface ExtraClass {
  /** Lexeme of the key's content: made when such a key is written. */
  readonly keys: () => number;
  readonly value: Formula;
  /** Bit i: fulfils demand i. */
  readonly proves: number;
}

export interface ObjectPlan {
  readonly names: readonly PlannedName[];
  readonly extras: readonly ExtraClass[];
  readonly min: number;
  readonly max: number;
  /** Demands that some other key must fulfil: all bits set. */
  readonly demands: number;
}

/** Most classes of other keys; rules that overlap in more ways are refused. */
const MAX_CLASSES = 64;
/** Most "some other key must" demands in one object. */
const MAX_DEMANDS = 4;

/** Plans whose union is the shape. */
export function planObject(shape: ObjectShape, reader: SchemaReader, pointer: string): ObjectPlan[] {
  const [demand, ...others] = shape.exists;
  if (demand === undefined) return [plan(shape, [], reader, pointer)];
  // Each demand is fulfilled by one of the names, or by another key.
  const out: ObjectPlan[] = [];
  const split = (current: ObjectShape, open: readonly KeyRule[], byOthers: readonly KeyRule[]): void => {
    const [next, ...rest] = open;
    reader.checkSize(out.length);
    if (next === undefined) {
      out.push(plan(current, byOthers, reader, pointer));
      return;
    }
    for (const name of new Set([...current.names.keys(), ...current.required])) {
      if (!reader.hasKey(next.keys, name)) continue;
      const value = reader.formulas.and([current.names.get(name) ?? TRUE, next.value]);
      if (reader.isSurelyEmpty(value)) continue;
      const names = new Map(current.names).set(name, value);
      split({ ...current, names, required: new Set([...current.required, name]) }, rest, byOthers);
    }
    split(current, rest, [...byOthers, next]);
  };
  split(shape, [demand, ...others], []);
  return out;
}

function plan(shape: ObjectShape, demands: readonly KeyRule[], reader: SchemaReader, pointer: string): ObjectPlan {
  if (demands.length > MAX_DEMANDS) reader.refuse(pointer, "", "too many negated property rules meet in one object");
  const names: PlannedName[] = [];
  const all = new Set([...shape.names.keys(), ...shape.required]);
  for (const name of all) {
    names.push({ name, value: valueAt(shape, name, reader), required: shape.required.has(name) });
  }
  const extras = extraClasses(shape, all, demands, reader, pointer);
  if (shape.min - shape.required.size > 1 && extras.length > 0) {
    reader.refuse(pointer, "minProperties", "counting keys that are not declared would need to remember all of them");
  }
  return { names, extras, min: shape.min, max: shape.max, demands: 2 ** demands.length - 1 };
}

function extraClasses(
  shape: ObjectShape,
  names: ReadonlySet<string>,
  demands: readonly KeyRule[],
  reader: SchemaReader,
  pointer: string,
): ExtraClass[] {
  const { lexemes, encoder } = reader.json;
  const without = (): number => lexemes.not(reader.json.stringContent({ kind: "values", values: [...names] }));
  const simple = shape.rules.every(({ keys }) => isComplement(keys, names));
  if (simple && demands.length === 0) {
    if (shape.rules.some(({ value }) => value === FALSE)) return [];
    const value = reader.formulas.and(shape.rules.map((rule) => rule.value));
    return [{ keys: () => lexemes.and([without(), encoder.universe.json]), value, proves: 0 }];
  }
  const allowed: number[] = [];
  for (const rule of shape.rules) {
    if (rule.value !== FALSE) continue;
    const { outside } = divide(rule.keys, names, reader);
    if (outside === NEVER) return [];
    allowed.push(outside);
  }
  // Complements hold ill-formed text too: something must say what a key is.
  const wellFormed = shape.rules.some((rule) => rule.value === FALSE && rule.keys.kind === "outside");
  if (!wellFormed) allowed.push(encoder.universe.json);
  let classes: { keys: number; values: Formula[]; proves: number }[] = [
    { keys: lexemes.and([...allowed, without()]), values: [], proves: 0 },
  ];
  const divideAll = (keys: KeySet, apply: (from: (typeof classes)[number], inside: number) => typeof classes): void => {
    const { inside, outside } = divide(keys, names, reader);
    const next: typeof classes = [];
    for (const from of classes) {
      const hit = inside === undefined ? from.keys : lexemes.meet([from.keys, inside]);
      if (lexemes.isEmpty(hit)) {
        next.push(from);
        continue;
      }
      next.push(...apply(from, hit));
      if (outside === NEVER) continue;
      const rest = lexemes.and([from.keys, outside]);
      if (!lexemes.isEmpty(rest)) next.push({ ...from, keys: rest });
    }
    if (next.length > MAX_CLASSES) reader.refuse(pointer, "patternProperties", "its patterns overlap in too many ways");
    classes = next;
  };
  for (const rule of shape.rules) {
    if (rule.value === FALSE) continue;
    divideAll(rule.keys, (from, keys) => [{ ...from, keys, values: [...from.values, rule.value] }]);
  }
  demands.forEach((demand, i) => {
    divideAll(demand.keys, (from, keys) => [
      { ...from, keys },
      { keys, values: [...from.values, demand.value], proves: from.proves | (1 << i) },
    ]);
  });
  return classes
    .filter((found) => !lexemes.isEmpty(found.keys))
    .map((found) => ({ keys: () => found.keys, value: reader.formulas.and(found.values), proves: found.proves }));
}

/** Whether the set holds every key that is not among `names`. */
function isComplement(keys: KeySet, names: ReadonlySet<string>): boolean {
  if (keys.kind === "lexeme" || keys.patterns.length > 0) return false;
  for (const name of keys.names) if (!names.has(name)) return false;
  return true;
}

/**
 * The keys in and not in the set, given that none of `names` is meant. `inside` undefined means all keys; the lexemes
 * are to be intersected with well-formed keys.
 */
function divide(keys: KeySet, names: ReadonlySet<string>, reader: SchemaReader): { inside?: number; outside: number } {
  const { lexemes } = reader.json;
  if (keys.kind === "lexeme") return { inside: keys.lexeme, outside: lexemes.not(keys.lexeme) };
  const missed = [...keys.names].filter((name) => !names.has(name));
  const parts = [...keys.patterns];
  if (missed.length > 0) parts.push(reader.json.stringContent({ kind: "values", values: missed }));
  if (parts.length === 0) return { outside: NEVER };
  const outside = lexemes.alt(parts);
  return { inside: lexemes.not(outside), outside };
}
