import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { setLogLevel } from "../../src/core/logger.js";
import { PAGE_SIZES } from "../../src/runtime/config.js";
import type { ReqConstraint } from "../../src/runtime/request.js";
import { EOS, FakeRunner } from "./fake-runner.js";
import { type Answer, answer, FakeConstraint, scheduler, type TestRequest } from "./scheduler-harness.js";

beforeAll(() => setLogLevel("silent"));
afterAll(() => setLogLevel("info"));

const turn = () => new Promise((resolve) => setImmediate(resolve));
const LETTERS = Array.from({ length: 8 }, (_, i) => i);

interface Program {
  request: TestRequest;
  /** Turns of the event loop before it is sent. */
  delay: number;
  /** Chunks after which it is aborted; null = never. */
  abortAfter: number | null;
}

/** `tight`: long answers to short prompts in a pool that is too small for them. */
const programOf = (tight: boolean) =>
  fc
    .record({
      prefix: fc.nat(2),
      prefixLength: fc.nat(tight ? 4 : 30),
      own: fc.array(fc.constantFrom(...LETTERS), { minLength: 1, maxLength: 12 }),
      maxNewTokens: tight ? fc.integer({ min: 20, max: 40 }) : fc.nat(24),
      params: fc.record({
        temperature: fc.constantFrom(0, 0.7, 1),
        topK: fc.constantFrom(-1, 3),
        seed: fc.nat(1000),
        ignoreEos: tight ? fc.constant(true) : fc.boolean(),
        minNewTokens: fc.constantFrom(0, 0, 3),
        frequencyPenalty: fc.constantFrom(0, 0, 1.5),
        presencePenalty: fc.constantFrom(0, 0, -1),
        repetitionPenalty: fc.constantFrom(1, 1, 1.7, 0.6),
        logitBias: fc.constantFrom({}, { 3: 4 }, { [EOS]: 4 }),
        stop: tight ? fc.constant<string[]>([]) : fc.constantFrom<string[]>([], ["a"], ["bc", "dd"], ["e", "xyz"]),
        stopRegex: fc.constantFrom<string[]>([], ["[f-h]{2}"]),
      }),
      logprobs: fc.option(fc.record({ startLen: fc.constantFrom(-1, 0, 4), topNum: fc.constantFrom(0, 2) }), {
        freq: 1,
      }),
      constrained: fc.boolean(),
      delay: fc.nat(tight ? 4 : 40),
      abortAfter: fc.option(fc.nat(8), { freq: 4 }),
    })
    .map(({ prefix, prefixLength, own, maxNewTokens, params, logprobs, constrained, delay, abortAfter }): Program => {
      const prompt = [...Array.from({ length: prefixLength }, (_, i) => (i * (prefix + 2)) % 9), ...own];
      return {
        request: {
          prompt,
          params: { ...params, minNewTokens: Math.min(params.minNewTokens, maxNewTokens), maxNewTokens },
          ...(logprobs && { logprobs: { ...logprobs, startLen: Math.min(logprobs.startLen, prompt.length - 1) } }),
          ...(constrained && { constraint: () => new FakeConstraint() }),
        },
        delay,
        abortAfter,
      };
    });

const setupOf = (tight: boolean) =>
  fc.record({
    pageSize: fc.constantFrom(...PAGE_SIZES.filter((size) => size <= 16)),
    spare: fc.nat(tight ? 20 : 90),
    stepTokens: fc.constantFrom(2, 7, 20, 64),
    maxRunningRequests: fc.integer({ min: 1, max: 8 }),
    conservativeness: fc.constantFrom(...(tight ? [0] : [0, 1])),
    disableRadixCache: fc.boolean(),
    mixedChunk: fc.boolean(),
  });

const seen = { retractions: 0, cached: 0, ahead: 0, stopped: 0, late: 0, uploads: 0, aborted: 0 };

/** Runs all programs at once. */
async function together(
  programs: readonly Program[],
  setup: ReturnType<typeof setupOf> extends fc.Arbitrary<infer T> ? T : never,
  overlap: boolean,
): Promise<Answer[]> {
  const { pageSize, spare, ...options } = setup;
  const largest = Math.max(...programs.map(({ request }) => request.prompt.length + request.params.maxNewTokens));
  const runner = new FakeRunner({ pages: Math.ceil((largest + spare) / pageSize) + 1, pageSize });
  const loop = scheduler(runner, { ...options, overlap });
  const answers = await Promise.all(
    programs.map(async ({ request, delay, abortAfter }) => {
      for (let i = 0; i < delay; i++) await turn();
      let chunks = 0;
      return answer(loop, {
        ...request,
        onChunk: (_, req) => {
          if (abortAfter !== null && chunks++ >= abortAfter) loop.abort(req, "enough");
        },
      });
    }),
  );
  const { counters } = loop.stats();
  seen.retractions += counters.retractions;
  seen.cached += counters.cachedTokens;
  seen.aborted += counters.aborted;
  seen.uploads += runner.counts.setMask;
  if (overlap) {
    seen.ahead = Math.max(seen.ahead, runner.counts.mostQueued);
    seen.late += runner.counts.supplyMasks;
  }
  expect(loop.flushCache()).toBe(true);
  expect(loop.stats().pages).toMatchObject({ free: runner.pages, inUse: 0, protected: 0, evictable: 0 });
  await loop.close();
  return answers;
}

/** What a caller would see of each request alone, in a plain loop without a cache. */
async function alone(programs: readonly Program[]): Promise<Answer[]> {
  const loop = scheduler(new FakeRunner(), { overlap: false, disableRadixCache: true, stepTokens: 512 });
  const answers: Answer[] = [];
  for (const { request } of programs) answers.push(await answer(loop, request));
  await loop.close();
  return answers;
}

describe("the overlapped and the plain loop", () => {
  it.each([false, true])(
    "give every request the text, tokens and logprobs it gets alone, and lose no page (too small a pool: %s)",
    async (tight) => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(programOf(tight), { minLength: tight ? 8 : 2, maxLength: 14, size: "max" }),
          setupOf(tight),
          async (programs, setup) => {
            const expected = await alone(programs);
            for (const overlap of [true, false]) {
              const found = await together(programs, setup, overlap);
              for (const [i, { abortAfter }] of programs.entries()) {
                if (abortAfter === null) {
                  expect(found[i]).toEqual(expected[i]);
                  if (expected[i].finishReason?.type === "stop") seen.stopped++;
                } else {
                  expect(found[i].ids).toEqual(expected[i].ids.slice(0, found[i].ids.length));
                  expect(found[i].error).toBe(expected[i].error);
                }
              }
            }
          },
        ),
        { numRuns: 80 },
      );
    },
    240_000,
  );

  it("met retractions, hits, stops, aborts and masks on their way, and one queued two steps at once", () => {
    expect(seen.ahead).toBe(2);
    for (const key of ["retractions", "cached", "stopped", "late", "aborted"] as const)
      expect(seen[key], key).toBeGreaterThan(20);
    // Eight masks are all there are: each is uploaded once per run.
    expect(seen.uploads).toBeLessThan(8 * 320);
  });
});

describe("the overlapped loop", () => {
  const prompt = [1, 2, 3];

  it("wastes one row on an answer whose end it could not foresee, and none on one that reaches its limit", async () => {
    for (const [params, rows] of [
      [{ maxNewTokens: 5, ignoreEos: true }, 5],
      [{ maxNewTokens: 5, logitBias: { [EOS]: 100 } }, 2],
      [{ maxNewTokens: 5, minNewTokens: 2, logitBias: { [EOS]: 100 } }, 4],
    ] as const) {
      const runner = new FakeRunner();
      const loop = scheduler(runner);
      await answer(loop, { prompt, params: { temperature: 0, ...params } });
      await loop.close();
      expect(runner.steps).toHaveLength(rows);
    }
  });

  it("drops what a wasted row computed: nothing of it is cached, and no page is lost", async () => {
    const runner = new FakeRunner();
    const loop = scheduler(runner);
    await answer(loop, { prompt, params: { temperature: 0, maxNewTokens: 9, logitBias: { [EOS]: 100 } } });
    expect(loop.stats().pages).toMatchObject({ evictable: 3, inUse: 0, protected: 0 });
    await loop.close();
    expect(loop.kv.evictablePages).toBe(3);
  });

  it("goes on with the others when a step fails that a queued one builds on", async () => {
    const runner = new FakeRunner({
      onStep: (inputs, step) => {
        if (step === 3) throw new Error(`a kernel failed under ${inputs.kvLength.length} requests`);
      },
    });
    const loop = scheduler(runner);
    const both = [0, 1].map((seed) => answer(loop, { prompt, params: { maxNewTokens: 9, ignoreEos: true, seed } }));
    for (const { error } of await Promise.all(both)) expect(error).toMatch(/step failed: a kernel failed/);
    const after = await answer(loop, { prompt, params: { maxNewTokens: 9, ignoreEos: true, seed: 0 } });
    expect(after.error).toBeNull();
    expect(after.ids).toHaveLength(9);
    expect(loop.flushCache()).toBe(true);
    await loop.close();
  });

  it("closes at any moment without hanging, constrained or not", async () => {
    for (let turns = 0; turns < 12; turns++) {
      const loop = scheduler(new FakeRunner());
      const params = { maxNewTokens: 50, ignoreEos: true };
      const answers = [
        answer(loop, { prompt, params }),
        answer(loop, { prompt, params, constraint: () => new FakeConstraint() }),
      ];
      for (let i = 0; i < turns; i++) await turn();
      await loop.close();
      for (const { finishReason } of await Promise.all(answers)) expect(finishReason).toMatchObject({ type: "abort" });
    }
  });
});

describe("a loop that dies of an internal error", () => {
  it.each([true, false])(
    "answers every request with it, takes no more, and says so (overlapped: %s)",
    async (overlap) => {
      const runner = new FakeRunner({
        // A page is lost: the strict check after the step finds it.
        onStep: (_, step) => {
          if (step === 4) loop.kv.pool.allocate(1, []);
        },
      });
      const loop = scheduler(runner, { overlap, maxRunningRequests: 2 });
      const params = { maxNewTokens: 20, ignoreEos: true };
      const answers = [1, 2, 3, 4].map((id) => answer(loop, { prompt: [id], params }));
      expect((await loop.failed).message).toMatch(/internal error: KV pages leaked/);
      for (const { error } of await Promise.all(answers)) expect(error).toMatch(/KV pages leaked/);
      await expect(answer(loop, { prompt: [1], params })).rejects.toThrow(/KV pages leaked/);
      await loop.close();
    },
  );
});

describe("a mixed chunk", () => {
  it.each([true, false])(
    "takes the rows of running requests along, within the step's tokens (overlapped: %s)",
    async (overlap) => {
      const runner = new FakeRunner();
      const loop = scheduler(runner, { mixedChunk: true, stepTokens: 16, overlap });
      const running = [0, 1, 2].map((id) =>
        answer(loop, { prompt: [id, 1], params: { maxNewTokens: 20, ignoreEos: true } }),
      );
      for (let i = 0; i < 8; i++) await turn();
      const late = await answer(loop, {
        prompt: Array.from({ length: 50 }, (_, i) => 5 + (i % 9)),
        params: { maxNewTokens: 2 },
      });
      for (const { ids } of await Promise.all(running)) expect(ids).toHaveLength(20);
      const chunks = runner.steps.filter(({ sequences }) => sequences.some(({ tokens }) => tokens.length > 2));
      expect(chunks.map(({ sequences }) => sequences.map(({ tokens }) => tokens.length))).toEqual([
        [13, 1, 1, 1],
        [13, 1, 1, 1],
        [13, 1, 1, 1],
        [11, 1, 1, 1],
      ]);
      expect(late.error).toBeNull();
      expect(loop.stats().counters).toMatchObject({ prefillSteps: 5 });
      await loop.close();
    },
  );
});

describe("a constraint", () => {
  const prompt = [1, 2, 3];
  const params = { temperature: 0, maxNewTokens: 8, ignoreEos: true };

  /** A constraint that throws in the `at`-th call of `what`. */
  const broken = (what: "mask" | "accept", at: number) => (): ReqConstraint => {
    let calls = 0;
    const call = (name: string) => {
      if (name === what && calls++ === at) throw new Error(`no ${what} ${at}`);
    };
    return {
      mask: () => {
        call("mask");
        return null;
      },
      accept: () => call("accept"),
    };
  };

  it.each([true, false])("is asked once per token and told every token, in turns (overlapped: %s)", async (overlap) => {
    const calls: string[] = [];
    const inner = new FakeConstraint();
    const constraint: ReqConstraint = {
      mask: () => {
        calls.push("mask");
        return inner.mask();
      },
      accept: (id) => {
        calls.push(`accept ${id}`);
        inner.accept(id);
      },
    };
    const loop = scheduler(new FakeRunner(), { overlap });
    const { ids } = await answer(loop, { prompt, params, constraint: () => constraint });
    await loop.close();
    expect(calls).toEqual(ids.flatMap((id) => ["mask", `accept ${id}`]));
  });

  it.each([
    ["mask", 0],
    ["mask", 3],
    ["accept", 0],
    ["accept", 3],
  ] as const)("that fails in %s %i ends its request alone, with the reason, and nothing hangs", async (what, at) => {
    for (const overlap of [true, false]) {
      const loop = scheduler(new FakeRunner(), { overlap });
      const [wrong, right, free] = await Promise.all([
        answer(loop, { prompt, params, constraint: broken(what, at) }),
        answer(loop, { prompt, params, constraint: () => new FakeConstraint() }),
        answer(loop, { prompt, params }),
      ]);
      expect(wrong.error).toMatch(new RegExp(`no ${what} ${at}$`));
      expect([right.error, right.ids.length, free.error, free.ids.length]).toEqual([null, 8, null, 8]);
      expect(loop.flushCache()).toBe(true);
      await loop.close();
    }
  });

  it("uploads a mask once, however many steps and requests use it", async () => {
    const runner = new FakeRunner();
    const loop = scheduler(runner);
    const mask = new Uint32Array(3).fill(0xffffffff);
    const constraint = (): ReqConstraint => ({ mask: () => mask, accept: () => {} });
    await Promise.all([1, 2, 3].map(() => answer(loop, { prompt, params, constraint })));
    await loop.close();
    expect(runner.counts.setMask).toBe(1);
    expect(runner.counts.supplyMasks).toBeGreaterThan(7);
  });
});
