/**
 * The parts of Python that chat templates lean on and @huggingface/jinja lacks or does otherwise: string methods
 * (its `strip("\n")` ignores the argument and takes all whitespace), `tojson` as transformers defines it over
 * json.dumps, `strftime_now` in the C locale.
 *
 * Templates are parsed by the library; `usePythonSemantics` then turns `x.strip(y)` and `x | tojson(y)` in the syntax
 * tree into calls of the functions here, which {@link PYTHON_GLOBALS} puts into the environment.
 */
import { parse, tokenize } from "@huggingface/jinja";

/** A node of the library's syntax tree, as far as it is touched here. */
export interface Node {
  type: string;
  [field: string]: unknown;
}

/** A value inside the library's interpreter. */
interface RuntimeValue {
  type: string;
  value: unknown;
}

const METHOD_PREFIX = "__str_";
const TO_JSON = "__tojson";

/** Rewrites `program` in place. */
export function usePythonSemantics(program: unknown): void {
  visitNodes(program, (node) => {
    if (node.type === "CallExpression") rewriteMethod(node);
    if (node.type === "FilterExpression") rewriteToJson(node);
  });
}

/** Calls `visit` for every node, parents after children. */
export function visitNodes(value: unknown, visit: (node: Node) => void): void {
  if (Array.isArray(value)) {
    for (const item of value) visitNodes(item, visit);
  } else if (value instanceof Map) {
    for (const [key, item] of value) {
      visitNodes(key, visit);
      visitNodes(item, visit);
    }
  } else if (typeof value === "object" && value !== null) {
    for (const item of Object.values(value)) visitNodes(item, visit);
    if (typeof (value as Node).type === "string") visit(value as Node);
  }
}

/** `object.method(args)` becomes `__str_method(object, args)`. */
function rewriteMethod(node: Node): void {
  const callee = node.callee as Node;
  if (callee.type !== "MemberExpression" || callee.computed === true) return;
  const method = (callee.property as Node).value;
  if (typeof method !== "string" || !Object.hasOwn(STRING_METHODS, method)) return;
  node.args = [callee.object, ...(node.args as unknown[])];
  node.callee = expression(METHOD_PREFIX + method);
}

/** `value | tojson(args)` becomes `__tojson([value], args)`: a list keeps the types of its items, a bare argument loses it. */
function rewriteToJson(node: Node): void {
  const filter = node.filter as Node;
  const called = filter.type === "CallExpression";
  const name = called ? (filter.callee as Node).value : filter.value;
  if (name !== "tojson") return;
  const wrapped = expression("[x]") as { value: unknown[] };
  wrapped.value = [node.operand];
  const args = [wrapped, ...(called ? (filter.args as unknown[]) : [])];
  delete node.operand;
  delete node.filter;
  node.type = "CallExpression";
  node.callee = expression(TO_JSON);
  node.args = args;
}

/** The syntax tree of an expression, as the library's own parser makes it. */
function expression(source: string): unknown {
  return (parse(tokenize(`{{ ${source} }}`)) as unknown as { body: unknown[] }).body[0];
}

// --- strings -------------------------------------------------------------------------------------------------------

/** What Python's str.isspace calls a space; JavaScript's trim differs in U+001C..1F, U+0085 and U+FEFF. */
const PYTHON_SPACES: ReadonlySet<string> = new Set(
  "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000",
);

/** Where str.splitlines cuts. */
const LINE_END = "\\r\\n|[\\n\\r\\v\\f\\x1c-\\x1e\\x85\\u2028\\u2029]";

function strip(text: string, chars: string | null | undefined, left: boolean, right: boolean): string {
  const points = Array.from(text);
  const set = chars === null || chars === undefined ? PYTHON_SPACES : new Set(chars);
  const drop = (char: string): boolean => set.has(char);
  let start = 0;
  let end = points.length;
  while (left && start < end && drop(points[start]!)) start++;
  while (right && end > start && drop(points[end - 1]!)) end--;
  return points.slice(start, end).join("");
}

/** Trims what Python's `str.rstrip()` trims. */
export function rstrip(text: string): string {
  return strip(text, null, false, true);
}

/** Trims what Python's `str.strip()` trims. */
export function stripBoth(text: string): string {
  return strip(text, null, true, true);
}

function words(text: string): string[] {
  const found: string[] = [];
  let word = "";
  for (const char of text) {
    if (!PYTHON_SPACES.has(char)) word += char;
    else if (word !== "") {
      found.push(word);
      word = "";
    }
  }
  return word === "" ? found : [...found, word];
}

function rsplit(text: string, separator: string | null | undefined, limit = -1): string[] {
  const parts = separator ? text.split(separator) : words(text);
  if (limit < 0 || parts.length <= limit + 1) return parts;
  if (separator) return [parts.slice(0, parts.length - limit).join(separator), ...parts.slice(parts.length - limit)];
  const tail: string[] = [];
  let rest = rstrip(text);
  while (tail.length < limit) {
    const word = parts[parts.length - 1 - tail.length]!;
    rest = rstrip(rest.slice(0, rest.length - word.length));
    tail.unshift(word);
  }
  return [rest, ...tail];
}

function count(text: string, part: string): number {
  return part === "" ? Array.from(text).length + 1 : text.split(part).length - 1;
}

type StringMethod = (text: string, ...args: never[]) => unknown;

const STRING_METHODS: Readonly<Record<string, StringMethod>> = {
  strip: (text, chars?: string | null) => strip(text, chars, true, true),
  lstrip: (text, chars?: string | null) => strip(text, chars, true, false),
  rstrip: (text, chars?: string | null) => strip(text, chars, false, true),
  rsplit: (text, separator?: string | null, limit?: number) => rsplit(text, separator, limit),
  splitlines: (text) =>
    text === "" ? [] : text.replace(new RegExp(`(?:${LINE_END})$`), "").split(new RegExp(LINE_END)),
  find: (text, part: string) => pointIndex(text, text.indexOf(part)),
  rfind: (text, part: string) => pointIndex(text, text.lastIndexOf(part)),
  count: (text, part: string) => count(text, part),
  removeprefix: (text, prefix: string) => (text.startsWith(prefix) ? text.slice(prefix.length) : text),
  removesuffix: (text, suffix: string) =>
    suffix !== "" && text.endsWith(suffix) ? text.slice(0, -suffix.length) : text,
  isdigit: (text) => /^\p{Nd}+$/u.test(text),
  isspace: (text) => text !== "" && stripBoth(text) === "",
};

/** Python counts code points, JavaScript UTF-16 units. */
function pointIndex(text: string, index: number): number {
  return index <= 0 ? index : Array.from(text.slice(0, index)).length;
}

function callMethod(name: string, args: readonly unknown[]): unknown {
  const [text, ...rest] = args;
  if (typeof text !== "string")
    throw new Error(`the template calls .${name}() on ${describe(text)}, which is not a string`);
  return (STRING_METHODS[name] as (text: string, ...rest: unknown[]) => unknown)(text, ...rest);
}

function describe(value: unknown): string {
  if (value === null) return "none";
  if (value instanceof Map) return "a mapping";
  return Array.isArray(value) ? "a list" : `a value of type ${typeof value}`;
}

// --- tojson --------------------------------------------------------------------------------------------------------

interface JsonStyle {
  ensureAscii: boolean;
  indent: string | null;
  item: string;
  key: string;
  sortKeys: boolean;
}

/** `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`. */
function toJson(...args: unknown[]): string {
  const [list, ...rest] = args;
  const value = (list as RuntimeValue[])[0]!;
  const last = rest.at(-1);
  const named = last instanceof Map ? (last as Map<string, RuntimeValue>) : new Map<string, RuntimeValue>();
  const positional = last instanceof Map ? rest.slice(0, -1) : rest;
  const option = (index: number, name: string): unknown => positional[index] ?? named.get(name)?.value;
  const indent = option(1, "indent");
  const separators = option(2, "separators") as RuntimeValue[] | undefined;
  const indented = typeof indent === "number" || typeof indent === "string";
  return dump(
    value,
    {
      ensureAscii: option(0, "ensure_ascii") === true,
      indent: typeof indent === "number" ? " ".repeat(Math.max(0, indent)) : indented ? (indent as string) : null,
      item: separators ? String(separators[0]!.value) : indented ? "," : ", ",
      key: separators ? String(separators[1]!.value) : ": ",
      sortKeys: option(3, "sort_keys") === true,
    },
    "\n",
  );
}

/** @param line newline and indentation of the enclosing level. */
function dump({ type, value }: RuntimeValue, style: JsonStyle, line: string): string {
  if (type === "NullValue") return "null";
  if (typeof value === "boolean") return value ? "true" : "false";
  if (typeof value === "string") return quote(value, style.ensureAscii);
  if (typeof value === "number") return type === "IntegerValue" ? integer(value) : pythonFloat(value);
  const inner = style.indent === null ? "" : line + style.indent;
  const outer = style.indent === null ? "" : line;
  const child = (item: RuntimeValue): string => dump(item, style, line + (style.indent ?? ""));
  if (Array.isArray(value)) {
    if (value.length === 0) return "[]";
    return `[${inner}${value.map(child).join(style.item + inner)}${outer}]`;
  }
  if (value instanceof Map) {
    const entries = [...(value as Map<string, RuntimeValue>)];
    if (entries.length === 0) return "{}";
    if (style.sortKeys) entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    const members = entries.map(([key, item]) => `${quote(key, style.ensureAscii)}${style.key}${child(item)}`);
    return `{${inner}${members.join(style.item + inner)}${outer}}`;
  }
  throw new Error(`tojson got ${value === undefined ? "an undefined value" : "a function"}`);
}

function quote(text: string, ensureAscii: boolean): string {
  const quoted = JSON.stringify(text);
  if (!ensureAscii) return quoted;
  return quoted.replace(/[\x7f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function integer(value: number): string {
  return Object.is(value, -0) ? "0" : BigInt(value).toString();
}

/** repr(float): shortest digits, exponent from 1e16 up and below 1e-4, two exponent digits at least. */
function pythonFloat(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "Infinity" : "-Infinity";
  if (Object.is(value, -0)) return "-0.0";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e16 || size < 1e-4)) {
    return value.toExponential().replace(/e([+-])(\d)$/, "e$10$2");
  }
  const text = String(value);
  return text.includes(".") ? text : `${text}.0`;
}

// --- time ----------------------------------------------------------------------------------------------------------

const DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
];

/** Python's strftime for local time, C locale. @throws Error for a directive it does not know. */
export function strftime(date: Date, format: string): string {
  const two = (n: number): string => String(n).padStart(2, "0");
  const hour12 = date.getHours() % 12 === 0 ? 12 : date.getHours() % 12;
  const dayOfYear =
    Math.round(
      (new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime() -
        new Date(date.getFullYear(), 0, 1).getTime()) /
        86_400_000,
    ) + 1;
  const fields: Record<string, string> = {
    Y: String(date.getFullYear()),
    y: two(date.getFullYear() % 100),
    m: two(date.getMonth() + 1),
    d: two(date.getDate()),
    B: MONTHS[date.getMonth()]!,
    b: MONTHS[date.getMonth()]!.slice(0, 3),
    A: DAYS[date.getDay()]!,
    a: DAYS[date.getDay()]!.slice(0, 3),
    H: two(date.getHours()),
    I: two(hour12),
    M: two(date.getMinutes()),
    S: two(date.getSeconds()),
    p: date.getHours() < 12 ? "AM" : "PM",
    j: String(dayOfYear).padStart(3, "0"),
    "%": "%",
  };
  return format.replace(/%(-?)([A-Za-z%])/g, (directive, bare: string, name: string) => {
    const text = fields[name];
    if (text === undefined) throw new Error(`strftime_now does not know ${directive}`);
    return bare === "-" ? text.replace(/^0+(?=\d)/, "") : text;
  });
}

/** Functions for the interpreter's environment; arguments arrive as plain values, lists and Maps of runtime values. */
export const PYTHON_GLOBALS: Readonly<Record<string, unknown>> = {
  [TO_JSON]: toJson,
  ...Object.fromEntries(
    Object.keys(STRING_METHODS).map((name) => [METHOD_PREFIX + name, (...args: unknown[]) => callMethod(name, args)]),
  ),
};
