/** The keywords of JSON Schema and what becomes of each: the table that the documentation shows and the reader goes by. */

export interface Keyword {
  /** `enforced` exactly; `annotation`: restricts nothing by its definition; `reported`: an annotation people may take for a rule. */
  readonly status: "enforced" | "annotation" | "reported";
  /** When it is refused all the same, or what is particular. */
  readonly note?: string;
}

const ENFORCED: Keyword = { status: "enforced" };
const ANNOTATION: Keyword = { status: "annotation" };
const enforced = (note: string): Keyword => ({ status: "enforced", note });

export const KEYWORDS: ReadonlyMap<string, Keyword> = new Map<string, Keyword>(
  Object.entries({
    type: ENFORCED,
    enum: ENFORCED,
    const: ENFORCED,
    properties: ENFORCED,
    required: ENFORCED,
    additionalProperties: ENFORCED,
    patternProperties: enforced("refused where its patterns overlap in more than 64 ways"),
    propertyNames: ENFORCED,
    minProperties: enforced("refused where two or more undeclared keys would have to be counted"),
    maxProperties: ENFORCED,
    items: ENFORCED,
    additionalItems: ENFORCED,
    prefixItems: ENFORCED,
    contains: enforced("at most 4 of them in one array"),
    minContains: ENFORCED,
    maxContains: ENFORCED,
    minItems: ENFORCED,
    maxItems: ENFORCED,
    uniqueItems: enforced("over items out of at most 256 known scalars; refused otherwise, and under negation"),
    minLength: ENFORCED,
    maxLength: ENFORCED,
    pattern: enforced("ECMAScript syntax; back-references are refused"),
    format: enforced(
      "the defined formats; `regex` cut off at a depth; `idn-email` and `idn-hostname` are refused, unknown names are reported",
    ),
    minimum: ENFORCED,
    maximum: ENFORCED,
    exclusiveMinimum: ENFORCED,
    exclusiveMaximum: ENFORCED,
    multipleOf: enforced("refused when the divisor has too many digits"),
    allOf: ENFORCED,
    anyOf: ENFORCED,
    oneOf: ENFORCED,
    not: ENFORCED,
    if: ENFORCED,
    // biome-ignore lint/suspicious/noThenProperty: a JSON Schema keyword.
    then: ENFORCED,
    else: ENFORCED,
    dependentRequired: ENFORCED,
    dependentSchemas: ENFORCED,
    dependencies: ENFORCED,
    unevaluatedProperties: enforced(
      "refused where what is evaluated depends on the value in more than 256 ways, and beside a dynamic `$dynamicRef`",
    ),
    unevaluatedItems: enforced(
      "refused where what is evaluated depends on the value in more than 256 ways, and beside a dynamic `$dynamicRef`",
    ),
    $ref: enforced("within the document, recursion included; references to other documents are refused"),
    $dynamicRef: enforced("refused when its target depends on the path taken to it"),
    $recursiveRef: enforced("as `$ref`"),
    $schema: enforced("drafts 4, 6, 7, 2019-09, 2020-12"),
    $id: ENFORCED,
    id: ENFORCED,
    $anchor: ENFORCED,
    $dynamicAnchor: ENFORCED,
    $recursiveAnchor: ANNOTATION,
    $defs: ENFORCED,
    definitions: ENFORCED,
    $vocabulary: ANNOTATION,
    $comment: ANNOTATION,
    title: ANNOTATION,
    description: ANNOTATION,
    default: ANNOTATION,
    examples: ANNOTATION,
    deprecated: ANNOTATION,
    readOnly: ANNOTATION,
    writeOnly: ANNOTATION,
    contentEncoding: { status: "reported" },
    contentMediaType: { status: "reported" },
    contentSchema: { status: "reported" },
  }),
);

/** Keywords whose value is a schema, or an array of schemas. */
export const HOLDS_SCHEMAS: ReadonlySet<string> = new Set([
  ...["additionalItems", "additionalProperties", "allOf", "anyOf", "contains", "contentSchema", "else", "if", "items"],
  ...["not", "oneOf", "prefixItems", "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"],
]);

/** Keywords whose value is an object of schemas. */
export const HOLDS_NAMED_SCHEMAS: ReadonlySet<string> = new Set([
  ...["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"],
]);
