// `node bench/grammar-walks.mjs [--data FILE.jsonl.gz] [--seconds N] [--skip suite] [--vocab smollm2|qwen|gemma] [--walks 20] [--limit N] [--seed N] [--tokens 200]`
// Without a file: over the schemas of the JSON-Schema-Test-Suite, then over schemas made at random.
// Random walks over the masks of schemas, half of them uniform and half along the rarest token (the highest id), each
// brought to its end by budget-aware closing. Every text must parse, and must be valid for ajv. Also: valid instances are
// accepted under random segmentations, and values made at random that are accepted are valid. Exit code 1 when anything is wrong. Runs outside CI: it takes minutes.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";
import { Ajv } from "ajv";
import { Ajv2020 } from "ajv/dist/2020.js";
import ajvFormats from "ajv-formats";
import { GrammarCompiler, parseJsonText } from "../dist/grammar/index.js";
import { randomSchema, randomValue } from "./grammar-schemas.mjs";
import { openVocabulary } from "./grammar-vocabulary.mjs";

const { values } = parseArgs({
  options: {
    data: { type: "string" },
    vocab: { type: "string", default: "smollm2" },
    walks: { type: "string", default: "20" },
    limit: { type: "string", default: "10000" },
    seed: { type: "string", default: "1" },
    tokens: { type: "string", default: "200" },
    skip: { type: "string", default: "" },
    seconds: { type: "string", default: "Infinity" },
  },
});
const MAX_TOKENS = Number(values.tokens);
const vocabulary = await openVocabulary(values.vocab);
const compiler = new GrammarCompiler(vocabulary);
let state = Number(values.seed);
const random = () => {
  state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
  return state / 0x80000000;
};

const count = {
  schemas: 0,
  refused: 0,
  noOracle: 0,
  walks: 0,
  unparsable: 0,
  invalid: 0,
  stuck: 0,
  refusedValid: 0,
  judged: 0,
  misjudged: 0,
  segmentations: 0,
};
const deadline = performance.now() + Number(values.seconds) * 1000;
for (const { row, line } of rows()) {
  if (count.schemas >= Number(values.limit) || performance.now() > deadline) break;
  count.schemas++;
  let grammar;
  try {
    grammar = compiler.compile({
      kind: "json_schema",
      schema: parseJsonText(line).get("schema"),
      propertyOrder: "any",
    });
  } catch (error) {
    if (!error.isSglangError) throw error;
    count.refused++;
    continue;
  }
  const validate = oracle(row.schema);
  if (validate === undefined) count.noOracle++;
  try {
    for (let i = 0; i < Number(values.walks); i++) walk(row.id, grammar, i % 2 === 0, validate);
    if (validate !== undefined) for (let i = 0; i < row.values; i++) judge(row.id, grammar, validate);
    for (const { valid, data } of row.tests) if (valid) segment(row.id, grammar, JSON.stringify(data));
  } catch (error) {
    if (!error.isSglangError) throw error;
    console.log(`${row.id}: stopped at a limit: ${error.message}`);
  }
}
console.log(JSON.stringify(count));
if (count.unparsable + count.invalid + count.stuck + count.misjudged > 0) process.exitCode = 1;

/** Schemas with instances: `{ id, schema, tests: [{ valid, data }] }`, and the text they come from, which keeps orders. */
function* rows() {
  const textsOf = (file) => gunzipSync(readFileSync(file)).toString();
  if (values.skip === "suite") return yield* made();
  if (values.data !== undefined) {
    for (const line of textsOf(values.data).split("\n").filter(Boolean)) yield { row: JSON.parse(line), line };
    return;
  }
  const suite = JSON.parse(textsOf(new URL("../tests/grammar/suite/json-schema-test-suite.json.gz", import.meta.url)));
  for (const [file, groups] of Object.entries(suite)) {
    for (const { description, schema, tests } of groups) {
      const dialect = file.startsWith("draft7/") ? { $schema: "http://json-schema.org/draft-07/schema#" } : {};
      const dated = typeof schema === "object" ? { ...dialect, ...schema } : schema;
      // Formats restrict nothing in these files, and do here.
      const sure = file.endsWith("/format") ? [] : tests;
      const row = { id: `${file}: ${description}`, schema: dated, tests: sure };
      yield { row, line: JSON.stringify(row) };
    }
  }
  yield* made();
}

function* made() {
  for (let i = 0; ; i++) {
    const schema = { $schema: "https://json-schema.org/draft/2020-12/schema", ...asObject(randomSchema(random)) };
    const row = { id: `schema ${i} ${JSON.stringify(schema)}`, schema, tests: [], values: 40 };
    yield { row, line: JSON.stringify(row) };
  }
}

function asObject(schema) {
  return typeof schema === "object" ? schema : {};
}

function walk(id, grammar, uniform, validate) {
  const matcher = grammar.matcher();
  const bytes = [];
  for (let left = MAX_TOKENS; !matcher.mustTerminate() && (left > 0 || !matcher.canTerminate()); left--) {
    if (matcher.canTerminate() && random() < 0.2) break;
    const token = choose(matcher.mask(Math.max(1, left)), uniform);
    if (token < 0) {
      count.stuck++;
      console.log(`${id}: nothing is allowed after ${Buffer.from(bytes).toString().slice(-80)}`);
      return;
    }
    if (vocabulary.eosTokenIds.includes(token)) break;
    matcher.acceptToken(token);
    bytes.push(...vocabulary.bytesOf(token));
  }
  count.walks++;
  const text = Buffer.from(bytes).toString();
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    count.unparsable++;
    console.log(`${id}: not JSON: ${text.slice(0, 200)}`);
    return;
  }
  if (validate !== undefined && !validate(value) && !isBeyondOracle(validate.errors?.[0], value)) {
    count.invalid++;
    console.log(
      `${id}: invalid (${validate.errors?.[0]?.instancePath} ${validate.errors?.[0]?.message}): ${text.slice(0, 300)}`,
    );
  }
}

/** ajv divides floats, which says nothing of quotients that have none. */
function isBeyondOracle(error, value) {
  if (error?.keyword !== "multipleOf") return false;
  let at = value;
  for (const key of error.instancePath.split("/").slice(1)) at = at?.[key.replaceAll("~1", "/").replaceAll("~0", "~")];
  return !Number.isSafeInteger(at / error.params.multipleOf) || !Number.isSafeInteger(at * 8);
}

/** A random allowed token, or the one with the highest id, which is the rarest in vocabularies made by merging. */
function choose(mask, uniform) {
  let bits = 0;
  let last = -1;
  for (let i = 0; i < mask.length; i++) {
    if (mask[i] === 0) continue;
    for (let word = mask[i]; word !== 0; word &= word - 1) bits++;
    last = 32 * i + 31 - Math.clz32(mask[i]);
  }
  if (bits === 0 || (!uniform && random() < 0.8)) return last;
  let pick = Math.floor(random() * bits);
  for (let i = 0; i < mask.length; i++) {
    for (let word = mask[i]; word !== 0; word &= word - 1)
      if (pick-- === 0) return 32 * i + 31 - Math.clz32(word & -word);
  }
  return -1;
}

/**
 * A value at random. What the grammar takes, ajv must find valid. The other way round a few are narrower on purpose:
 * members that a negation demands come last.
 */
function judge(id, grammar, validate) {
  const value = randomValue(random);
  const matcher = grammar.matcher();
  const accepted = matcher.acceptText(JSON.stringify(value)) && matcher.canTerminate();
  count.judged++;
  if (accepted === validate(value)) return;
  if (accepted) count.misjudged++;
  else count.refusedValid++;
  console.log(`${id}: ${accepted ? "accepts" : "refuses"} ${JSON.stringify(value)}, unlike ajv`);
}

function segment(id, grammar, text) {
  const bytes = Buffer.from(text);
  const matcher = grammar.matcher();
  count.segmentations++;
  for (let at = 0; at < bytes.length; ) {
    const size = 1 + Math.floor(random() * 6);
    if (!matcher.acceptBytes(bytes.subarray(at, at + size))) break;
    at += size;
  }
  const whole = grammar.matcher();
  const accepted = whole.acceptBytes(bytes) && whole.canTerminate();
  if (!accepted) count.refusedValid++;
  else if (!matcher.canTerminate()) {
    count.stuck++;
    console.log(`${id}: accepted whole but not in pieces`);
  }
}

function oracle(schema) {
  const named = typeof schema === "object" && schema !== null ? String(schema.$schema ?? "") : "";
  const options = { strict: false, allErrors: false, logger: false, validateFormats: true };
  const ajv = /2019|2020/.test(named) ? new Ajv2020(options) : new Ajv(options);
  ajvFormats.default(ajv);
  try {
    const copy = typeof schema === "object" && schema !== null ? { ...schema } : schema;
    if (typeof copy === "object" && !/2019|2020/.test(named)) delete copy.$schema;
    // ajv takes a $dynamicRef to an ordinary $anchor for one to the root; the suite says otherwise, and we agree with it.
    if (/"\$dynamicRef":/.test(JSON.stringify(schema))) return undefined;
    // ajv lets `contains` evaluate items that it does not match, and takes [] beside prefixItems for a list that contains.
    const text = JSON.stringify(schema);
    if (/"(unevaluatedItems|prefixItems)":/.test(text) && /"contains":/.test(text)) return undefined;
    // ajv knows no draft 4; where that shows, there is no oracle.
    if (/draft-0?[34]/.test(named) && /"exclusiveM(in|ax)imum":(true|false)|"id":"/.test(JSON.stringify(schema)))
      return undefined;
    return ajv.compile(copy);
  } catch {
    return undefined;
  }
}
