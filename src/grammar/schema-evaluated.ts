/**
 * What counts as evaluated beside `unevaluatedProperties` and `unevaluatedItems`: the keywords of the schema itself and of
 * all that apply with it (`allOf`, `$ref`), and of those that apply to some values only (`anyOf`, `oneOf`, `if`,
 * `dependentSchemas`). The latter give alternatives: "if these conditions hold, these schemas evaluate".
 *
 * An alternative may know less than there is, never more: a value that fulfils its conditions has at least that much
 * evaluated, and for every value there is one with all that it has. So the keyword means that one of them accepts.
 */
import type { JsonObject, JsonValue } from "./json-text.js";

/** A schema in its document. */
export interface Place {
  readonly node: JsonValue;
  readonly pointer: string;
  readonly base: string;
}

export type Condition =
  | { readonly kind: "holds" | "fails"; readonly place: Place }
  | { readonly kind: "has"; readonly name: string };

export interface Evaluated {
  readonly conditions: readonly Condition[];
  /** Schemas whose own keywords evaluate. */
  readonly by: readonly { readonly node: JsonObject; readonly pointer: string; readonly base: string }[];
}

export interface EvaluatedOptions {
  /** Keywords that evaluate. */
  readonly keywords: readonly string[];
  /** Where a reference leads; undefined where something else will complain. */
  resolve(keyword: string, target: JsonValue, from: Place): Place | undefined;
  /** There are too many alternatives. */
  refuse(): never;
}

const MAX_ALTERNATIVES = 256;
const NOTHING: Evaluated = { conditions: [], by: [] };

export function evaluations(start: Place, options: EvaluatedOptions): readonly Evaluated[] {
  return visit(start, new Set(), options);
}

function visit(place: Place, path: ReadonlySet<JsonValue>, options: EvaluatedOptions): readonly Evaluated[] {
  const { node, pointer, base } = place;
  if (!(node instanceof Map) || path.has(node)) return [NOTHING];
  const within = new Set([...path, node]);
  const inside = (child: JsonValue | undefined, ...at: (string | number)[]): Place => {
    const suffix = at.map((part) => `/${String(part).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
    return { node: child ?? true, pointer: pointer + suffix, base };
  };
  const seen = (child: Place): readonly Evaluated[] => visit(child, within, options);
  const given = (conditions: readonly Condition[], list: readonly Evaluated[]): Evaluated[] =>
    list.map((one) => ({ ...one, conditions: [...conditions, ...one.conditions] }));
  const when = (child: Place): Evaluated[] => given([{ kind: "holds", place: child }], seen(child)).filter(evaluates);
  const list = (keyword: string): Place[] => {
    const parts = node.get(keyword);
    return Array.isArray(parts) ? parts.map((part, i) => inside(part, keyword, i)) : [];
  };

  let out: readonly Evaluated[] = options.keywords.some((keyword) => node.has(keyword))
    ? [{ conditions: [], by: [{ node, pointer, base }] }]
    : [NOTHING];
  const and = (other: readonly Evaluated[]): void => {
    if (!other.some(evaluates)) return;
    out = product(out, other);
    if (out.length > MAX_ALTERNATIVES) options.refuse();
  };
  for (const part of list("allOf")) and(seen(part));
  for (const keyword of ["$ref", "$dynamicRef", "$recursiveRef"]) {
    const target = node.get(keyword);
    const found = target === undefined ? undefined : options.resolve(keyword, target, place);
    if (found) and(seen(found));
  }
  for (const part of list("anyOf")) and([NOTHING, ...when(part)]);
  and([NOTHING, ...list("oneOf").flatMap(when)]);
  if (node.has("if")) {
    const condition = inside(node.get("if"), "if");
    const yes = node.has("then") ? product(seen(condition), seen(inside(node.get("then"), "then"))) : seen(condition);
    const no = node.has("else") ? seen(inside(node.get("else"), "else")) : [NOTHING];
    and([
      NOTHING,
      ...given([{ kind: "holds", place: condition }], yes).filter(evaluates),
      ...given([{ kind: "fails", place: condition }], no).filter(evaluates),
    ]);
  }
  const dependent = node.get("dependentSchemas");
  if (dependent instanceof Map) {
    for (const [name, child] of dependent)
      and([
        NOTHING,
        ...given([{ kind: "has", name }], seen(inside(child, "dependentSchemas", name))).filter(evaluates),
      ]);
  }
  return out;
}

const evaluates = ({ by }: Evaluated): boolean => by.length > 0;

function product(left: readonly Evaluated[], right: readonly Evaluated[]): Evaluated[] {
  return left.flatMap((a) =>
    right.map((b) => ({ conditions: [...a.conditions, ...b.conditions], by: [...a.by, ...b.by] })),
  );
}
