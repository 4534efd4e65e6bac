/** Schemas for tests: each with texts it accepts and texts it does not. */
export interface SchemaCase {
  readonly name: string;
  readonly schema: unknown;
  readonly valid: readonly unknown[];
  readonly invalid: readonly unknown[];
}

export const SCHEMAS: readonly SchemaCase[] = [
  { name: "true", schema: true, valid: [1, "x", null, [1, { a: [] }], {}], invalid: [] },
  { name: "types", schema: { type: ["integer", "null"] }, valid: [1, -5, 0, null], invalid: [1.5, "1", true, []] },
  {
    name: "enum and const",
    schema: { properties: { a: { enum: ["x", 1, null, { k: [1] }] }, b: { const: "c" } } },
    valid: [{ a: "x" }, { a: 1, b: "c" }, { a: { k: [1] } }, 5],
    invalid: [{ a: "y" }, { b: "d" }, { a: { k: [2] } }, { a: { k: [1], l: 1 } }],
  },
  {
    name: "closed object",
    schema: {
      type: "object",
      properties: { name: { type: "string" }, age: { type: "integer", minimum: 0 } },
      required: ["name"],
      additionalProperties: false,
    },
    valid: [{ name: "x" }, { name: "x", age: 3 }],
    invalid: [{}, { age: 1 }, { name: "x", age: -1 }, { name: "x", z: 1 }],
  },
  {
    name: "declared names stay bound among open keys",
    schema: { type: "object", properties: { a: { type: "integer" } }, additionalProperties: { type: "string" } },
    valid: [{}, { a: 1 }, { a: 1, b: "x" }, { aa: "x" }],
    invalid: [{ a: "x" }, { b: 1 }],
  },
  {
    name: "patternProperties with overlap",
    schema: {
      type: "object",
      patternProperties: { "^n": { type: "number" }, x$: { minimum: 5 } },
      additionalProperties: { type: "boolean" },
    },
    valid: [{ n1: 1 }, { nx: 7 }, { zx: "s" }, { q: true }],
    invalid: [{ n1: "s" }, { nx: 3 }, { q: 1 }],
  },
  {
    name: "propertyNames",
    schema: { type: "object", propertyNames: { pattern: "^[a-c]+$" } },
    valid: [{}, { abc: 1 }],
    invalid: [{ d: 1 }, { "a b": 1 }],
  },
  {
    name: "propertyNames beside additionalProperties",
    schema: { type: "object", propertyNames: { pattern: "^[-_a-z0-9]+$" }, additionalProperties: { type: "number" } },
    valid: [{ "a-1": 1 }],
    invalid: [{ "a b": 1 }, { a: "x" }],
  },
  {
    name: "minProperties and maxProperties",
    schema: {
      type: "object",
      properties: { a: {}, b: {}, c: {} },
      additionalProperties: false,
      minProperties: 1,
      maxProperties: 2,
    },
    valid: [{ a: 1 }, { a: 1, c: 2 }],
    invalid: [{}, { a: 1, b: 2, c: 3 }],
  },
  {
    name: "arrays",
    schema: { type: "array", items: { type: "integer" }, minItems: 1, maxItems: 3 },
    valid: [[1], [1, 2, 3]],
    invalid: [[], [1, 2, 3, 4], ["x"]],
  },
  {
    name: "tuple",
    schema: { type: "array", prefixItems: [{ type: "string" }, { type: "integer" }], items: { type: "boolean" } },
    valid: [[], ["x"], ["x", 1], ["x", 1, true, false]],
    invalid: [[1], ["x", "y"], ["x", 1, 2]],
  },
  {
    name: "contains",
    schema: { type: "array", items: { type: "integer" }, contains: { minimum: 10 }, minContains: 1, maxContains: 2 },
    valid: [[10], [1, 11, 2], [10, 1, 20]],
    invalid: [[], [1, 2], [10, 11, 12]],
  },
  {
    name: "uniqueItems over an enumeration",
    schema: { type: "array", items: { enum: ["a", "b", 3] }, uniqueItems: true, minItems: 1 },
    valid: [["a"], ["b", "a", 3]],
    invalid: [[], ["a", "a"], [3, 3]],
  },
  {
    name: "string length",
    schema: { type: "string", minLength: 2, maxLength: 4 },
    valid: ["ab", "🙂🙂", "äöüß"],
    invalid: ["a", "abcde"],
  },
  {
    name: "long string",
    schema: { type: "string", maxLength: 60 },
    valid: ["a".repeat(60), ""],
    invalid: ["a".repeat(61)],
  },
  {
    name: "pattern",
    schema: { type: "string", pattern: "^a+(b|c)\\d{2}$" },
    valid: ["aab12", "ac00"],
    invalid: ["b12", "ab1", "ab123"],
  },
  {
    name: "unanchored pattern with length",
    schema: { type: "string", pattern: "b", maxLength: 3 },
    valid: ["b", "abc"],
    invalid: ["aaa", "aabc"],
  },
  {
    name: "pattern over escaped characters",
    schema: { type: "string", pattern: '^[\\n"\\\\x]+$' },
    valid: ['x"\\\n'],
    invalid: ["", "y"],
  },
  {
    name: "format date",
    schema: { type: "string", format: "date" },
    valid: ["2024-02-29"],
    invalid: ["2023-02-29", "2024-13-01"],
  },
  {
    name: "number range",
    schema: { type: "number", minimum: -1.5, exclusiveMaximum: 10 },
    valid: [-1.5, 0, 9.99, 3],
    invalid: [-1.6, 10, 11, 100],
  },
  {
    name: "integer range",
    schema: { type: "integer", minimum: 10, maximum: 1000 },
    valid: [10, 99, 1000],
    invalid: [9, 1001, 1, 10000],
  },
  { name: "multipleOf", schema: { type: "number", multipleOf: 0.25 }, valid: [0, 0.25, 1.5, -2], invalid: [0.1, 1.3] },
  {
    name: "allOf merges objects",
    schema: {
      allOf: [
        { type: "object", properties: { a: { type: "integer" } }, required: ["a"] },
        { properties: { a: { minimum: 3 }, b: { type: "string" } } },
      ],
    },
    valid: [{ a: 3 }, { a: 5, b: "x" }],
    invalid: [{}, { a: 2 }, { a: 3, b: 1 }],
  },
  {
    name: "anyOf",
    schema: { anyOf: [{ type: "string", maxLength: 2 }, { type: "integer" }, { type: "object", required: ["k"] }] },
    valid: ["ab", 5, { k: 1 }],
    invalid: ["abc", 1.5, {}],
  },
  {
    name: "oneOf of overlapping branches",
    schema: {
      oneOf: [
        { type: "integer", multipleOf: 2 },
        { type: "integer", multipleOf: 3 },
      ],
    },
    valid: [2, 3, 4, 9],
    invalid: [6, 12, 5, 0],
  },
  {
    name: "oneOf of overlapping objects",
    schema: {
      type: "object",
      properties: { a: { type: "integer" }, b: { type: "integer" } },
      additionalProperties: false,
      oneOf: [{ required: ["a"] }, { required: ["b"] }],
    },
    valid: [{ a: 1 }, { b: 1 }],
    invalid: [{}, { a: 1, b: 2 }],
  },
  {
    name: "not",
    schema: { type: "object", properties: { a: { not: { type: "string" } } }, not: { required: ["b"] } },
    valid: [{}, { a: 1 }],
    invalid: [{ a: "x" }, { b: 1 }],
  },
  {
    name: "not over open keys",
    schema: { type: "object", not: { additionalProperties: { type: "integer" } }, maxProperties: 2 },
    valid: [{ a: "x" }, { a: 1, b: "x" }],
    invalid: [{}, { a: 1 }],
  },
  {
    name: "if then else",
    schema: {
      type: "object",
      properties: { kind: { enum: ["circle", "square"] }, r: { type: "integer" }, w: { type: "integer" } },
      required: ["kind"],
      additionalProperties: false,
      if: { properties: { kind: { const: "circle" } } },
      // biome-ignore lint/suspicious/noThenProperty: a JSON Schema keyword.
      then: { required: ["r"] },
      else: { required: ["w"] },
    },
    valid: [
      { kind: "circle", r: 1 },
      { kind: "square", w: 2 },
    ],
    invalid: [{ kind: "circle" }, { kind: "square", r: 1 }, { kind: "other" }],
  },
  {
    name: "dependentRequired and dependentSchemas",
    schema: {
      type: "object",
      properties: { a: {}, b: {}, c: { type: "integer" } },
      additionalProperties: false,
      dependentRequired: { a: ["b"] },
      dependentSchemas: { b: { properties: { c: { minimum: 5 } } } },
    },
    valid: [{}, { a: 1, b: 1 }, { b: 1, c: 5 }, { c: 1 }],
    invalid: [{ a: 1 }, { b: 1, c: 4 }],
  },
  {
    name: "recursion",
    schema: {
      $ref: "#/$defs/node",
      $defs: {
        node: {
          type: "object",
          properties: { value: { type: "integer" }, next: { $ref: "#/$defs/node" } },
          required: ["value"],
          additionalProperties: false,
        },
      },
    },
    valid: [{ value: 1 }, { value: 1, next: { value: 2, next: { value: 3 } } }],
    invalid: [{}, { value: 1, next: {} }],
  },
  {
    name: "a branch that recursion makes impossible is not offered",
    schema: {
      type: "object",
      properties: { a: { $ref: "#/$defs/never" }, b: { type: "integer" } },
      additionalProperties: false,
      $defs: { never: { type: "object", properties: { x: { $ref: "#/$defs/never" } }, required: ["x"] } },
    },
    valid: [{}, { b: 1 }],
    invalid: [{ a: { x: 1 } }],
  },
  {
    name: "$anchor and $id",
    schema: {
      $id: "https://example.com/root",
      properties: { a: { $ref: "#here" }, b: { $ref: "part" } },
      $defs: { x: { $anchor: "here", type: "integer" }, y: { $id: "part", type: "string" } },
    },
    valid: [{ a: 1, b: "x" }],
    invalid: [{ a: "x" }, { b: 1 }],
  },
  {
    name: "unevaluatedProperties over allOf",
    schema: {
      allOf: [{ properties: { a: { type: "integer" } } }],
      properties: { b: { type: "string" } },
      unevaluatedProperties: false,
      type: "object",
    },
    valid: [{ b: "x", a: 1 }],
    invalid: [{ c: 1 }, { a: "x" }],
  },
  {
    name: "unevaluatedProperties beside anyOf",
    schema: {
      type: "object",
      properties: { a: { type: "integer" } },
      anyOf: [
        { properties: { b: { type: "string" } }, required: ["b"] },
        { properties: { c: true }, required: ["c"] },
      ],
      unevaluatedProperties: false,
    },
    valid: [{ b: "x" }, { a: 1, c: 2 }, { b: "x", c: 1 }],
    invalid: [{ a: 1 }, { b: "x", d: 1 }, { b: 5, c: 1 }, { c: 1, a: 1, e: 2 }],
  },
  {
    name: "unevaluatedProperties beside if and dependentSchemas",
    schema: {
      type: "object",
      if: { properties: { kind: { const: "x" } }, required: ["kind"] },
      // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
      then: { properties: { x: { type: "integer" } } },
      else: { properties: { kind: true, y: { type: "integer" } } },
      dependentSchemas: { z: { properties: { z: { type: "boolean" }, w: true } } },
      unevaluatedProperties: { type: "null" },
    },
    valid: [{ kind: "x", x: 1 }, { kind: "q", y: 1 }, { y: 2 }, { z: true, w: 5, q: null }, { kind: "x", y: null }],
    invalid: [{ kind: "x", y: 1 }, { x: 1 }, { w: 5 }, { z: 1 }],
  },
  {
    // With contains: in the test suite, where ajv would disagree.
    name: "unevaluatedItems beside oneOf",
    schema: {
      type: "array",
      oneOf: [{ prefixItems: [{ const: "a" }, true] }, { prefixItems: [{ const: "b" }] }],
      unevaluatedItems: { type: "string" },
      minItems: 1,
    },
    valid: [["a", null, "s"], ["b", "s", "t"], ["a", 5], ["b"]],
    invalid: [["a", null, null, "s"], ["b", null], ["c"], ["a", 1, 2]],
  },
];
