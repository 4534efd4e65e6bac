/** A schema document: its dialect, and where references lead. */
import { SglangError } from "../core/errors.js";
import type { JsonObject, JsonValue } from "./json-text.js";
import { HOLDS_NAMED_SCHEMAS, HOLDS_SCHEMAS } from "./schema-keywords.js";

/** Later drafts know more keywords; the number is the draft's, 2019 and 2020 for the dated ones. */
type Draft = 3 | 4 | 6 | 7 | 2019 | 2020;

const SINCE: Readonly<Record<string, Draft>> = {
  const: 6,
  contains: 6,
  propertyNames: 6,
  if: 7,
  prefixItems: 2020,
};

export interface Resolved {
  readonly node: JsonValue;
  readonly pointer: string;
  readonly base: string;
}

/** Identifies a document that has no `$id` of its own. */
const ANONYMOUS = "schema://document/";

export class SchemaDocument {
  readonly root: JsonValue;
  readonly draft: Draft;
  readonly baseUri: string;
  /** Whether `$schema` was there to say the draft; without it keywords of all drafts are understood. */
  readonly #explicit: boolean;
  #index: Map<string, Resolved> | undefined;
  readonly #dynamicAnchors = new Map<string, number>();

  /** @throws SglangError INVALID_REQUEST for a `$schema` we do not know. */
  constructor(root: JsonValue) {
    this.root = root;
    const named = root instanceof Map ? root.get("$schema") : undefined;
    this.#explicit = named !== undefined;
    this.draft = named === undefined ? 2020 : draftOf(named);
    this.baseUri = root instanceof Map ? this.baseOf(root, ANONYMOUS) : ANONYMOUS;
  }

  /** Up to draft 7 a `$ref` makes its neighbours meaningless. */
  get refHidesSiblings(): boolean {
    return this.draft <= 7;
  }

  /** Whether the dialect knows the keyword. */
  has(keyword: string): boolean {
    return !this.#explicit || (SINCE[keyword] ?? 3) <= this.draft;
  }

  /** Base URI inside `node`, which lies in a schema with base `outer`. */
  baseOf(node: JsonObject, outer: string): string {
    const id = node.get("$id") ?? (this.#oldIds ? node.get("id") : undefined);
    if (typeof id !== "string" || id.startsWith("#")) return outer;
    if (this.refHidesSiblings && node.has("$ref")) return outer;
    return join(id, outer) ?? outer;
  }

  get #oldIds(): boolean {
    return this.draft <= 4;
  }

  /** @returns undefined when it leads nowhere in this document, "dynamic" when the target depends on the path. */
  resolve(reference: string, base: string, keyword: string): Resolved | "dynamic" | undefined {
    if (reference === "#" || reference.startsWith("#/")) {
      const at = this.#resources().get(base);
      return at === undefined ? undefined : this.#follow(at, reference.slice(1));
    }
    const full = join(reference, base);
    if (full === undefined) return undefined;
    const [resource = "", fragment = ""] = full.split("#");
    const index = this.#resources();
    if (keyword === "$dynamicRef" && (this.#dynamicAnchors.get(fragment) ?? 0) > 1) return "dynamic";
    if (fragment === "" || fragment.startsWith("/")) {
      const at = index.get(resource);
      return at === undefined ? undefined : this.#follow(at, fragment);
    }
    return index.get(full);
  }

  #follow(from: Resolved, pointer: string): Resolved | undefined {
    let { node, base } = from;
    if (pointer === "") return from;
    for (const raw of pointer.slice(1).split("/")) {
      const part = decode(raw).replaceAll("~1", "/").replaceAll("~0", "~");
      let next: JsonValue | undefined;
      if (node instanceof Map) next = node.get(part);
      else if (Array.isArray(node) && /^\d+$/.test(part)) next = node[Number(part)];
      if (next === undefined) return undefined;
      node = next;
      if (node instanceof Map) base = this.baseOf(node, base);
    }
    return { node, base, pointer: `${from.pointer}${pointer}` };
  }

  /** All identified places: absolute URIs, with `#name` for anchors. Made on the first reference. */
  #resources(): Map<string, Resolved> {
    if (this.#index !== undefined) return this.#index;
    const index = new Map<string, Resolved>();
    this.#index = index;
    const add = (uri: string, found: Resolved): void => {
      if (!index.has(uri)) index.set(uri, found);
    };
    const visit = (node: JsonValue, pointer: string, outer: string): void => {
      if (Array.isArray(node)) {
        for (const [i, item] of node.entries()) visit(item, `${pointer}/${i}`, outer);
      }
      if (!(node instanceof Map)) return;
      const base = this.baseOf(node, outer);
      const here = { node, pointer, base };
      if (base !== outer) add(base, here);
      const id = node.get("$id") ?? (this.#oldIds ? node.get("id") : undefined);
      if (typeof id === "string" && id.startsWith("#") && id.length > 1) add(`${base}${id}`, here);
      for (const keyword of ["$anchor", "$dynamicAnchor"]) {
        const anchor = node.get(keyword);
        if (typeof anchor !== "string") continue;
        add(`${base}#${anchor}`, here);
        if (keyword === "$dynamicAnchor") this.#dynamicAnchors.set(anchor, (this.#dynamicAnchors.get(anchor) ?? 0) + 1);
      }
      const escaped = (key: string): string => key.replaceAll("~", "~0").replaceAll("/", "~1");
      for (const [key, value] of node) {
        const at = `${pointer}/${escaped(key)}`;
        if (HOLDS_SCHEMAS.has(key)) visit(value, at, base);
        else if (HOLDS_NAMED_SCHEMAS.has(key) && value instanceof Map)
          for (const [name, schema] of value) visit(schema, `${at}/${escaped(name)}`, base);
      }
    };
    add(this.baseUri, { node: this.root, pointer: "#", base: this.baseUri });
    visit(this.root, "#", ANONYMOUS);
    return index;
  }
}

function draftOf(name: JsonValue): Draft {
  const found = typeof name === "string" ? /draft[-/](?:0?([34567])|(2019|2020))/.exec(name) : null;
  const number = Number(found?.[1] ?? found?.[2]);
  if (number === 5) return 4;
  if (number === 3 || number === 4 || number === 6 || number === 7 || number === 2019 || number === 2020) return number;
  if (typeof name === "string" && /^https?:\/\/json-schema\.org\/(?:draft\/)?schema#?$/.test(name)) return 2020;
  const shown = JSON.stringify(name);
  throw new SglangError(
    "UNSUPPORTED",
    `#/$schema names no known dialect: expected draft 4, 6, 7, 2019-09 or 2020-12, got ${shown}.`,
    {
      field: "#/$schema",
      expected: "draft 4, 6, 7, 2019-09 or 2020-12",
      found: shown,
    },
  );
}

/** `reference` resolved against `base`, without an empty fragment; undefined when it is not a URI. */
function join(reference: string, base: string): string | undefined {
  try {
    return new URL(reference, base).href.replace(/#$/, "");
  } catch {
    return undefined;
  }
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
