/**
 * Schemas through the grammar engine, in the layout of MaskBench: which pass, which are refused, what is wrongly
 * accepted or refused, and what compiling and masks cost.
 *
 *   npm run bench:grammar -- --data FILE.jsonl.gz --vocab smollm2|qwen|gemma|FILE.gguf [--json FILE]
 *     [--order any|declared] [--limit N] [--fail FILE] [--compare N]
 *
 * FILE.jsonl.gz has one schema per line: {id, schema, tests: [{valid, data}]}. Instances are read token by token (longest
 * match over the vocabulary); a mask is made at every position and checked against the token that comes. A mask is cold
 * the first time a grammar is asked for it. Times are those this process was given (`own-time.mjs`). Instances come in
 * any order of properties, and so the grammars allow any (`--order declared` asks for the order of the schema). `--vocab`
 * names a model of the catalog, or a model file.
 */
import { spawn, spawnSync } from "node:child_process";
import { createReadStream, existsSync, writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { createGunzip } from "node:zlib";
import { GrammarCompiler, parseJsonText } from "../dist/grammar/index.js";
import { childOf } from "../dist/grammar/vocabulary.js";
import { openVocabulary } from "./grammar-vocabulary.mjs";
import { elapsed, startClock } from "./own-time.mjs";
import { origin } from "./record.mjs";

const options = readOptions(process.argv.slice(2));
const started = performance.now();
const vocabulary = await openVocabulary(options.vocab);
const vocabularyMs = performance.now() - started;
const tokenize = longestMatch(vocabulary);

const report = { schemas: 0, pass: 0, compileErrors: 0, falseAccepts: 0, falseRejects: 0, engineErrors: 0 };
const refusals = new Map();
const failures = [];
const compileMs = [];
const cold = [];
const hot = [];
let tokens = 0;
let forced = 0;
/** Where the last refused instance left the grammar. */
let lastStop = "";

const loadBefore = loadavg();
const calibration = calibrate();
const compiler = new GrammarCompiler(vocabulary);
const lines = createInterface({
  input: options.data.endsWith(".gz")
    ? createReadStream(options.data).pipe(createGunzip())
    : createReadStream(options.data),
});
for await (const line of lines) {
  if (line.trim() === "") continue;
  if (report.schemas >= options.limit) break;
  report.schemas++;
  runSchema(line);
}
print();
const peer = options.compare > 0 ? await comparePeer() : undefined;
if (options.json) {
  const load = [...loadBefore, ...loadavg()].map((value) => Number(value.toFixed(1)));
  const command = `node bench/grammar.mjs --data FILE --vocab ${options.vocab} --order ${options.order} --compare ${options.compare}`;
  const keys = { vocab: options.vocab, vocabSize: vocabulary.vocabSize, vocabularyMs, calibrationNs: calibration };
  const numbers = { compileMs: percentiles(compileMs), coldMaskUs: percentiles(cold), hotMaskUs: percentiles(hot) };
  writeFileSync(
    options.json,
    `${JSON.stringify({ ...report, ...numbers, forcedShare: forced / tokens, ...keys, loadBeforeAndAfter: load, ...origin(command), peer }, null, 2)}\n`,
  );
}
if (options.fail) writeFileSync(options.fail, failures.map((f) => JSON.stringify(f)).join("\n"));

function runSchema(line) {
  const row = parseJsonText(line);
  const id = row.get("id");
  const clock = startClock();
  let grammar;
  try {
    grammar = compiler.compile({ kind: "json_schema", schema: row.get("schema"), propertyOrder: options.order });
    compileMs.push(elapsed(clock) / 1000);
  } catch (error) {
    if (!error.isSglangError) throw error;
    compileMs.push(elapsed(clock) / 1000);
    report.compileErrors++;
    const keyword = (error.details.field ?? "").split("/").pop();
    refusals.set(keyword, (refusals.get(keyword) ?? 0) + 1);
    failures.push({ id, kind: "refused", message: error.message });
    return;
  }
  let clean = true;
  const seen = new Set();
  const texts = instanceTexts(line);
  for (const [index, test] of row.get("tests").entries()) {
    const text = texts[index];
    let accepted;
    try {
      accepted = runInstance(grammar, text, seen);
    } catch (error) {
      if (!error.isSglangError) throw error;
      report.engineErrors++;
      failures.push({ id, kind: "engine", message: error.message });
      clean = false;
      continue;
    }
    if (accepted === test.get("valid")) continue;
    clean = false;
    if (accepted) report.falseAccepts++;
    else report.falseRejects++;
    failures.push({
      id,
      kind: accepted ? "accepted" : "rejected",
      at: accepted ? undefined : lastStop,
      text: text.slice(0, 4000),
    });
  }
  if (clean) report.pass++;
}

/** @param seen configurations whose mask was made before, by any instance of the grammar. */
function runInstance(grammar, text, seen) {
  const bytes = new TextEncoder().encode(text);
  const ids = tokenize(bytes);
  const matcher = grammar.matcher();
  let read = 0;
  for (const id of ids) {
    const clock = startClock();
    const mask = matcher.mask();
    const took = elapsed(clock);
    const again = performance.now();
    matcher.mask();
    const second = performance.now();
    if (!seen.has(matcher.configuration)) {
      seen.add(matcher.configuration);
      cold.push(took);
    }
    hot.push((second - again) * 1000);
    const allowed = ((mask[id >> 5] >>> (id & 31)) & 1) !== 0;
    const only = matcher.forcedBytes(1).length > 0;
    const accepted = matcher.acceptToken(id);
    if (accepted !== allowed) throw new Error(`mask and automaton disagree on token ${id} in ${text}`);
    if (!accepted) {
      lastStop = new TextDecoder().decode(bytes.subarray(Math.max(0, read - 80), read + 30));
      return false;
    }
    read += vocabulary.bytesOf(id).length;
    tokens++;
    if (only) forced++;
  }
  lastStop = "(end)";
  return matcher.canTerminate();
}

/** `--compare N`: N schemas, spread over the data, through @mlc-ai/web-xgrammar; 20 seconds each at most. */
async function comparePeer() {
  const compare = join(dirname(fileURLToPath(import.meta.url)), "compare");
  if (!existsSync(join(compare, "node_modules/@mlc-ai/web-xgrammar"))) {
    console.log("Installing the peers into bench/compare ...");
    spawnSync("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"], { cwd: compare });
  }
  const step = Math.max(1, Math.floor(report.schemas / options.compare));
  const found = { schemas: 0, pass: 0, compileErrors: 0, timeouts: 0, falseAccepts: 0, falseRejects: 0 };
  const times = { compileMs: [], maskUs: [] };
  for (let from = 0; found.schemas < options.compare && from < report.schemas; ) {
    const count = options.compare - found.schemas;
    const child = spawn(
      process.execPath,
      ["web-xgrammar.mjs", options.data, options.vocab, from, step, count].map(String),
      {
        cwd: compare,
        stdio: ["ignore", "pipe", "ignore"],
      },
    );
    let limit = setTimeout(() => child.kill("SIGKILL"), 60_000);
    for await (const line of createInterface({ input: child.stdout })) {
      // The peer writes warnings of its own between the lines.
      if (!line.startsWith("{")) continue;
      const row = JSON.parse(line);
      from = row.index + step;
      found.schemas++;
      if (row.error) found.compileErrors++;
      else if (row.falseAccepts + row.falseRejects === 0) found.pass++;
      found.falseAccepts += row.falseAccepts;
      found.falseRejects += row.falseRejects;
      times.compileMs.push(row.compileMs);
      times.maskUs.push(...row.maskUs);
      clearTimeout(limit);
      limit = setTimeout(() => child.kill("SIGKILL"), 20_000);
    }
    clearTimeout(limit);
    if (child.exitCode === 0 || (await new Promise((done) => child.on("close", done))) === 0) break;
    found.schemas++;
    found.timeouts++;
    from += step;
  }
  const peer = { ...found, compileMs: percentiles(times.compileMs), maskUs: percentiles(times.maskUs) };
  const p = (values, digits) => `p50 ${values.p50.toFixed(digits)} p99 ${values.p99.toFixed(digits)}`;
  console.log(
    `\nMeasured now, every ${step}th schema: @mlc-ai/web-xgrammar 0.1.27, instances in the order they have\n  pass ${peer.pass} of ${peer.schemas}, ` +
      `refused ${peer.compileErrors}, out of time or crashed ${peer.timeouts}, accepts wrongly ${peer.falseAccepts}, ` +
      `refuses wrongly ${peer.falseRejects}, compile ms ${p(peer.compileMs, 1)}, mask us ${p(peer.maskUs, 1)}`,
  );
  return peer;
}

/** Every instance of a line as compact text: numbers as they are spelled there, strings with the fewest escapes. */
function instanceTexts(line) {
  const pieces = line.match(/"(?:[^"\\]|\\.)*"|[{}[\]:,]|[^\s{}[\]:,"]+/g);
  let at = 0;
  const skip = (keep) => {
    let out = "";
    let depth = 0;
    do {
      const piece = pieces[at++];
      if (piece === "{" || piece === "[") depth++;
      else if (piece === "}" || piece === "]") depth--;
      if (keep) out += piece.startsWith('"') ? JSON.stringify(JSON.parse(piece)) : piece;
    } while (depth > 0);
    return out;
  };
  const members = (visit) => {
    at++;
    while (pieces[at] !== "}") {
      const key = JSON.parse(pieces[at]);
      at += 2;
      visit(key);
      if (pieces[at] === ",") at++;
    }
    at++;
  };
  const texts = [];
  members((key) => {
    if (key !== "tests") return void skip(false);
    at++;
    while (pieces[at] !== "]") {
      members((name) => {
        const text = skip(name === "data");
        if (name === "data") texts.push(text);
      });
      if (pieces[at] === ",") at++;
    }
    at++;
  });
  return texts;
}

/** Tokens by longest match: any segmentation will do, this one needs no merges. */
function longestMatch({ trie }) {
  return (bytes) => {
    const ids = [];
    for (let at = 0; at < bytes.length; ) {
      let best = -1;
      let length = 0;
      let node = -1;
      for (let k = at; k < bytes.length && k < at + 24; k++) {
        node = childOf(trie, node, bytes[k]);
        if (node < 0) break;
        if (trie.token[node] < 0) continue;
        best = trie.token[node];
        length = k + 1 - at;
      }
      if (best < 0) throw new Error(`the vocabulary has no token for byte ${bytes[at]}`);
      ids.push(best);
      at += length;
    }
    return ids;
  };
}

/** Nanoseconds per step of a fixed integer loop: what other machines' times can be divided by. */
function calibrate() {
  const table = new Int32Array(1024).map((_, i) => (i * 7 + 1) & 1023);
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 5; round++) {
    const clock = startClock();
    let at = round;
    for (let i = 0; i < 5_000_000; i++) at = table[at];
    best = Math.min(best, elapsed(clock) / 5_000 + (at < 0 ? 1 : 0));
  }
  return best;
}

function percentiles(values) {
  const sorted = Float64Array.from(values).sort();
  const at = (q) => (sorted.length === 0 ? 0 : sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]);
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
}

function print() {
  const share = (n) => `${n} (${((100 * n) / report.schemas).toFixed(2)} %)`;
  const row = (name, value) => console.log(name.padEnd(34), value);
  row("vocabulary", `${vocabulary.vocabSize} tokens, opened in ${vocabularyMs.toFixed(0)} ms`);
  row("schemas", report.schemas);
  row("passing", share(report.pass));
  row("compile error (refused)", share(report.compileErrors));
  row("stopped at a limit", report.engineErrors);
  row("invalid instance accepted", report.falseAccepts);
  row("valid instance refused", report.falseRejects);
  for (const [name, values] of [
    ["compile ms", compileMs],
    ["mask µs, cold", cold],
    ["mask µs, hot", hot],
  ]) {
    const p = percentiles(values);
    row(name, `p50 ${p.p50.toFixed(2)}  p90 ${p.p90.toFixed(2)}  p99 ${p.p99.toFixed(2)}  max ${p.max.toFixed(1)}`);
  }
  row("forced positions", `${((100 * forced) / tokens).toFixed(1)} % of ${tokens} tokens`);
  row(
    "calibration",
    `${calibration.toFixed(2)} ns per dependent load; cold p50 = ${((percentiles(cold).p50 * 1000) / calibration).toFixed(0)} of them`,
  );
  row(
    "refused by keyword",
    [...refusals]
      .sort((a, b) => b[1] - a[1])
      .slice(0, 20)
      .map(([k, n]) => `${k} ${n}`)
      .join(", "),
  );
  console.log(`
Published (MaskBench, 11,306 schemas, 128k vocabulary, other hardware; mask avg/p50/p99 µs, compile p50/p99 ms)
  llguidance 0.7.10       pass 78.8 %  accepts wrongly 0      mask 64/46/533       compile 1.0/18
  XGrammar 0.1.17         pass 71.8 %  accepts wrongly 1368   mask 728/9/5687      compile 919/900000
  Outlines-core 0.2.3     pass 62.4 %  accepts wrongly 822    mask 1858/34/7184    compile 588/413000
  llama.cpp               pass 57.5 %  accepts wrongly 649    mask 16565/17021/60371  compile 0.31/29`);
}

function readOptions(args) {
  const out = {
    data: process.env.SGLANG_SCHEMA_DATA,
    vocab: "smollm2",
    order: "any",
    json: undefined,
    fail: undefined,
    limit: Number.POSITIVE_INFINITY,
    compare: 0,
  };
  for (let i = 0; i < args.length; i += 2) {
    const name = args[i].replace(/^--/, "");
    if (!(name in out) || args[i + 1] === undefined) throw new Error(`unknown or incomplete option ${args[i]}`);
    out[name] = name === "limit" || name === "compare" ? Number(args[i + 1]) : args[i + 1];
  }
  if (out.data === undefined) throw new Error("give --data FILE.jsonl.gz");
  out.data = resolve(out.data);
  return out;
}
