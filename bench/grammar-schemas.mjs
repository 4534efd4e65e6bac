/** JSON Schemas made at random, of the kinds that people write and some that they don't: the same for the same numbers. */

const PATTERNS = ["^[a-z]{1,4}$", "^a", "z$", "\\d+", "^(ab|cd)*$", "^[^x]*$", "b|c", "^.{2,3}$", "^\\p{Lu}", "\\S"];
/** Without `email` and `uri`, of which ajv refuses what their RFCs allow: hosts without a dot, empty paths. */
const FORMATS = ["date", "time", "date-time", "uuid", "ipv4", "ipv6", "hostname", "json-pointer", "duration"];
/** Without "", which ajv takes for present when it is required. */
const NAMES = ["a", "b", "c", "ab", "name", "x y", "ä", "n1", '"q"', "a/b"];
const VALUES = [0, 1, -1, 1.5, 100, "a", "b", "ab", "", "ü", true, false, null, [], {}, [1], { a: 1 }, ["a", null]];

/** @param random numbers in [0, 1) */
export function randomSchema(random, depth = 3) {
  const pick = (list) => list[Math.floor(random() * list.length)];
  const chance = (share) => random() < share;
  const whole = (most) => Math.floor(random() * (most + 1));
  const some = (list, most) => [...new Set(Array.from({ length: 1 + whole(most - 1) }, () => pick(list)))];
  const inner = () => randomSchema(random, depth - 1);
  const of = (keys, value) => Object.fromEntries(keys.map((key) => [key, value(key)]));
  const kinds = [string, number, simple, ...(depth > 0 ? [array, object, object, combination, combination] : [])];
  return pick(kinds)();

  function simple() {
    const kind = whole(5);
    if (kind === 0) return { enum: some(VALUES, 5) };
    if (kind === 1) return { const: pick(VALUES) };
    if (kind === 2) return chance(0.5) ? true : {};
    return { type: pick(["boolean", "null", ["string", "null"], ["integer", "boolean"]]) };
  }
  function string() {
    const low = whole(4);
    return {
      ...(chance(0.85) && { type: "string" }),
      ...(chance(0.4) && { minLength: low }),
      ...(chance(0.4) && { maxLength: low + whole(8) }),
      ...(chance(0.3) && { pattern: pick(PATTERNS) }),
      ...(chance(0.15) && { format: pick(FORMATS) }),
    };
  }
  function number() {
    const low = whole(40) - 20 + (chance(0.3) ? 0.5 : 0);
    // ajv divides floats: multiples are bounded, so that it can tell.
    if (chance(0.2))
      return { type: "number", minimum: low, maximum: low + whole(60), multipleOf: pick([1, 2, 3, 5, 7, 0.5, 0.25]) };
    return {
      ...(chance(0.9) && { type: pick(["integer", "number"]) }),
      ...(chance(0.4) && { [pick(["minimum", "exclusiveMinimum"])]: low }),
      ...(chance(0.4) && { [pick(["maximum", "exclusiveMaximum"])]: low + whole(50) }),
    };
  }
  function array() {
    const low = whole(2);
    const unique = chance(0.15);
    return {
      ...(chance(0.85) && { type: "array" }),
      ...(unique
        ? { items: { enum: some(VALUES.slice(0, 13), 6) }, uniqueItems: true }
        : chance(0.7) && { items: inner() }),
      ...(!unique && chance(0.25) && { prefixItems: Array.from({ length: 1 + whole(1) }, inner) }),
      ...(chance(0.3) && { minItems: low }),
      ...(chance(0.4) && { maxItems: low + whole(3) }),
      ...(!unique &&
        chance(0.15) && {
          contains: inner(),
          ...(chance(0.4) && { minContains: whole(2) }),
          ...(chance(0.4) && { maxContains: 2 }),
        }),
      ...(!unique && chance(0.1) && { unevaluatedItems: chance(0.5) ? false : inner() }),
    };
  }
  function object() {
    const names = some(NAMES, 4);
    return {
      ...(chance(0.85) && { type: "object" }),
      properties: of(names, inner),
      ...(chance(0.6) && { required: some([...names, "c"], 3) }),
      ...(chance(0.5) && { additionalProperties: chance(0.7) ? false : inner() }),
      ...(chance(0.15) && { patternProperties: of(some(PATTERNS, 2), inner) }),
      ...(chance(0.1) && { propertyNames: string() }),
      ...(chance(0.1) && { minProperties: whole(2) }),
      ...(chance(0.1) && { maxProperties: 1 + whole(3) }),
      ...(chance(0.1) && { dependentRequired: of(some(names, 2), () => some(names, 2)) }),
      ...(chance(0.1) && { dependentSchemas: of(some(names, 1), inner) }),
      ...(chance(0.1) && { unevaluatedProperties: chance(0.6) ? false : inner() }),
    };
  }
  function combination() {
    const list = () => Array.from({ length: 1 + whole(2) }, inner);
    const kind = whole(6);
    const beside = chance(0.3) ? pick([string, number, object])() : {};
    if (kind === 0) return { ...beside, anyOf: list() };
    if (kind === 1) return { ...beside, oneOf: list() };
    if (kind === 2) return { ...beside, allOf: list() };
    if (kind === 3) return { ...beside, not: inner() };
    if (kind === 4) {
      const branches = ["then", "else"].filter(() => chance(0.7));
      return { ...beside, if: inner(), ...of(branches, inner) };
    }
    if (kind === 5 && depth === 3) {
      const tree = {
        type: "object",
        properties: { value: inner(), next: { $ref: "#/$defs/tree" } },
        additionalProperties: false,
      };
      return { $ref: "#/$defs/tree", $defs: { tree } };
    }
    return { ...beside, anyOf: list() };
  }
}

const TEXTS = [
  "",
  "a",
  "ab",
  "abc",
  "b",
  "c",
  "z",
  "1",
  "12",
  "a1",
  "Ab",
  "ü",
  "x y",
  "cd",
  "abab",
  "2020-01-01",
  "1.2.3.4",
  "a long text",
];
const NUMBERS = [-20, -9, -1, 0, 0.5, 1, 1.5, 2, 3, 5, 7, 10, 14, 15, 20, 21, 35, 100, 2.25];

/** A value that such schemas may or may not take. */
export function randomValue(random, depth = 3) {
  const pick = (list) => list[Math.floor(random() * list.length)];
  const kind = random();
  if (kind < 0.25) return pick(TEXTS);
  if (kind < 0.45 || depth === 0) return pick(NUMBERS);
  if (kind < 0.6) return pick([true, false, null]);
  const several = Array.from({ length: Math.floor(random() * 4) }, () => randomValue(random, depth - 1));
  return kind < 0.78 ? several : Object.fromEntries(several.map((value) => [pick(NAMES), value]));
}
