/** Requests with a constraint on the real engine over a tiny random model: every answer fits, and nothing else changes. */
import { Ajv } from "ajv";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Constraint, GenerateRequest } from "../../src/core/protocol.js";
import type { Engine } from "../../src/runtime/engine.js";
import { codeOf, collect } from "./collect.js";
import { tinyLlama } from "./tiny-llama.js";

const load = tinyLlama();

const PERSON = {
  type: "object",
  properties: {
    name: { type: "string", maxLength: 8 },
    age: { type: "integer", minimum: 0, maximum: 150 },
    tags: { type: "array", items: { enum: ["a", "b"] }, maxItems: 3 },
  },
  required: ["name", "age"],
  additionalProperties: false,
};
const valid = new Ajv().compile(PERSON);

/** A random model writes what the grammar lets it: texts that end are short enough for this many tokens. */
const ENOUGH = 200;

const KINDS: readonly (readonly [name: string, constraint: Constraint, fits: (text: string) => boolean])[] = [
  ["a JSON Schema", { type: "jsonSchema", schema: PERSON }, (text) => valid(JSON.parse(text))],
  ["a regex", { type: "regex", pattern: "\\d{1,3}(\\.\\d{1,3}){3}" }, (text) => /^\d{1,3}(\.\d{1,3}){3}$/.test(text)],
  ["choices", { type: "choices", choices: ["yes", "no", "maybe"] }, (text) => /^(yes|no|maybe)$/.test(text)],
  ["EBNF", { type: "ebnf", grammar: 'root ::= "<" [a-c]{2,4} ">"' }, (text) => /^<[abc]{2,4}>$/.test(text)],
  ["Lark", { type: "lark", grammar: 'start: "x"~2..5' }, (text) => /^x{2,5}$/.test(text)],
  [
    "a structural tag",
    {
      type: "structuralTag",
      tag: {
        type: "structural_tag",
        format: { type: "tag", begin: "[", content: { type: "regex", pattern: "[0-9]{2}" }, end: "]" },
      },
    },
    (text) => /^\[\d\d\]$/.test(text),
  ],
];

const request = (constraint: Constraint, seed: number, more: Partial<GenerateRequest> = {}): GenerateRequest => ({
  prompt: { text: "Hello world, the user said " },
  samplingParams: { maxNewTokens: ENOUGH, temperature: seed % 3 === 0 ? 0 : 1.2, seed },
  constraint,
  ...more,
});

describe.each([
  ["overlapped", false],
  ["plain", true],
])("in the %s loop", (_, disableOverlapSchedule) => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await load({ disableOverlapSchedule });
  });
  afterAll(() => engine.close());

  it.each(KINDS)("%s holds in every answer", async (_name, constraint, fits) => {
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_v, seed) => collect(engine, request(constraint, seed))),
    );
    for (const { text, last } of answers) {
      expect(last.finishReason).toMatchObject({ type: "stop" });
      expect(fits(text), text).toBe(true);
    }
  });

  it("mixed with free requests, each gets the tokens it gets alone, and free ones are as without a grammar", async () => {
    const mixed: GenerateRequest[] = Array.from({ length: 18 }, (_v, i) => {
      const kind = KINDS[i % (KINDS.length + 1)];
      const base = request(kind ? kind[1] : { type: "jsonObject" }, i, { logprobs: { topNum: 2 } });
      const params = {
        ...base.samplingParams,
        maxNewTokens: 24,
        frequencyPenalty: i % 4 === 0 ? 0.5 : 0,
        n: i % 5 === 0 ? 2 : 1,
      };
      return kind ? { ...base, samplingParams: params } : { ...base, constraint: undefined, samplingParams: params };
    });
    const shown = (all: Awaited<ReturnType<typeof collect>>) => ({
      ids: all.chunks.map((chunk) => [chunk.index, ...chunk.tokenIdsDelta]).sort((a, b) => a[0] - b[0]),
      logprobs: all.chunks.filter((chunk) => chunk.index === 0).flatMap((chunk) => chunk.logprobs?.output ?? []),
    });
    const alone = [];
    for (const one of mixed) alone.push(shown(await collect(engine, one)));
    const together = await Promise.all(mixed.map((one) => collect(engine, one)));
    expect(together.map(shown)).toEqual(alone);
  });
});

describe("a constraint", () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await load();
  });
  afterAll(() => engine.close());

  it("survives retraction in a pool that is too small for all", async () => {
    const small = await load({ maxTotalTokens: 208, scheduleConservativeness: 0 });
    const words: Constraint = { type: "regex", pattern: "( [a-z]{1,9}){60,70}\\." };
    const asked = Array.from({ length: 8 }, (_, seed) =>
      request(words, seed + 1, { samplingParams: { maxNewTokens: 150, temperature: 1, seed } }),
    );
    const answers = await Promise.all(asked.map((one) => collect(small, one)));
    const whole = await Promise.all(asked.map((one) => collect(engine, one)));
    expect(small.stats().counters.retractions).toBeGreaterThan(0);
    expect(answers.map(({ ids }) => ids)).toEqual(whole.map(({ ids }) => ids));
    await small.close();
  });

  it("with close_on_budget is complete when the tokens run out", async () => {
    for (const maxNewTokens of [30, 40, 60]) {
      for (let seed = 0; seed < 6; seed++) {
        const { text, ids } = await collect(
          engine,
          request(
            {
              type: "jsonSchema",
              schema: { ...PERSON, properties: { ...PERSON.properties, name: { type: "string" } } },
            },
            seed,
            {
              closeOnBudget: true,
              samplingParams: { maxNewTokens, temperature: 1.5, seed },
            },
          ),
        );
        expect(ids.length).toBeLessThanOrEqual(maxNewTokens);
        expect(() => JSON.parse(text), text).not.toThrow();
      }
    }
  });

  it("wins over ignore_eos, and over min_new_tokens where the text must end", async () => {
    const constraint: Constraint = { type: "regex", pattern: "ab?" };
    const all = await collect(
      engine,
      request(constraint, 1, { samplingParams: { ignoreEos: true, maxNewTokens: 50 } }),
    );
    expect(all.text).toMatch(/^ab?$/);
    const long = await collect(
      engine,
      request(constraint, 1, { samplingParams: { minNewTokens: 10, maxNewTokens: 50 } }),
    );
    expect(long.text).toBe("ab");
  });

  it.each<[what: string, constraint: Constraint, field: RegExp]>([
    ["that is no schema", { type: "jsonSchema", schema: { type: "nothing" } }, /type/],
    ["that cannot be enforced", { type: "regex", pattern: "(a)\\1" }, /regex/],
    ["that no text fits", { type: "jsonSchema", schema: { allOf: [{ type: "string" }, { type: "integer" }] } }, /./],
    ["with a rule that is not there", { type: "ebnf", grammar: "root ::= other" }, /ebnf/],
  ])("%s is refused with its place, and nothing is left behind", async (_what, constraint, field) => {
    const refused = engine.stats().grammar.refused;
    const failed = collect(engine, request(constraint, 0));
    expect(["INVALID_REQUEST", "UNSUPPORTED"]).toContain(await codeOf(failed));
    await failed.catch((error) => expect(error.details.field).toMatch(field));
    expect(engine.stats()).toMatchObject({ numRunningReqs: 0, numQueueReqs: 0 });
    expect(engine.stats().grammar.refused).toBe(refused + 1);
  });

  it("compiles once for requests that arrive together, and never again", async () => {
    const before = engine.stats().grammar;
    const same = (seed: number) => collect(engine, request({ type: "regex", pattern: "once{1,3}" }, seed));
    await Promise.all([1, 2, 3, 4].map(same));
    await same(5);
    const { compiled, cacheHits, waiting } = engine.stats().grammar;
    expect(compiled - before.compiled).toBe(1);
    expect(cacheHits - before.cacheHits).toBe(1);
    expect(waiting).toBe(0);
  });

  it("that takes too long to compile is given up without holding up anybody, and an abort meanwhile is at once", async () => {
    // A hundred thousand properties take seconds.
    const properties = Object.fromEntries(
      Array.from({ length: 100_000 }, (_, i) => [`p${i}`, { type: "string", pattern: `^a{${i % 50}}b$` }]),
    );
    const slow: Constraint = { type: "jsonSchema", schema: { type: "object", properties } };
    const stop = new AbortController();
    const waits = collect(engine, request(slow, 0, { signal: stop.signal }));
    const free = await collect(engine, {
      prompt: { text: "Hello" },
      samplingParams: { maxNewTokens: 3, ignoreEos: true },
    });
    expect(free.ids).toHaveLength(3);
    stop.abort();
    expect((await waits).last.finishReason).toMatchObject({ type: "abort" });
    expect(engine.stats().grammar).toMatchObject({ waiting: 0 });
  });

  it("is refused by an engine that was told to take none", async () => {
    const none = await load({ grammarBackend: "none" });
    expect(await codeOf(collect(none, request({ type: "jsonObject" }, 0)))).toBe("UNSUPPORTED");
    await none.close();
  });
});
