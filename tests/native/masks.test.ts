import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Opcode } from "../../src/graph/instructions.js";
import {
  isStepRowsError,
  type NativePlan,
  type NativeRuntime,
  type StepInputs,
  type StepOutputs,
} from "../../src/native/addon.js";
import { addon, f, kvPool, noise, PlanWriter, runtime, step, table } from "./support.js";

const VOCAB = 40;
const TICKET = 7;
let rt: NativeRuntime;
let plan: NativePlan;

/** Logits of token t are row t of a table. */
function logitsPlan(of: NativeRuntime, maxRows: number): NativePlan {
  const p = new PlanWriter(16, maxRows);
  const x = p.buffer(VOCAB);
  p.op(Opcode.Embed, x, p.weight(table(VOCAB, VOCAB, noise(VOCAB * VOCAB, 5))), f(1)).head();
  p.logits = p.buffer(VOCAB, "rows");
  p.op(Opcode.TakeRows, p.logits, x);
  return p.create(of, VOCAB, kvPool());
}

beforeAll(() => {
  rt = runtime();
});
afterAll(() => addon.closeRuntime(rt));
beforeEach(() => {
  plan = logitsPlan(rt, 4);
});
afterEach(() => addon.closePlan(plan));

/** Allows `ids` only. */
function mask(...ids: number[]): Uint32Array {
  const words = new Uint32Array(Math.ceil(VOCAB / 32));
  for (const id of ids) words[id >> 5] |= 1 << (id & 31);
  return words;
}

/** Rows that sample after tokens 1, 2, 3...; `masks` one per row. */
function inputs(masks: number[], ticket = TICKET): StepInputs {
  const tokens = masks.map((_, i) => i + 1);
  return step([{ tokens }], masks.map((m, token) => ({ token, mask: m })), { ticket }); // biome-ignore format: one call
}

const ids = async (run: Promise<StepOutputs>) => Array.from((await run).ids);

describe("late masks", () => {
  test.each(["runPlan", "runPlanByOp"] as const)("%s samples under the masks that are supplied later", async (run) => {
    addon.setMask(plan, 0, mask(11));
    addon.setMask(plan, 3, mask(39));
    const free = (await addon.runPlan(plan, inputs([-1], 0))).ids[0];
    const pending = addon[run](plan, inputs([-2, -1, 0, -2, -2, -2]));
    expect(addon.supplyMasks(plan, TICKET, Int32Array.of(-1, 3, 0, 3))).toBe(true);
    const { ids: found } = await pending;
    expect([found[0], found[2], found[3], found[4], found[5]]).toEqual([free, 11, 39, 11, 39]);
  });

  test("a step waits for them, and so does the next one; how long is reported", async () => {
    addon.setMask(plan, 0, mask(11));
    const settled: number[] = [];
    const first = addon.runPlan(plan, inputs([-2])).finally(() => settled.push(1));
    const second = addon.runPlan(plan, inputs([-1], 0)).finally(() => settled.push(2));
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(settled).toEqual([]);
    addon.supplyMasks(plan, TICKET, Int32Array.of(0));
    const out = await first;
    expect(out.ids[0]).toBe(11);
    expect(out.maskWaitNs).toBeGreaterThan(0);
    expect(out.endNs - out.startNs).toBeGreaterThanOrEqual(out.maskWaitNs);
    expect((await second).maskWaitNs).toBe(0);
    expect(settled).toEqual([1, 2]);
  });

  test("may be supplied before the step begins, and steps are told apart by their tickets", async () => {
    for (let i = 0; i < 8; i++) addon.setMask(plan, i, mask(30 + i));
    const runs = Array.from({ length: 8 }, (_, i) => addon.runPlan(plan, inputs([-2], i + 1)));
    for (const i of [7, 2, 5, 0, 1, 6, 4, 3]) expect(addon.supplyMasks(plan, i + 1, Int32Array.of(i))).toBe(true);
    expect((await Promise.all(runs.map(ids))).flat()).toEqual([30, 31, 32, 33, 34, 35, 36, 37]);
  });

  test("an entry that is overwritten or emptied leaves submitted steps their mask", async () => {
    addon.setMask(plan, 0, mask(5));
    const early = addon.runPlan(plan, inputs([0, -2]));
    const late = addon.runPlan(plan, inputs([-2], 8));
    addon.setMask(plan, 0, mask(6));
    addon.supplyMasks(plan, TICKET, Int32Array.of(0));
    addon.setMask(plan, 0, mask(8));
    addon.supplyMasks(plan, 8, Int32Array.of(0));
    addon.setMask(plan, 0, null);
    expect(await ids(early)).toEqual([5, 6]);
    expect(await ids(late)).toEqual([8]);
    expect(() => addon.runPlan(plan, inputs([0]))).toThrow("names entry 0 of the mask table, which is empty");
  });

  test("one that could not be made fails its row alone", async () => {
    addon.setMask(plan, 0, mask(5));
    const error = addon.runPlan(plan, inputs([-2, -1, -2])).catch((e) => e);
    addon.supplyMasks(plan, TICKET, Int32Array.of(-2, 0));
    const failed = await error;
    expect(isStepRowsError(failed)).toBe(true);
    expect([...failed.rows]).toEqual([0]);
    expect(failed.reasons).toEqual(["the mask of its next token could not be made"]);
    expect(failed.outputs.ids[2]).toBe(5);
  });

  test("a wrong supply is refused, changes nothing, and the right one is still taken", async () => {
    addon.setMask(plan, 0, mask(5));
    const pending = addon.runPlan(plan, inputs([-2, -2]));
    const supply = (...masks: number[]) => addon.supplyMasks(plan, TICKET, Int32Array.from(masks));
    expect(() => supply(0)).toThrow("masks must have 2 entries (one per late row), got 1");
    expect(() => supply(0, 1)).toThrow("masks[1] names entry 1 of the mask table, which is empty");
    expect(() => supply(-3, 0)).toThrow("masks[0] must be an integer from -2 to 65535, got -3");
    expect(() => addon.supplyMasks(plan, 0, Int32Array.of(0, 0))).toThrow("ticket must be an integer from 1");
    expect(() => addon.runPlan(plan, inputs([-2]))).toThrow("the ticket of a step that waits");
    expect(addon.supplyMasks(plan, 99, Int32Array.of(0, 0))).toBe(false);
    expect(supply(0, 0)).toBe(true);
    expect(supply(0, 0)).toBe(false);
    expect(await ids(pending)).toEqual([5, 5]);
  });

  test("a mask of another width, and a step that failed before it needed one, are told", async () => {
    expect(() => addon.setMask(plan, 0, new Uint32Array(3))).toThrow("mask must have 2 entries");
    expect(() => addon.setMask(plan, 65536, mask(1))).toThrow("index must be an integer from 0 to 65535");
    const unwritten = { ...inputs([-2]), tokens: Int32Array.of(-5) };
    await expect(addon.runPlan(plan, unwritten)).rejects.toThrow(
      "token-pool slot 4, which no earlier step has written",
    );
    expect(addon.supplyMasks(plan, TICKET, Int32Array.of(-1))).toBe(false);
    expect(await ids(addon.runPlan(plan, inputs([-1], 0)))).toHaveLength(1);
  });

  test("calls that block are refused while a step waits, and work again after it", async () => {
    const pending = addon.runPlan(plan, inputs([-2]));
    expect(() => addon.readBuffer(plan, 0)).toThrow("readBuffer: a queued step waits for its masks; supply them first");
    addon.supplyMasks(plan, TICKET, Int32Array.of(-1));
    await pending;
    expect(addon.readBuffer(plan, 0)).toHaveLength(VOCAB);
  });

  test("closing the plan ends the wait with an error and the steps behind go on", async () => {
    const other = logitsPlan(rt, 4);
    const pending = addon.runPlan(other, inputs([-2]));
    const behind = addon.runPlan(plan, inputs([-1], 0));
    addon.closePlan(other);
    await expect(pending).rejects.toThrow("the plan was closed before the step's masks were supplied");
    expect(await ids(behind)).toHaveLength(1);
    expect(addon.readBuffer(plan, 0)).toHaveLength(VOCAB);
  });

  test("closing the runtime ends the wait of the step under way and rejects those behind it", async () => {
    const mine = runtime();
    const other = logitsPlan(mine, 4);
    const outcomes = Promise.allSettled([1, 2].map((ticket) => addon.runPlan(other, inputs([-2], ticket))));
    await new Promise((resolve) => setTimeout(resolve, 20));
    addon.closeRuntime(mine);
    expect((await outcomes).map((o) => (o as PromiseRejectedResult).reason.message)).toEqual([
      "runPlan: the runtime was closed while the step waited for its masks",
      "runPlan: the runtime was closed before it ran",
    ]);
    expect(addon.supplyMasks(other, 2, Int32Array.of(-1))).toBe(false);
  });
});

describe("a token that only the token pool knows", () => {
  test.each([
    ["frequency", { frequency: 1.5 }],
    ["presence", { presence: 3 }],
    ["repetition", { repetition: 4 }],
    ["all three", { frequency: 1, presence: 1, repetition: 1.3 }],
  ])("counts as seen once more for the %s penalty", async (_name, penalties) => {
    for (let first = 0; first < 16; first++) {
      const one = await addon.runPlan(plan, step([{ tokens: [first] }], [{ token: 0, slot: 2 }]));
      const id = one.ids[0];
      for (const listed of [[[id, 2]], [[first, 0]], []] as [number, number][][]) {
        const row = { token: 0, ...penalties, temperature: 1, seed: 3n, top: 0 };
        const more = listed.some(([seen]) => seen === id)
          ? listed.map(([seen, count]): [number, number] => [seen, seen === id ? count + 1 : count])
          : [...listed, [id, 1] as [number, number]];
        const [known, pooled] = await Promise.all([
          addon.runPlan(plan, step([{ tokens: [id] }], Array.from({ length: 9 }, (_, draw) => ({ ...row, draw, seen: more })))),
          addon.runPlan(plan, step([{ tokens: [-3] }], Array.from({ length: 9 }, (_, draw) => ({ ...row, draw, seen: listed })))),
        ]); // biome-ignore format: two alike
        expect([...pooled.ids]).toEqual([...known.ids]);
        expect(pooled.logprobs).toEqual(known.logprobs);
      }
    }
  });
});
