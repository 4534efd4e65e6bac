// `node bench/grammar-walks.mjs --data FILE.jsonl.gz [--vocab smollm2|qwen|gemma] [--walks 20] [--limit N] [--seed N]`
// Random walks over the masks of real schemas, half of them uniform and half along the rarest token (the highest id), each
// brought to its end by budget-aware closing. Every text must parse, and must be valid for ajv. Also: valid instances are
// accepted under random segmentations. Exit code 1 when anything is wrong. Runs outside CI: it takes minutes.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";
import { Ajv } from "ajv";
import { Ajv2020 } from "ajv/dist/2020.js";
import ajvFormats from "ajv-formats";
import { GrammarCompiler, parseJsonText } from "../dist/grammar/index.js";
import { openVocabulary } from "./grammar-vocabulary.mjs";

const { values } = parseArgs({
  options: {
    data: { type: "string" },
    vocab: { type: "string", default: "smollm2" },
    walks: { type: "string", default: "20" },
    limit: { type: "string", default: "10000" },
    seed: { type: "string", default: "1" },
  },
});
if (values.data === undefined) throw new Error("give --data FILE.jsonl.gz");
const MAX_TOKENS = 200;
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
  segmentations: 0,
};
const lines = gunzipSync(readFileSync(values.data))
  .toString()
  .split("\n")
  .filter(Boolean)
  .slice(0, Number(values.limit));
for (const line of lines) {
  const row = JSON.parse(line);
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
    for (const { valid, data } of row.tests) if (valid) segment(row.id, grammar, JSON.stringify(data));
  } catch (error) {
    if (!error.isSglangError) throw error;
    console.log(`${row.id}: stopped at a limit: ${error.message}`);
  }
}
console.log(JSON.stringify(count));
if (count.unparsable + count.invalid + count.stuck > 0) process.exitCode = 1;

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
  if (validate !== undefined && !validate(value)) {
    count.invalid++;
    console.log(
      `${id}: invalid (${validate.errors?.[0]?.instancePath} ${validate.errors?.[0]?.message}): ${text.slice(0, 300)}`,
    );
  }
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
    // ajv knows no draft 4; where that shows, there is no oracle.
    if (/draft-0?[34]/.test(named) && /"exclusiveM(in|ax)imum":(true|false)|"id":"/.test(JSON.stringify(schema)))
      return undefined;
    return ajv.compile(copy);
  } catch {
    return undefined;
  }
}
