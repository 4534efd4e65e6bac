import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Opcode } from "../../src/graph/instructions.js";
import type { NativePlan, NativeRuntime, StepInputs } from "../../src/native/addon.js";
import { naiveModel, shape, type TinyModel, tinyPlan } from "./model.js";
import { addon, bits, distance, f, kvPool, noise, PlanWriter, runtime, step, table } from "./support.js";

const tiers = addon
  .tiers()
  .filter((t) => t.supported)
  .map((t) => t.name);
const prompt = (length: number, seed: number) =>
  Array.from(noise(length, seed), (x) => Math.floor(Math.abs(x) * shape.vocab));

describe.each(tiers)("a tiny transformer on tier %s", (tier) => {
  let rt: NativeRuntime;
  let model: TinyModel;
  beforeAll(async () => {
    rt = runtime({ tier });
    model = await tinyPlan(rt);
  });
  afterAll(() => addon.closeRuntime(rt));

  test("gives the logits and hidden states of plain arithmetic for every token of a prompt", async () => {
    const tokens = prompt(23, 1);
    const expected = naiveModel(tokens);
    const rows = tokens.map((_, token) => ({ token }));
    const out = await addon.runPlan(model.plan, step([{ tokens }], rows, { logits: true, hidden: true }));
    expect(distance(out.logits!, expected.logits.flat())).toBeLessThan(2e-5);
    expect(distance(out.hidden!, expected.hidden.flat())).toBeLessThan(2e-5);
    expect(Array.from(out.ids)).toEqual(expected.logits.map((row) => row.indexOf(Math.max(...row))));
  });

  test("a sequence fed in pieces, alone or beside others, gives the bits of one prefill", async () => {
    const [a, b] = [prompt(21, 2), prompt(13, 3)];
    const [pagesA, pagesB] = [
      [7, 3, 12, 1, 9, 30],
      [20, 5, 6, 8],
    ];
    const whole = await addon.runPlan(
      model.plan,
      step([{ tokens: a, pages: pagesA }], [{ token: 20 }], { logits: true }),
    );
    const other = await addon.runPlan(
      model.plan,
      step([{ tokens: b, pages: pagesB }], [{ token: 12 }], { logits: true }),
    );
    const pages2 = [40, 41, 42, 43, 44, 45];
    const pages3 = [50, 51, 52, 53];
    await addon.runPlan(model.plan, step([{ tokens: a.slice(0, 5), pages: pages2 }]));
    await addon.runPlan(
      model.plan,
      step([
        { tokens: b.slice(0, 12), pages: pages3 },
        { tokens: a.slice(5, 20), start: 5, pages: pages2 },
      ]),
    );
    const last = await addon.runPlan(
      model.plan,
      step(
        [
          { tokens: [a[20]], start: 20, pages: pages2 },
          { tokens: [b[12]], start: 12, pages: pages3 },
        ],
        [{ token: 0 }, { token: 1 }],
        { logits: true },
      ),
    );
    expect(bits(last.logits!.slice(0, shape.vocab))).toEqual(bits(whole.logits!));
    expect(bits(last.logits!.slice(shape.vocab))).toEqual(bits(other.logits!));
  });

  test("more rows than a block of the head are run in blocks, with the bits of one row at a time", async () => {
    const tokens = prompt(11, 4);
    const rows = tokens.map((_, token) => ({ token: tokens.length - 1 - token }));
    const all = await addon.runPlan(model.plan, step([{ tokens }], rows, { logits: true, hidden: true }));
    expect(all.ids).toHaveLength(11);
    for (const [i, row] of rows.entries()) {
      const one = await addon.runPlan(model.plan, step([{ tokens }], [row], { logits: true, hidden: true }));
      expect(bits(one.logits!)).toEqual(bits(all.logits!.slice(i * shape.vocab, (i + 1) * shape.vocab)));
      expect(bits(one.hidden!)).toEqual(bits(all.hidden!.slice(i * shape.hidden, (i + 1) * shape.hidden)));
      expect(one.ids[0]).toBe(all.ids[i]);
    }
  });

  test("op by op gives identical bits", async () => {
    const inputs = step(
      [{ tokens: prompt(9, 5) }, { tokens: prompt(17, 6) }],
      [
        { token: 8, temperature: 0.8, seed: 5n },
        { token: 25, top: 3 },
      ],
      {
        logits: true,
        hidden: true,
      },
    );
    const whole = await addon.runPlan(model.plan, inputs);
    const single = await addon.runPlanByOp(model.plan, inputs);
    for (const key of ["ids", "topIds", "logprobs", "topLogprobs", "logits", "hidden"] as const)
      expect(Buffer.from(single[key]!.buffer)).toEqual(Buffer.from(whole[key]!.buffer));
  });

  test("one thread and three give identical bits", async () => {
    const inputs = step(
      [{ tokens: prompt(40, 7) }, { tokens: prompt(20, 8) }],
      [{ token: 39 }, { token: 59, temperature: 1, seed: 9n, draw: 4, topP: 0.9 }],
      { logits: true },
    );
    const expected = await addon.runPlan(model.plan, inputs);
    for (const threads of [1, 3]) {
      const other = runtime({ tier, threads });
      const { plan } = await tinyPlan(other);
      const out = await addon.runPlan(plan, inputs);
      expect(bits(out.logits!)).toEqual(bits(expected.logits!));
      expect(out.ids).toEqual(expected.ids);
      addon.closeRuntime(other);
    }
  });

  test("a sliding window looks at the last positions only", async () => {
    const tokens = prompt(15, 9);
    const { plan } = await tinyPlan(rt, { window: 6 });
    const out = await addon.runPlan(plan, step([{ tokens }], [{ token: 14 }], { logits: true }));
    expect(distance(out.logits!, naiveModel(tokens, 6).logits[14])).toBeLessThan(2e-5);
  });

  test("half precision pages stay within their rounding", async () => {
    const tokens = prompt(18, 10);
    const { plan } = await tinyPlan(rt, { dtype: "f16" });
    const out = await addon.runPlan(plan, step([{ tokens }], [{ token: 17 }], { logits: true }));
    const error = distance(out.logits!, naiveModel(tokens).logits[17]);
    expect(error).toBeLessThan(5e-3);
    expect(error).toBeGreaterThan(0);
  });
});

describe("steps", () => {
  let rt: NativeRuntime;
  let model: TinyModel;
  beforeAll(async () => {
    rt = runtime();
    model = await tinyPlan(rt);
  });
  afterAll(() => addon.closeRuntime(rt));

  test("a step queued before the one that samples its token reads it from the pool", async () => {
    const tokens = prompt(6, 11);
    const pages = [0, 1, 2, 3];
    const expected: number[] = [];
    let known = tokens;
    for (let i = 0; i < 8; i++) {
      const { logits } = naiveModel(known);
      const last = logits[logits.length - 1];
      expected.push(last.indexOf(Math.max(...last)));
      known = [...known, expected[i]];
    }
    const promises = [addon.runPlan(model.plan, step([{ tokens, pages }], [{ token: 5, slot: 1000 }]))];
    for (let i = 1; i < 8; i++)
      promises.push(
        addon.runPlan(
          model.plan,
          step([{ tokens: [-1 - (999 + i)], start: 5 + i, pages }], [{ token: 0, slot: 1000 + i }]),
        ),
      );
    const out = await Promise.all(promises);
    expect(out.map((o) => o.ids[0])).toEqual(expected);
    for (let i = 1; i < 8; i++) expect(out[i].startNs).toBeGreaterThanOrEqual(out[i - 1].endNs);
  });

  test("a slot that no step has written is an error that names it", async () => {
    await expect(addon.runPlan(model.plan, step([{ tokens: [3, -7] }]))).rejects.toThrow(
      "inputs.tokens[1] reads token-pool slot 6, which no earlier step has written",
    );
  });

  test("no tokens, no sequences and no rows are a step of nothing", async () => {
    const out = await addon.runPlan(model.plan, step([], [], { logits: true }));
    expect([out.ids.length, out.logits!.length, out.topIds.length]).toEqual([0, 0, 0]);
  });

  test("the arrays of a step may be overwritten as soon as it is submitted", async () => {
    const inputs = step([{ tokens: prompt(12, 12) }], [{ token: 11 }], { logits: true });
    const expected = await addon.runPlan(model.plan, inputs);
    const pending = addon.runPlan(model.plan, inputs);
    for (const value of Object.values(inputs)) if (ArrayBuffer.isView(value)) (value as Int32Array).fill(0);
    expect(bits((await pending).logits!)).toEqual(bits(expected.logits!));
  });

  test("a row with a target reports that id and its logprob without sampling", async () => {
    const tokens = prompt(5, 13);
    const { logits } = naiveModel(tokens);
    const out = await addon.runPlan(
      model.plan,
      step(
        [{ tokens }],
        tokens.slice(1).map((id, token) => ({ token, target: id, top: 0 })),
      ),
    );
    expect(Array.from(out.ids)).toEqual(tokens.slice(1));
    const expected = tokens
      .slice(1)
      .map((id, t) => logits[t][id] - Math.log(logits[t].reduce((sum, x) => sum + Math.exp(x), 0)));
    expect(distance(out.logprobs, expected)).toBeLessThan(1e-5);
  });

  test("readBuffer shows what the last step left, one row per token", async () => {
    await addon.runPlan(model.plan, step([{ tokens: [1, 2, 3] }], [{ token: 2 }]));
    expect(addon.readBuffer(model.plan, model.residual)).toHaveLength(3 * shape.hidden);
  });

  test("times are those of process.hrtime", async () => {
    const before = Number(process.hrtime.bigint());
    const out = await addon.runPlan(model.plan, step([{ tokens: [1] }]));
    const after = Number(process.hrtime.bigint());
    expect(out.startNs).toBeGreaterThanOrEqual(before);
    expect(out.endNs).toBeGreaterThanOrEqual(out.startNs);
    expect(out.endNs).toBeLessThanOrEqual(after);
  });

  test("NaN in the logits is an error that names the row, and the other rows keep their ids", async () => {
    const values = noise(8 * 4, 14);
    values[5] = Number.NaN;
    const p = new PlanWriter(4, 2);
    const x = p.buffer(4);
    p.op(Opcode.Embed, x, p.weight(table(8, 4, values)), f(1)).head();
    p.logits = p.buffer(4, "rows");
    p.op(Opcode.TakeRows, p.logits, x);
    const plan = p.create(rt, 4);
    const inputs = step([{ tokens: [0, 1, 2] }], [{ token: 0 }, { token: 1, slot: 7 }, { token: 2 }]);
    const error = await addon.runPlan(plan, inputs).catch((e) => e);
    expect(error).toBeInstanceOf(Error);
    expect(error.message).toContain("row 1: the model produced NaN");
    expect(Array.from(error.rows)).toEqual([1]);
    expect(error.outputs.ids[1]).toBe(-1);
    const clean = await addon.runPlan(plan, step([{ tokens: [0, 2] }], [{ token: 0 }, { token: 1 }]));
    expect([error.outputs.ids[0], error.outputs.ids[2]]).toEqual(Array.from(clean.ids));
    await expect(addon.runPlanByOp(plan, inputs)).rejects.toThrow(
      "instruction 0 (Embed) produced NaN at row 1, column 1",
    );
  });

  test("a plan without head runs and samples nothing", async () => {
    const p = new PlanWriter(4, 2);
    const x = p.buffer(4);
    p.op(Opcode.Embed, x, p.weight(table(8, 4, noise(32, 15))), f(2)).head();
    p.hidden = p.buffer(4, "rows");
    p.op(Opcode.TakeRows, p.hidden, x);
    const plan = p.create(rt, 0);
    const out = await addon.runPlan(plan, step([{ tokens: [3, 1] }], [{ token: 1 }], { hidden: true }));
    expect(Array.from(out.ids)).toEqual([-1]);
    expect(Array.from(out.hidden!)).toEqual(Array.from(noise(32, 15).slice(4, 8), (v) => Math.fround(v * 2)));
  });

  test("the pool counts the chunks it was handed, the same for any number of threads", async () => {
    const counts: { runs: number; chunks: number }[] = [];
    for (const threads of [1, 3]) {
      const other = runtime({ threads });
      const { plan } = await tinyPlan(other);
      const before = addon.poolStats(other);
      await addon.runPlan(plan, step([{ tokens: prompt(60, 16) }], [{ token: 59 }]));
      const after = addon.poolStats(other);
      counts.push({ runs: after.runs - before.runs, chunks: after.chunks - before.chunks });
      addon.closeRuntime(other);
    }
    expect(counts[0].runs).toBeGreaterThan(0);
    expect(counts[0].chunks).toBeGreaterThan(counts[0].runs);
    expect(counts[1]).toEqual(counts[0]);
  });
});

describe("runPlan refuses", () => {
  let rt: NativeRuntime;
  let plan: NativePlan;
  beforeAll(async () => {
    rt = runtime();
    ({ plan } = await tinyPlan(rt));
  });
  afterAll(() => addon.closeRuntime(rt));

  const good = () => step([{ tokens: [1, 2, 3] }, { tokens: [4, 5], start: 5 }], [{ token: 2 }, { token: 4 }]);
  const cases: [string, Partial<StepInputs>, string][] = [
    [
      "an id beyond the table",
      { tokens: Int32Array.of(1, 2, 56, 4, 5) },
      "inputs.tokens[2] must be an integer from -65536 to 55, got 56",
    ],
    [
      "a slot beyond the token pool",
      { tokens: Int32Array.of(1, 2, -65537, 4, 5) },
      "inputs.tokens[2] must be an integer from -65536 to 55, got -65537",
    ],
    [
      "a wrong position",
      { positions: Int32Array.of(0, 1, 3, 5, 6) },
      "inputs.positions[2] must be 2 (token 2 of 3 of sequence 0, whose kvLength is 3), got 3",
    ],
    [
      "too few positions",
      { positions: Int32Array.of(0, 1) },
      "inputs.positions must have 5 entries (one per token), got 2",
    ],
    [
      "sequences that do not cover the tokens",
      { seqStart: Int32Array.of(0, 3, 4) },
      "inputs.seqStart must end with 5, the length of inputs.tokens, got 4",
    ],
    [
      "sequences that run backwards",
      { seqStart: Int32Array.of(0, 6, 5) },
      "inputs.seqStart[2] must be at least the entry before it, 6, got 5",
    ],
    [
      "a KV length below its tokens",
      { kvLength: Int32Array.of(2, 7) },
      "inputs.kvLength[0] must be an integer from 3 to 2147483647, got 2",
    ],
    [
      "too few pages",
      { kvLength: Int32Array.of(3, 9), positions: Int32Array.of(0, 1, 2, 7, 8) },
      "inputs.pageTable holds 2 pages for sequence 1, but its kvLength 9 takes 3",
    ],
    [
      "a page beyond the pool",
      { pageTable: Int32Array.of(0, 1, 64) },
      "inputs.pageTable[2] must be an integer from 0 to 63, got 64",
    ],
    [
      "pages beyond the table",
      { pageStart: Int32Array.of(0, 1, 4) },
      "inputs.pageStart must end at or before 3, the length of inputs.pageTable, got 4",
    ],
    [
      "a row of no token",
      { rowToken: Int32Array.of(2, 5) },
      "inputs.rowToken[1] must be an integer from 0 to 4, got 5",
    ],
    [
      "a target beyond the vocabulary",
      { rowTarget: Int32Array.of(-1, 50) },
      "inputs.rowTarget[1] must be an integer from -1 to 49, got 50",
    ],
    [
      "a slot beyond the pool",
      { rowSlot: Int32Array.of(65536, -1) },
      "inputs.rowSlot[0] must be an integer from -1 to 65535, got 65536",
    ],
    [
      "an infinite temperature",
      { temperature: Float32Array.of(0, Number.POSITIVE_INFINITY) },
      "inputs.temperature[1] must be a finite number >= 0, got Infinity",
    ],
    [
      "a temperature that is not a number",
      { temperature: Float32Array.of(Number.NaN, 1) },
      "inputs.temperature[0] must be a finite number >= 0, got NaN",
    ],
    ["topP 0", { topP: Float32Array.of(1, 0) }, "inputs.topP[1] must be a number in (0, 1], got 0"],
    ["minP above 1", { minP: Float32Array.of(1.5, 0) }, "inputs.minP[0] must be a number in [0, 1], got 1.5"],
    [
      "a repetition penalty of 0",
      { penalties: Float32Array.of(0, 0, 1, 0, 0, 0) },
      "inputs.penalties[5] must be a finite repetition penalty > 0, got 0",
    ],
    [
      "a seen id beyond the vocabulary",
      { seenStart: Int32Array.of(0, 1, 1), seenIds: Int32Array.of(50), seenCounts: Int32Array.of(1) },
      "inputs.seenIds[0] must be an integer from 0 to 49, got 50",
    ],
    [
      "a count without its id",
      { seenCounts: Int32Array.of(1) },
      "inputs.seenCounts must have 0 entries (one per entry of seenIds), got 1",
    ],
    [
      "a bias of plus infinity",
      {
        biasStart: Int32Array.of(0, 1, 1),
        biasIds: Int32Array.of(5),
        biasValues: Float32Array.of(Number.POSITIVE_INFINITY),
      },
      "inputs.biasValues[0] must be a finite number or -Infinity, got Infinity",
    ],
    [
      "a mask that is not there",
      { maskIndex: Int32Array.of(0, -1) },
      "inputs.maskIndex[0] names entry 0 of the mask table, which is empty",
    ],
    [
      "a mask that no table holds",
      { maskIndex: Int32Array.of(-1, 65536) },
      "inputs.maskIndex[1] must be an integer from -2 to 65535, got 65536",
    ],
    [
      "a late mask without a ticket",
      { maskIndex: Int32Array.of(-1, -2) },
      "inputs.maskTicket must not be 0: row 1 has a late mask",
    ],
    ["half a ticket", { maskTicket: 0.5 }, "inputs.maskTicket must be an integer from 0 to 9007199254740991, got 0.5"],
    [
      "more logprobs than ids",
      { topLogprobs: Int32Array.of(51, -1) },
      "inputs.topLogprobs[0] must be an integer from -1 to 50, got 51",
    ],
    [
      "a wanted id beyond the vocabulary",
      { wantedStart: Int32Array.of(0, 0, 1), wantedIds: Int32Array.of(-1) },
      "inputs.wantedIds[0] must be an integer from 0 to 49, got -1",
    ],
    ["half a seed", { seed: new Uint32Array(2) }, "inputs.seed must have 4 entries (two per row), got 2"],
    [
      "an array of another type",
      { tokens: new Float32Array(5) as unknown as Int32Array },
      "inputs.tokens must be an Int32Array, got a Float32Array",
    ],
    [
      "a missing array",
      { draw: undefined as unknown as Int32Array },
      "inputs.draw must be an Int32Array, got undefined",
    ],
    [
      "a flag that is no boolean",
      { returnLogits: 1 as unknown as boolean },
      "inputs.returnLogits must be true or false, got 1",
    ],
  ];
  test.each(cases)("%s", (_, change, message) => {
    expect(() => addon.runPlan(plan, { ...good(), ...change })).toThrow(message);
    expect(() => addon.runPlanByOp(plan, { ...good(), ...change })).toThrow(message);
  });

  test("more tokens than the plan takes", () => {
    expect(() => addon.runPlan(plan, step([{ tokens: new Array(65).fill(1) }]))).toThrow(
      "inputs.tokens has 65 entries, but the plan takes at most 64 per step",
    );
  });

  test("nothing of the inputs that all cases above are made from", async () => {
    expect((await addon.runPlan(plan, good())).ids).toHaveLength(2);
  });

  test("logits and hidden states that the plan does not have", () => {
    const p = new PlanWriter(4, 2);
    p.op(Opcode.Embed, p.buffer(4), p.weight(table(8, 4, noise(32, 15))), f(2));
    const bare = p.create(rt, 0, kvPool());
    expect(() => addon.runPlan(bare, step([], [], { logits: true }))).toThrow(
      "inputs.returnLogits must be false: the plan has no logits",
    );
    expect(() => addon.runPlan(bare, step([], [], { hidden: true }))).toThrow(
      "inputs.returnHidden must be false: the plan names no hidden buffer",
    );
  });
});
