/**
 * The values of JSON Schema's `format` as expressions over the decoded text. Each follows the RFC that the specification
 * names, as far as that is a regular language; where it is not, the set is narrower and says so, never wider.
 *
 * An unknown format is an annotation by the specification: {@link formatExpression} returns null for it.
 */
import { SglangError } from "../core/errors.js";
import { ANY_CHARACTER, choice, type Expression, intersect, repeat, sequence, text } from "./ir.js";
import { regexToExpression } from "./regex.js";
import { regexFormat } from "./regex-format.js";

export interface Format {
  /** Where the syntax is defined. */
  source: string;
  /** How the expression differs from it, or why there is none. */
  note?: string;
  /** Absent: the format can't be enforced, and asking for it is refused. */
  make?: () => Expression;
}

const regex = (pattern: string): Expression => regexToExpression(pattern, "u");
const atMost = (characters: number): Expression => repeat(ANY_CHARACTER, 0, characters);
const two = (value: number): string => String(value).padStart(2, "0");

const LEAP_YEAR = "(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)";
const DATE =
  "(?:\\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))" +
  `|${LEAP_YEAR}-02-29)`;
const TIME = "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d+)?(?:[zZ]|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)";

/** Second 60 is 23:59:60 in UTC: for every offset there is one local hour and minute. */
function leapSeconds(): Expression {
  const times = ["23:59:60Z", "23:59:60z"];
  for (let offset = 0; offset < 1440; offset++) {
    const spelled = `${two(Math.floor(offset / 60))}:${two(offset % 60)}`;
    for (const [sign, local] of [
      ["+", (1439 + offset) % 1440],
      ["-", (1439 - offset + 1440) % 1440],
    ] as const)
      times.push(`${two(Math.floor(local / 60))}:${two(local % 60)}:60${sign}${spelled}`);
  }
  return choice(...times.map(text));
}

const fullTime = (): Expression => choice(regex(TIME), leapSeconds());

const DURATION_TIME = "T(?:\\d+H(?:\\d+M(?:\\d+S)?)?|\\d+M(?:\\d+S)?|\\d+S)";
const DURATION = `P(?:(?:\\d+D|\\d+M(?:\\d+D)?|\\d+Y(?:\\d+M(?:\\d+D)?)?)(?:${DURATION_TIME})?|${DURATION_TIME}|\\d+W)`;

const OCTET = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
const IPV4 = `${OCTET}(?:\\.${OCTET}){3}`;
const H16 = "[0-9A-Fa-f]{1,4}";
const LS32 = `(?:${H16}:${H16}|${IPV4})`;
/** RFC 3986, IPv6address: one line per number of groups before the double colon. */
const IPV6 = `(?:${[
  `(?:${H16}:){6}${LS32}`,
  `::(?:${H16}:){5}${LS32}`,
  `(?:${H16})?::(?:${H16}:){4}${LS32}`,
  `(?:(?:${H16}:){0,1}${H16})?::(?:${H16}:){3}${LS32}`,
  `(?:(?:${H16}:){0,2}${H16})?::(?:${H16}:){2}${LS32}`,
  `(?:(?:${H16}:){0,3}${H16})?::${H16}:${LS32}`,
  `(?:(?:${H16}:){0,4}${H16})?::${LS32}`,
  `(?:(?:${H16}:){0,5}${H16})?::${H16}`,
  `(?:(?:${H16}:){0,6}${H16})?::`,
].join("|")})`;

function hostname(): Expression {
  const label = regex(LABEL);
  return intersect(sequence(label, repeat(sequence(text("."), label), 0, Number.POSITIVE_INFINITY)), atMost(253));
}

/**
 * A label without the reserved form `??--`, where only decoding could tell valid A-labels from others. By cases: at most
 * three characters, or a third and fourth that are not both hyphens.
 */
const LABEL =
  "[A-Za-z0-9](?:[A-Za-z0-9]|[A-Za-z0-9-][A-Za-z0-9])?" +
  "|[A-Za-z0-9][A-Za-z0-9-](?:[A-Za-z0-9][A-Za-z0-9-]|-[A-Za-z0-9])(?:[A-Za-z0-9-]{0,58}[A-Za-z0-9])" +
  "|[A-Za-z0-9][A-Za-z0-9-][A-Za-z0-9-][A-Za-z0-9]";

function email(): Expression {
  const atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~\\-]+";
  const quoted = '"(?:[ !#-\\[\\]-~]|\\\\[ -~])*"';
  const local = intersect(regex(`${atom}(?:\\.${atom})*|${quoted}`), atMost(64));
  const literal = regex(`\\[(?:${IPV4}|[Ii][Pp][Vv]6:${IPV6})\\]`);
  return sequence(local, text("@"), choice(hostname(), literal));
}

/** RFC 3986 and RFC 3987 differ in the characters alone: `more` is added to unreserved ones, `privateUse` to queries. */
function uri(kind: "absolute" | "reference", more: string, privateUse: string): Expression {
  const unreserved = `A-Za-z0-9\\-._~${more}`;
  const subDelims = "!$&'()*+,;=";
  const percent = "%[0-9A-Fa-f]{2}";
  const pchar = `(?:[${unreserved}${subDelims}:@]|${percent})`;
  const segmentNoColon = `(?:[${unreserved}${subDelims}@]|${percent})+`;
  const queryOrFragment = (extra: string): string => `(?:[${unreserved}${subDelims}:@/?${extra}]|${percent})*`;
  const userinfo = `(?:[${unreserved}${subDelims}:]|${percent})*@`;
  const future = `[vV][0-9A-Fa-f]+\\.[A-Za-z0-9\\-._~${subDelims}:]+`;
  const host = `(?:\\[(?:${IPV6}|${future})\\]|(?:[${unreserved}${subDelims}]|${percent})*)`;
  const authority = `(?:${userinfo})?${host}(?::\\d*)?`;
  const abempty = `(?:/${pchar}*)*`;
  const absolute = `/(?:${pchar}+(?:/${pchar}*)*)?`;
  const rootless = `${pchar}+(?:/${pchar}*)*`;
  const noScheme = `${segmentNoColon}(?:/${pchar}*)*`;
  const tail = `(?:\\?${queryOrFragment(privateUse)})?(?:#${queryOrFragment("")})?`;
  const full = `[A-Za-z][A-Za-z0-9+.\\-]*:(?://${authority}${abempty}|${absolute}|${rootless}|)${tail}`;
  if (kind === "absolute") return regex(full);
  return regex(`${full}|(?://${authority}${abempty}|${absolute}|${noScheme}|)${tail}`);
}

/** RFC 3987, ucschar and iprivate. */
const UCSCHAR =
  "\\u{A0}-\\u{D7FF}\\u{F900}-\\u{FDCF}\\u{FDF0}-\\u{FFEF}" +
  Array.from({ length: 13 }, (_, i) => `\\u{${(i + 1).toString(16)}0000}-\\u{${(i + 1).toString(16)}FFFD}`).join("") +
  "\\u{E1000}-\\u{EFFFD}";
const IPRIVATE = "\\u{E000}-\\u{F8FF}\\u{F0000}-\\u{FFFFD}\\u{100000}-\\u{10FFFD}";

function uriTemplate(): Expression {
  const percent = "%[0-9A-Fa-f]{2}";
  const varchar = `(?:[A-Za-z0-9_]|${percent})`;
  const varspec = `${varchar}(?:\\.?${varchar})*(?::[1-9]\\d{0,3}|\\*)?`;
  const literal = `[!#$&(-;=?-\\[\\]_a-z~${UCSCHAR}${IPRIVATE}]|${percent}`;
  return regex(`(?:${literal}|\\{[+#./;?&=,!@|]?${varspec}(?:,${varspec})*\\})*`);
}

const JSON_POINTER = "(?:/(?:[^/~]|~[01])*)*";

/** Every format of drafts 4 to 2020-12. */
export const FORMATS: Readonly<Record<string, Format>> = {
  "date-time": {
    source: "RFC 3339, date-time",
    note: "leap seconds without fraction",
    make: () => sequence(regex(`${DATE}[Tt]`), fullTime()),
  },
  date: { source: "RFC 3339, full-date", make: () => regex(DATE) },
  time: { source: "RFC 3339, full-time", note: "leap seconds without fraction", make: fullTime },
  duration: { source: "RFC 3339, appendix A", make: () => regex(DURATION) },
  email: { source: "RFC 5321, Mailbox", note: "host names as in hostname", make: email },
  hostname: {
    source: "RFC 1123, section 2.1",
    note: "without labels of the reserved form ??--, such as xn--",
    make: hostname,
  },
  ipv4: { source: "RFC 2673, section 3.2", make: () => regex(IPV4) },
  ipv6: { source: "RFC 4291, section 2.2", make: () => regex(IPV6) },
  uri: { source: "RFC 3986, URI", make: () => uri("absolute", "", "") },
  "uri-reference": { source: "RFC 3986, URI-reference", make: () => uri("reference", "", "") },
  iri: { source: "RFC 3987, IRI", make: () => uri("absolute", UCSCHAR, IPRIVATE) },
  "iri-reference": { source: "RFC 3987, IRI-reference", make: () => uri("reference", UCSCHAR, IPRIVATE) },
  "uri-template": { source: "RFC 6570", make: uriTemplate },
  uuid: { source: "RFC 4122", make: () => regex("[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}") },
  "json-pointer": { source: "RFC 6901", make: () => regex(JSON_POINTER) },
  "relative-json-pointer": {
    source: "draft-handrews-relative-json-pointer-01",
    make: () => regex(`(?:0|[1-9]\\d*)(?:#|${JSON_POINTER})`),
  },
  regex: {
    source: "ECMA-262, with the flag u",
    note: "at most four groups within each other; without back-references, named groups, and ranges other than of digits or letters of one case",
    make: regexFormat,
  },
  "idn-email": { source: "RFC 6531", note: "IDNA rules need tables of whole labels" },
  "idn-hostname": { source: "RFC 5890", note: "IDNA rules need tables of whole labels" },
};

const made = new Map<string, Expression>();

/**
 * The texts of a format, or null if the format is unknown and therefore says nothing.
 * Throws INVALID_REQUEST for a known format that can't be enforced.
 */
export function formatExpression(name: string): Expression | null {
  const known = made.get(name);
  if (known) return known;
  const format = Object.hasOwn(FORMATS, name) ? FORMATS[name] : undefined;
  if (!format) return null;
  if (!format.make)
    throw new SglangError(
      "INVALID_REQUEST",
      `format "${name}" can't be enforced: ${format.note}; leave it out or use a pattern.`,
      { field: "format", expected: "a format that is a regular language", found: name },
    );
  const expression = format.make();
  made.set(name, expression);
  return expression;
}
