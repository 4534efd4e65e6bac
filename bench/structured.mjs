// `npm run bench:structured [-- --model NAME] [--rounds N] [--batch N] [--tokens N]`
// What a constraint costs and what jump-forward gains. Three cases take turns, each in every round, and only ratios within
// a round are compared:
//   cost  answers of a fixed length, free and under a grammar that leaves the model almost all tokens (JSON string)
//   jump  JSON of a fixed schema, batch 1 and N, with jump-forward and without: output tokens are the same
import { parseArgs } from "node:util";
import { setLogLevel } from "../dist/core/logger.js";
import { Engine } from "../dist/index.js";
import { median, printTable, writeResults } from "./record.mjs";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "smollm2-135m" },
    rounds: { type: "string", default: "3" },
    batch: { type: "string", default: "32" },
    tokens: { type: "string", default: "48" },
  },
});
const [rounds, batch, tokens] = [values.rounds, values.batch, values.tokens].map(Number);
setLogLevel("error");

/** The fields of the paper's JSON workload: a character of a novel. */
const CHARACTER = {
  type: "object",
  properties: {
    name: { type: "string", maxLength: 24 },
    house: { enum: ["Gryffindor", "Slytherin", "Ravenclaw", "Hufflepuff"] },
    bloodStatus: { enum: ["Pure-blood", "Half-blood", "Muggle-born"] },
    occupation: { enum: ["student", "teacher", "auror", "ministry of magic", "other"] },
    wand: {
      type: "object",
      properties: {
        wood: { type: "string", maxLength: 12 },
        core: { type: "string", maxLength: 16 },
        lengthInInches: { type: "integer", minimum: 5, maximum: 20 },
      },
      required: ["wood", "core", "lengthInInches"],
      additionalProperties: false,
    },
    isAlive: { type: "boolean" },
  },
  required: ["name", "house", "bloodStatus", "occupation", "wand", "isAlive"],
  additionalProperties: false,
};
/** At least as long as any answer of the cost case, so that none ends early. */
const LONG_STRING = { type: "string", minLength: 2000 };

const load = (disableJumpForward) =>
  Engine.load(values.model, {
    offline: true,
    contextLength: 1024,
    maxRunningRequests: batch,
    constrainedJsonDisableAnyWhitespace: true,
    disableJumpForward,
  });

/** `count` answers at once: their ids, tokens per second and the engine's decode steps. */
async function run(engine, count, constraint, maxNewTokens) {
  await engine.flushCache({ timeoutSeconds: 5 });
  const before = engine.stats().counters;
  const started = performance.now();
  const answers = await Promise.all(
    Array.from({ length: count }, async (_, i) => {
      const ids = [];
      const prompt = { text: `Character ${i} of the novel about a school of magic, as JSON: ` };
      const samplingParams = { temperature: 0.8, seed: i, maxNewTokens, ignoreEos: !constraint };
      for await (const chunk of engine.generate({ prompt, samplingParams, constraint, stream: false }))
        ids.push(...chunk.tokenIdsDelta);
      return ids;
    }),
  );
  const seconds = (performance.now() - started) / 1000;
  const { decodeSteps, jumpForwardTokens } = engine.stats().counters;
  return {
    answers,
    rate: answers.reduce((sum, { length }) => sum + length, 0) / seconds,
    steps: decodeSteps - before.decodeSteps,
    jumped: jumpForwardTokens - before.jumpForwardTokens,
  };
}

const jumping = await load(false);
const single = await load(true);
const character = { type: "jsonSchema", schema: CHARACTER };
const cases = {
  [`free, batch ${batch}`]: () => run(jumping, batch, undefined, tokens),
  [`JSON string, batch ${batch}`]: () => run(jumping, batch, { type: "jsonSchema", schema: LONG_STRING }, tokens),
  "JSON object, batch 1, token by token": () => run(single, 1, character, 160),
  "JSON object, batch 1, jump-forward": () => run(jumping, 1, character, 160),
  [`JSON object, batch ${batch}, token by token`]: () => run(single, batch, character, 160),
  [`JSON object, batch ${batch}, jump-forward`]: () => run(jumping, batch, character, 160),
};
const names = Object.keys(cases);
const found = Object.fromEntries(names.map((name) => [name, []]));
for (let round = -1; round < rounds; round++) {
  for (const name of names) {
    process.stderr.write(`${round < 0 ? "warm-up" : `round ${round + 1}/${rounds}`}: ${name}\n`);
    const result = await cases[name]();
    if (round >= 0) found[name].push(result);
  }
}
await jumping.close();
await single.close();

for (const [a, b] of [
  [2, 3],
  [4, 5],
]) {
  // biome-ignore format: pairs
  if (JSON.stringify(found[names[a]][0].answers) !== JSON.stringify(found[names[b]][0].answers))
    throw new Error(`"${names[a]}" and "${names[b]}" gave different tokens.`);
}
const rateOf = (name) => median(found[name].map(({ rate }) => rate));
/** Median over rounds of how much faster case `b` is than case `a` of the same round. */
const ratio = (a, b) => median(found[names[b]].map(({ rate }, i) => rate / found[names[a]][i].rate));
const figures = {
  model: values.model,
  cases: Object.fromEntries(
    names.map((name) => [
      name,
      { tokensPerSecond: rateOf(name), decodeSteps: found[name][0].steps, jumpForwardTokens: found[name][0].jumped },
    ]),
  ),
  costOfConstraint: 1 - ratio(0, 1),
  jumpForwardSpeedup: { batch1: ratio(2, 3), batchN: ratio(4, 5) },
};
printTable([
  ["", "tokens/s", "decode steps", "jumped tokens"],
  ...names.map((name) => {
    const { tokensPerSecond, decodeSteps, jumpForwardTokens } = figures.cases[name];
    return [name, tokensPerSecond.toFixed(1), String(decodeSteps), String(jumpForwardTokens)];
  }),
]);
console.log(`\na constraint costs ${(100 * figures.costOfConstraint).toFixed(1)} % of the free rate`);
console.log(
  `jump-forward: ${figures.jumpForwardSpeedup.batch1.toFixed(2)}x at batch 1, ${figures.jumpForwardSpeedup.batchN.toFixed(2)}x at batch ${batch}`,
);
writeResults(
  `structured-${values.model}`,
  `npm run bench:structured -- ${process.argv.slice(2).join(" ")}`.trim(),
  figures,
);
