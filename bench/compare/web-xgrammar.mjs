// `node web-xgrammar.mjs DATA VOCAB FROM STEP COUNT`: schemas FROM, FROM + STEP, ... of DATA through @mlc-ai/web-xgrammar; one
// line of JSON per schema. Started by bench/grammar.mjs, which ends it when one schema takes too long.
import { copyFileSync, existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { gunzipSync } from "node:zlib";
import { openVocabulary } from "../grammar-vocabulary.mjs";
import { elapsed, startClock } from "../own-time.mjs";

const require = createRequire(import.meta.url);
// The package says it is a module but is CommonJS: it loads under another extension only.
const main = join(dirname(require.resolve("@mlc-ai/web-xgrammar/package.json")), "lib/index.js");
const copy = main.replace(/\.js$/, ".cjs");
if (!existsSync(copy)) copyFileSync(main, copy);
const xgrammar = require(copy);

/** Bytes without a printable letter of their own; they get those from U+0100 on. */
const HIDDEN = Array.from({ length: 256 }, (_, byte) => byte).filter(
  (byte) => !((byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae),
);
const [data, vocab, from, step, count] = process.argv.slice(2);
const vocabulary = await openVocabulary(vocab);
const encoded = Array.from(
  { length: vocabulary.vocabSize },
  (_, id) => byteLevel(vocabulary.bytesOf(id)) || `<special-${id}>`,
);
const info = await xgrammar.TokenizerInfo.createTokenizerInfo(encoded, "byte_level", false, vocabulary.vocabSize, [
  ...vocabulary.eosTokenIds,
]);
const compiler = await xgrammar.GrammarCompiler.createGrammarCompiler(info, false);
const byText = new Map();
for (let id = 0; id < vocabulary.vocabSize; id++) {
  const bytes = vocabulary.bytesOf(id);
  if (bytes.length > 0) byText.set(Buffer.from(bytes).toString("latin1"), id);
}

const lines = gunzipSync(readFileSync(data)).toString().split("\n").filter(Boolean);
for (let i = Number(from), done = 0; i < lines.length && done < Number(count); i += Number(step), done++) {
  console.log(JSON.stringify({ index: i, ...(await run(JSON.parse(lines[i]))) }));
}

async function run({ schema, tests }) {
  const result = { compileMs: 0, error: false, falseAccepts: 0, falseRejects: 0, maskUs: [] };
  const started = startClock();
  let compiled;
  try {
    compiled = await compiler.compileJSONSchema(JSON.stringify(schema), true, -1, undefined, false);
  } catch {
    return { ...result, compileMs: elapsed(started) / 1000, error: true };
  }
  result.compileMs = elapsed(started) / 1000;
  for (const { valid, data: value } of tests) {
    const matcher = await xgrammar.GrammarMatcher.createGrammarMatcher(compiled);
    let accepted = true;
    for (const id of tokens(JSON.stringify(value))) {
      const before = startClock();
      await matcher.getNextTokenBitmask();
      result.maskUs.push(elapsed(before));
      accepted = matcher.acceptToken(id);
      if (!accepted) break;
    }
    accepted &&= matcher.acceptToken(vocabulary.eosTokenIds[0]);
    if (accepted && !valid) result.falseAccepts++;
    if (!accepted && valid) result.falseRejects++;
    matcher.dispose();
  }
  compiled.dispose();
  return result;
}

function tokens(text) {
  const bytes = Buffer.from(text).toString("latin1");
  const ids = [];
  for (let at = 0; at < bytes.length; ) {
    let length = Math.min(24, bytes.length - at);
    while (!byText.has(bytes.slice(at, at + length))) length--;
    ids.push(byText.get(bytes.slice(at, at + length)));
    at += length;
  }
  return ids;
}

/** Bytes in the letters of GPT-2's byte-level vocabularies. */
function byteLevel(bytes) {
  let out = "";
  for (const byte of bytes) {
    const hidden = HIDDEN.indexOf(byte);
    out += String.fromCodePoint(hidden < 0 ? byte : 256 + hidden);
  }
  return out;
}
