// `npm run bench:lang [-- --model NAME] [--items N] [--tokens N]`: what the frontend language costs and what it gains.
//   overhead  JavaScript per gen beyond the backend's own work, and memory per idle state, on the scripted backend
//   many      10,000 states at once on the scripted backend
//   batch     N items over one few-shot prompt of 1,000 tokens, an answer of N tokens each: a batch against one call after
//             another, with the engine's prefix cache (which then finds the shared part too) and without one
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Engine, engineBackend, gen, program } from "../dist/index.js";
import { FakeBackend } from "../dist/lang/backends/index.js";
import { median, printTable, writeResults } from "./record.mjs";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "qwen2.5-coder-0.5b" },
    items: { type: "string", default: "200" },
    tokens: { type: "string", default: "64" },
  },
});
const [items, tokens] = [Number(values.items), Number(values.tokens)];
/** Calls one after another: each takes a second or more, and all take the same. */
const SINGLE_ITEMS = 20;
const UNCACHED_ITEMS = 5;

setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc");
const heap = () => {
  gc();
  gc();
  return process.memoryUsage().heapUsed;
};

/** The backend alone, asked as the language asks it: what must be taken off to see the language. */
async function rawMicroseconds(count) {
  const backend = new FakeBackend({ answers: () => "yes", record: false });
  const request = {
    prompt: { type: "text", parts: [{ type: "text", text: "Q: is it?\nA:" }] },
    sampling: {},
    stream: false,
    signal: new AbortController().signal,
  };
  const started = performance.now();
  for (let i = 0; i < count; i++) for await (const _ of backend.generate(request));
  return ((performance.now() - started) * 1e3) / count;
}

async function languageMicroseconds(count) {
  const backend = new FakeBackend({ answers: () => "yes", record: false });
  const run = program(async (s) => {
    for (let i = 0; i < count; i++) {
      const f = s.copy();
      f.text("Q: is it?\nA:");
      await f.append(gen());
    }
  });
  const started = performance.now();
  await run.run({ backend });
  return ((performance.now() - started) * 1e3) / count;
}

async function bytesPerIdleState(count) {
  let bytes = 0;
  const idle = program(async (s) => {
    s.text("Once upon a time");
    await s.sync();
    const before = heap();
    const forks = s.fork(count);
    await Promise.all(forks.states.map((state) => state.sync()));
    bytes = (heap() - before) / count;
  });
  await idle.run({ backend: new FakeBackend({ record: false }) });
  return bytes;
}

async function manyStates(count) {
  const backend = new FakeBackend({ answers: () => "yes", record: false });
  const many = program(async (s) => {
    s.text("Q: is it?\nA:");
    const values = await s.fork(count, (f) => f.append(gen()));
    return values.length;
  });
  const started = performance.now();
  const { value } = await many.run({ backend });
  if (value !== count) throw new Error(`${value} of ${count} states finished`);
  return performance.now() - started;
}

/** A few-shot prompt of about 1,000 tokens; its last line is the item's own. */
const SHOTS = Array.from({ length: 36 }, (_, i) => {
  const [a, b] = [(i * 37) % 90, (i * 53 + 11) % 90];
  return `Question: A shelf holds ${a} books and ${b} more are put on it. How many are there?\nAnswer: ${a + b}\n`;
}).join("\n");

const solve = program(async (s, { a, b }) => {
  s.text(`${SHOTS}\nQuestion: A shelf holds ${a} books and ${b} more are put on it. How many are there?\nAnswer:`);
  return s.append(gen({ maxTokens: tokens, ignoreEos: true, temperature: 0 }));
});

async function batchGain() {
  const list = Array.from({ length: items }, (_, i) => ({ a: 3 + i, b: 500 - 2 * i }));
  const engine = await Engine.load(values.model, { contextLength: 2048 });
  const uncached = await Engine.load(values.model, { contextLength: 2048, disableRadixCache: true });
  try {
    const promptTokens = (await engine.encode(SHOTS)).length;
    const time = async (run, some) => {
      const started = performance.now();
      const answers = await run(some);
      return { perSecond: (some.length * 1e3) / (performance.now() - started), answers };
    };
    const oneByOne = (backend) => async (some) => {
      const answers = [];
      for (const item of some) answers.push((await solve.run(item, { backend })).value);
      return answers;
    };
    const inBatch = async (some) => {
      const answers = [];
      for await (const item of solve.batch(some, { backend: engineBackend(engine), concurrency: 64 }))
        answers.push(item.value);
      return answers;
    };
    await engine.flushCache({ timeoutSeconds: 5 });
    const batch = await time(inBatch, list);
    await engine.flushCache({ timeoutSeconds: 5 });
    const single = await time(oneByOne(engineBackend(engine)), list.slice(0, SINGLE_ITEMS));
    const cold = await time(oneByOne(engineBackend(uncached)), list.slice(0, UNCACHED_ITEMS));
    for (const { answers } of [single, cold])
      if (answers.some((answer, i) => answer !== batch.answers[i])) throw new Error("the answers differ");
    return {
      promptTokens,
      answerTokens: tokens,
      items,
      batch: batch.perSecond,
      oneByOne: single.perSecond,
      oneByOneNoCache: cold.perSecond,
    };
  } finally {
    await engine.close();
    await uncached.close();
  }
}

await languageMicroseconds(2000);
await rawMicroseconds(2000);
const rounds = [];
for (let round = 0; round < 5; round++) rounds.push([await languageMicroseconds(5000), await rawMicroseconds(5000)]);
const overheadMicroseconds = median(rounds.map(([language, raw]) => language - raw));
const idleStateBytes = await bytesPerIdleState(10_000);
const manyMilliseconds = await manyStates(10_000);
const batch = await batchGain();
const ratio = (perSecond) => `${perSecond.toFixed(2)} (batch: ${(batch.batch / perSecond).toFixed(1)}x)`;
printTable([
  ["the language", "", "bar"],
  ["JavaScript per gen beyond the backend, us", overheadMicroseconds.toFixed(1), "< 50"],
  ["memory per idle state, bytes", idleStateBytes.toFixed(0), "< 3072"],
  ["10,000 states at once, ms", manyMilliseconds.toFixed(0), ""],
  [
    `batch of ${batch.items} over ${batch.promptTokens} shared tokens, ${tokens} tokens each, items/s`,
    batch.batch.toFixed(2),
    "",
  ],
  ["one call after another, items/s", ratio(batch.oneByOne), ">= 5x"],
  ["one after another without a prefix cache, items/s", ratio(batch.oneByOneNoCache), ">= 5x"],
]);
writeResults(`lang-${values.model}`, `npm run bench:lang -- ${process.argv.slice(2).join(" ")}`.trim(), {
  model: values.model,
  overheadMicroseconds,
  idleStateBytes,
  manyStates: { count: 10_000, milliseconds: manyMilliseconds },
  batch,
});
